"""torch.compile around the training step: names and continuation as without it, a missing compiler told before."""

import functools

import pytest
import torch
from safetensors.torch import load_file

from phalanx.engine.fit import fit
from phalanx.engine.freeze import freeze
from phalanx.engine.loop import Trainer
from phalanx.errors import ConfigError
from phalanx.models.encoder_stages import encoder_stages
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


def test_what_predicts_is_not_compiled(make, records, monkeypatch):
    """Inductor was wrong for norms in evaluation (pytorch 181696); validation and prediction do not meet it."""
    calls = []

    def backend(graph, inputs):
        calls.append(len(inputs))
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    config = make("compiled", model__compile=True)
    trainer = Trainer(config, config.runs, Segment(config, records[:2], records[2:4]))
    images = torch.zeros(2, 1, 64, 64, dtype=torch.uint8)
    trainer.network.train()(images)
    before = len(calls)
    assert before > 1
    for network in (trainer.network.eval(), trainer.average.network):
        network.predict(images)
    trainer.average.network(images)
    trainer.task.evaluate(trainer.average.network, "held_out", torch.device("cpu"), trainer.ranks)
    assert len(calls) == before


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_frozen_norms_compiled_for_real_are_those_of_the_eager_network(recipe, records, norm):
    """In evaluation mode within a network that trains: the logits and all gradients."""
    config = recipe("unet", model__norm=norm, optim__freeze="{stages:3}")
    task = Segment(config, records[:2], [])
    network = task.network.double().train()
    images = torch.stack([task.training_set[0, i][0] for i in range(2)])
    for _ in range(3):  # statistics other than those of a new norm
        network(images)
    freeze(network, config.optim.freeze, encoder_stages(network, config.data.size), 0)
    ends = []
    for compiled in (False, True):
        if compiled:
            network.compile()
        network.zero_grad()
        logits = network(images).logits
        logits.square().mean().backward()
        gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
        ends.append({"logits": logits.detach(), **gradients})
    assert not next(network.parameters()).requires_grad
    assert ends[0].keys() == ends[1].keys()
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-9, atol=1e-9 * float(value.abs().max()), msg=name)
