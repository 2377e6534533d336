"""Reductions and stops by the monitored metric, against torch's scheduler and a rule written out."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from phalanx.config import Monitor, Optim, Plateau, validate_as
from phalanx.engine.monitor import check_held_out, inner_part, monitored, take_in
from phalanx.engine.schedule import rate
from phalanx.engine.state import State
from phalanx.errors import ConfigError
from phalanx.runtime.metric import Metric
from phalanx.scoring.score import DICE

VALUES = st.lists(st.integers(0, 12).map(lambda n: n / 20), min_size=1, max_size=40)


@given(VALUES, st.integers(0, 5), st.sampled_from([0.0, 0.06]))
def test_the_rate_is_cut_when_torch_cuts_it(values, patience, delta):
    plateau = Plateau(factor=0.5, patience=patience)
    optim = Optim(lr=1.0, warmup=0, schedule="plateau", plateau=plateau, monitor=Monitor(min_delta=delta))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.5, patience=patience, threshold=delta, threshold_mode="abs", eps=0
    )
    state = State()
    for epoch, dice in enumerate(values, 1):
        state.epoch = epoch
        caused = take_in(state, optim, DICE, dice)
        before = optimizer.param_groups[0]["lr"]
        scheduler.step(dice)
        assert rate(optim, 0, 1, state.lr_reductions) == optimizer.param_groups[0]["lr"]
        assert ("plateau" in caused) == (optimizer.param_groups[0]["lr"] < before)
        assert not state.stopped


@given(VALUES, st.integers(1, 5), st.sampled_from([0.0, 0.06]))
def test_training_stops_after_so_many_epochs_without_a_rise(values, epochs, delta):
    optim, state = Optim(early_stop=epochs, monitor=Monitor(min_delta=delta)), State()
    best, waited = None, 0
    for epoch, dice in enumerate(values, 1):
        state.epoch = epoch
        caused = take_in(state, optim, DICE, dice)
        if best is None or dice > best + delta:
            best, waited = dice, 0
        else:
            waited += 1
        assert state.stopped == (waited >= epochs) == ("stop" in caused)
        assert state.lr_reductions == 0
        if state.stopped:
            break


def test_patience_counts_epochs_however_rarely_one_looks():
    optim, state = Optim(schedule="plateau", plateau=Plateau(patience=9), early_stop=20), State()
    told = []
    for epoch in range(5, 40, 5):
        state.epoch = epoch
        told.append((epoch, sorted(take_in(state, optim, DICE, 0.5))))
    assert told[:5] == [(5, []), (10, []), (15, ["plateau"]), (20, []), (25, ["plateau", "stop"])]


def test_the_inner_part_is_whole_patients_that_are_not_trained_on(recipe, records):
    config = recipe(optim__early_stop=3, optim__monitor="{split:inner,folds:3}")
    train, inner = inner_part(config, records)
    assert sorted([*train, *inner]) == sorted(records)
    assert len({r.group for r in inner}) == 2  # of six
    assert not {r.group for r in inner} & {r.group for r in train}
    assert inner_part(config, records[::-1])[1] == [r for r in records[::-1] if r in inner]
    assert inner_part(recipe(seed=4, optim__early_stop=3, optim__monitor="{split:inner,folds:3}"), records)[1] != inner
    with pytest.raises(ConfigError, match=r"optim\.monitor\.folds=10: only 6 patients to train on; give at most that"):
        inner_part(recipe(optim__early_stop=3, optim__monitor="{split:inner}"), records)


def test_without_something_that_depends_on_it_nothing_is_monitored(recipe, records):
    assert monitored(Optim()) is None
    assert monitored(Optim(early_stop=2)) == Monitor()
    assert inner_part(recipe(optim__early_stop=3), records) == (records, [])


def test_what_goes_by_the_held_out_fold_needs_one(recipe, records):
    check_held_out(recipe(optim__early_stop=3, optim__monitor="{split:held_out}", optim__average_best=2), records)
    check_held_out(recipe(optim__early_stop=3, optim__monitor="{split:inner}"), [])
    with pytest.raises(ConfigError, match=r"optim\.monitor\.split=held_out: fold=all holds nothing out"):
        check_held_out(recipe(optim__schedule="plateau", optim__monitor="{split:held_out}"), [])
    with pytest.raises(ConfigError, match=r"optim\.average_best: fold=all holds nothing out"):
        check_held_out(recipe(optim__average_best=2), [])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"swa": {}, "early_stop": 3}, "early_stop: may end training before swa begins; set one of them to null"),
        ({"schedule": "one_cycle", "warmup": 0}, "warmup: one_cycle needs it to reach its peak"),
        ({"schedule": "linear", "monitor": {}}, "monitor: only schedule=plateau and early_stop read it"),
    ],
)
def test_what_contradicts_itself_is_refused(values, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        validate_as(Optim, values)


def test_a_metric_that_falls_is_monitored_downwards():
    optim, state = Optim(early_stop=2, monitor=Monitor(min_delta=0.1)), State()
    losses = Metric("log_loss", higher_is_better=False)
    for epoch, value in enumerate((0.9, 0.7, 0.65, 0.64), 1):
        state.epoch = epoch
        take_in(state, optim, losses, value)
        assert state.stopped == (epoch == 4)
    assert (state.monitored_best, state.monitored_epoch) == (0.7, 2)
