"""Each schedule against torch's scheduler of that name, which keeps a state where ours is a function of the step."""

import math
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler

from phalanx.config.training import OneCycle, Optim, Restarts, Schedule, Swa
from phalanx.engine.schedule import check_schedule, rate, set_rate
from phalanx.errors import ConfigError


def torchs(steps, make, name="SGD", lr=1e-3):
    """Rates and momenta of a scheduler of torch, step by step."""
    options = {"momentum": 0.9} if name == "SGD" else {}
    optimizer = getattr(torch.optim, name)([nn.Parameter(torch.zeros(1))], lr=lr, **options)
    scheduler, found = make(optimizer), []
    for _ in range(steps):
        group = optimizer.param_groups[0]
        found.append((group["lr"], group["betas"][0] if "betas" in group else group["momentum"]))
        optimizer.step()
        scheduler.step()
    return found


def rates(optim, steps, **options):
    return [rate(optim, step, steps, **options) for step in range(steps)]


@given(st.integers(1, 500), st.floats(0, 1), st.floats(0, 1), st.sampled_from(["cosine", "linear", "poly", "constant"]))
def test_rate_rises_in_a_line_then_falls_to_the_floor(steps, warmup, floor, schedule):
    found = rates(Optim(lr=2.0, warmup=warmup, min_lr_factor=floor, schedule=schedule), steps)
    warm = round(warmup * steps)
    assert found[:warm] == pytest.approx([2.0 * (step + 1) / warm for step in range(warm)])
    assert all(a >= b for a, b in zip(found[warm:], found[warm + 1 :], strict=False))
    assert all(2.0 * floor - 1e-12 <= r <= 2.0 for r in found[warm:])


def test_rate_at_known_places():
    optim = Optim(lr=1.0, warmup=0.0, min_lr_factor=0.2)
    assert rate(optim, 0, 10) == 1.0
    assert rate(optim, 5, 10) == pytest.approx(0.6)
    assert rate(optim, 9, 10) == pytest.approx(0.2 + 0.8 * (1 + math.cos(0.9 * math.pi)) / 2)
    assert rate(Optim(lr=1.0, warmup=1.0), 9, 10) == 1.0


@pytest.mark.parametrize(
    ("schedule", "more", "make"),
    [
        ("cosine", {"min_lr_factor": 0.01}, lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=90, eta_min=1e-5)),
        ("linear", {"min_lr_factor": 0.01}, lambda o: lr_scheduler.LinearLR(o, 1.0, 0.01, total_iters=90)),
        ("poly", {}, lambda o: lr_scheduler.PolynomialLR(o, total_iters=90, power=0.9)),
        ("poly", {"power": 2.0}, lambda o: lr_scheduler.PolynomialLR(o, total_iters=90, power=2.0)),
        ("constant", {}, lambda o: lr_scheduler.ConstantLR(o, factor=1.0)),
    ],
)
def test_after_the_warm_up_it_is_torchs(schedule, more, make):
    optim = Optim(lr=1e-3, warmup=0.1, schedule=schedule, **more)
    assert rates(optim, 100)[10:] == pytest.approx([lr for lr, _ in torchs(90, make)])


@pytest.mark.parametrize(("cycles", "growth", "steps"), [(3, 2, 70), (7, 1, 70), (1, 1, 10)])
def test_restarts_are_torchs_warm_restarts(cycles, growth, steps):
    optim = Optim(
        lr=1e-3,
        warmup=0,
        min_lr_factor=0.1,
        schedule="cosine_restarts",
        restarts=Restarts(cycles=cycles, growth=growth),
    )
    make = lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=10, T_mult=growth, eta_min=1e-4)  # noqa: E731
    assert rates(optim, steps) == pytest.approx([lr for lr, _ in torchs(steps, make)])


@given(st.integers(1, 6), st.floats(1, 3), st.floats(0.1, 1), st.integers(6, 300), st.floats(0, 1))
def test_each_cycle_is_a_cosine_with_a_warm_up_and_a_lower_peak(cycles, growth, decay, steps, warmup):
    restarts = Restarts(cycles=cycles, growth=growth, decay=decay)
    found = rates(Optim(lr=1.0, warmup=warmup, schedule="cosine_restarts", restarts=restarts), steps)
    expected, first = [], 0
    for cycle in range(cycles):
        end = round(steps * sum(growth**i for i in range(cycle + 1)) / sum(growth**i for i in range(cycles)))
        plain = Optim(lr=decay**cycle, warmup=warmup)
        expected += [rate(plain, step, end - first) for step in range(end - first)]
        first = end
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
@pytest.mark.parametrize(("warmup", "steps"), [(0.3, 100), (0.25, 37), (0.9, 50)])
def test_one_cycle_is_torchs_in_rate_and_momentum(name, warmup, steps):
    optim = Optim(lr=1e-3, warmup=warmup, min_lr_factor=4e-6, schedule="one_cycle")
    make = lambda o: lr_scheduler.OneCycleLR(o, max_lr=1e-3, total_steps=steps + 1, pct_start=warmup)  # noqa: E731
    # torch has an initial rate of 1/25 and a final one of 1/25e4, and needs a step more than it gives rates for
    expected = torchs(steps, make, name)
    given = {"momentum": 0.9} if name == "SGD" else {}
    optimizer = getattr(torch.optim, name)([{"params": [nn.Parameter(torch.zeros(1))], "scale": 1.0}], lr=1, **given)
    for step, (lr, momentum) in enumerate(expected):
        set_rate(optimizer, optim, step, steps + 1)
        group = optimizer.param_groups[0]
        assert group["lr"] == pytest.approx(lr)
        assert (group["betas"][0] if "betas" in group else group["momentum"]) == pytest.approx(momentum)


def test_one_cycle_can_leave_the_momentum_alone():
    optim = Optim(schedule="one_cycle", one_cycle=OneCycle(momentum=None))
    optimizer = torch.optim.AdamW([{"params": [nn.Parameter(torch.zeros(1))], "scale": 1.0}], betas=(0.7, 0.8))
    set_rate(optimizer, optim, 50, 100)
    assert optimizer.param_groups[0]["betas"] == (0.7, 0.8)


def test_a_plateaus_cuts_multiply_down_to_the_floor():
    optim = Optim(lr=1.0, warmup=0.5, min_lr_factor=0.005, schedule="plateau")
    assert [rate(optim, 7, 10, cuts) for cuts in range(4)] == pytest.approx([1, 0.1, 0.01, 0.005])
    assert rate(optim, 0, 10, 0) == pytest.approx(0.2)


def test_swa_holds_its_own_rate_from_its_start():
    optim = Optim(lr=1.0, warmup=0, swa=Swa(start=0.75, lr=0.3))
    plain = Optim(lr=1.0, warmup=0)
    assert rates(optim, 8) == [*rates(plain, 8)[:6], 0.3, 0.3]


@pytest.mark.parametrize("schedule", get_args(Schedule))
@pytest.mark.parametrize("steps", [4, 5, 37])
@pytest.mark.parametrize("warmup", [1e-9, 0.1, 1.0])
def test_no_schedule_leaves_the_range_however_short_training_is(schedule, steps, warmup):
    found = rates(Optim(lr=2.0, warmup=warmup, schedule=schedule), steps)
    assert all(0 <= r <= 2.0 for r in found)
    assert max(found) > 0


def test_what_cannot_be_followed_is_refused():
    weight = nn.Parameter(torch.zeros(1))
    restarts = Optim(schedule="cosine_restarts", restarts=Restarts(cycles=9))
    with pytest.raises(ConfigError, match=r"optim\.restarts\.cycles=9: training has 8 steps"):
        check_schedule(torch.optim.AdamW([weight]), restarts, 8)
    with pytest.raises(ConfigError, match=r"optim\.one_cycle\.momentum: adagrad has none; set it to null"):
        check_schedule(torch.optim.Adagrad([weight]), Optim(name="adagrad", schedule="one_cycle"), 8)
