"""The learning rate and the parameter groups."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from phalanx.config import Optim
from phalanx.engine.optim import build_optimizer, rate, scales


@given(st.integers(1, 500), st.floats(0, 1), st.floats(0, 1))
def test_rate_rises_in_a_line_then_falls_to_the_floor(steps, warmup, floor):
    optim = Optim(lr=2.0, warmup=warmup, min_lr=floor)
    rates = [rate(optim, step, steps) for step in range(steps)]
    warm = round(warmup * steps)
    assert rates[:warm] == pytest.approx([2.0 * (step + 1) / warm for step in range(warm)])
    assert all(a >= b for a, b in zip(rates[warm:], rates[warm + 1 :], strict=False))
    assert all(2.0 * floor - 1e-12 <= r <= 2.0 for r in rates[warm:])


def test_rate_is_torchs_cosine_after_the_warm_up():
    optim = Optim(lr=1e-3, warmup=0.1, min_lr=0.01)
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1e-3)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=90, eta_min=1e-5)
    for step in range(10, 100):
        assert rate(optim, step, 100) == pytest.approx(cosine.get_last_lr()[0])
        optimizer.step()
        cosine.step()


def test_rate_at_known_places():
    optim = Optim(lr=1.0, warmup=0.0, min_lr=0.2)
    assert rate(optim, 0, 10) == 1.0
    assert rate(optim, 5, 10) == pytest.approx(0.6)
    assert rate(optim, 9, 10) == pytest.approx(0.2 + 0.8 * (1 + math.cos(0.9 * math.pi)) / 2)
    assert rate(Optim(lr=1.0, warmup=1.0), 9, 10) == 1.0


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_vectors_and_norms_get_no_decay(name):
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2))
    network[2].weight.requires_grad_(False)
    optimizer = build_optimizer(network, Optim(name=name, weight_decay=0.3))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    names = {name: decay.get(id(p)) for name, p in network.named_parameters()}
    assert names == {
        "0.weight": 0.3, "0.bias": 0.0, "1.weight": 0.0, "1.bias": 0.0,
        "2.weight": None, "2.bias": 0.0, "3.weight": 0.0, "3.bias": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_rates_fall_by_a_factor_a_stage_from_the_decoder_to_the_image(name):
    network = nn.ModuleDict({k: nn.Conv2d(1, 1, 1) for k in ("stem", "deep", "decoder")})
    stages = {"stem.weight": 1, "stem.bias": 1, "deep.weight": 2, "deep.bias": 2}
    optimizer = build_optimizer(network, Optim(name=name, layer_decay=0.5, weight_decay=0.3), stages)
    found = {id(p): (g["scale"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert {name: found[id(p)] for name, p in network.named_parameters()} == {
        "stem.weight": (0.25, 0.3), "stem.bias": (0.25, 0.0), "deep.weight": (0.5, 0.3), "deep.bias": (0.5, 0.0),
        "decoder.weight": (1.0, 0.3), "decoder.bias": (1.0, 0.0),
    }  # fmt: skip
    assert scales(optimizer) == [1.0, 0.5, 0.25]
    assert optimizer.param_groups[0]["scale"] == 1.0  # the rate that the log tells
