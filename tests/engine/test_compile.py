"""torch.compile around the training step: names and continuation as without it, a missing compiler told before."""

import functools

import pytest
import torch
from safetensors.torch import load_file

from phalanx.engine.fit import fit
from phalanx.errors import ConfigError
from phalanx.tasks.segment import Segment


@pytest.fixture
def make(recipe):
    def config(name, **changes):
        return recipe("fpn", epochs=1, **changes).model_copy(update={"name": name})

    return config


def weights(folder):
    return load_file(folder / "final" / "weights.safetensors")


def test_compiled_without_a_compiler_it_is_the_same_run_bit_for_bit(make, records, monkeypatch):
    """The back end that runs what was captured as it is, so that nothing but the capturing could differ."""
    plain = fit(make("plain"), 0, records, Segment)
    calls = []

    def backend(graph, inputs):
        calls.append(len(inputs))
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    folder = fit(make("compiled", model__compile=True, model__activation_checkpointing=True), 0, records, Segment)
    assert len(calls) > 1  # the trial, and the network
    found, expected = weights(folder), weights(plain)
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, found[key]) for key, value in expected.items())
    assert (folder / "oof.csv").read_bytes() == (plain / "oof.csv").read_bytes()


def test_a_compiler_that_is_missing_is_told_before_anything_is_written(make, records, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(torch, "compile", broken)
    config = make("compiled", model__compile=True)
    with pytest.raises(
        ConfigError, match=r"^model\.compile=true: torch cannot compile here .*No working C\+\+ compiler"
    ):
        fit(config, 0, records, Segment)
    assert not list(config.runs.rglob("*"))


@pytest.mark.slow
def test_compiled_for_real_it_learns_the_same_but_for_rounding(recipe, records):
    """By SGD: Adam's first steps are as long as the rate whatever the gradient, and rounding decides their sign.

    And without a point head, whose points a compiler draws in its own way.
    """
    config = recipe("unet", epochs=1, optim__name="sgd")
    start = Segment(config, records, []).network.state_dict()
    plain = fit(config.model_copy(update={"name": "plain"}), 0, records, Segment)
    compiled = config.model_copy(update={"name": "real", "model": config.model.model_copy(update={"compile": True})})
    found = weights(fit(compiled, 0, records, Segment))
    for key, value in weights(plain).items():
        assert (found[key] - value).abs().max() <= 0.01 * value.abs().max() + 1e-5, key
    assert max((found[key] - value).abs().max() for key, value in start.items()) > 1e-3
