"""Intervals against the bootstrap and against simulated trainings whose effect is known."""

import numpy as np
import pytest

from phalanx.runtime.metric import Metric
from phalanx.sweep.verdict import Gain, Paired, gain_of, verdict

ALL = [0, 1, 2]


def pair(values, images=None, names=None):
    """A pairing of float[S, P, C] differences."""
    names = names or [[f"{s}-{p}" for p in range(len(v))] for s, v in enumerate(values)]
    images = images or [np.full(len(v), 2) for v in values]
    return Paired(tuple(map(tuple, names)), tuple(images), tuple(map(np.asarray, values)))


def test_rows_are_paired_by_seed_fold_and_patient(invented):
    rng = np.random.default_rng(0)
    ours = [invented("a", seed, rng.random((3, 3)), fold=fold) for seed in (0, 1) for fold in (0, 1)]
    base = [invented("b", seed, rng.random((3, 3)), fold=fold) for seed, fold in ((1, 0), (0, 1), (2, 0))]
    found = Paired.of(ours, base)
    assert [len(names) for names in found.patients] == [3, 3]
    np.testing.assert_allclose(found.by_seed(ALL), [ours[1].value - base[1].value, ours[2].value - base[0].value])
    assert Paired.of(ours, []).values == ()


def test_rows_of_other_patients_are_not_paired(invented):
    one, other = invented("a", 0, np.zeros((3, 3))), invented("b", 0, np.ones((4, 3)))
    assert Paired.of([one], [other]).values == ()


def test_the_gain_of_a_seed_is_the_mean_over_its_images_and_the_classes():
    rng = np.random.default_rng(1)
    values, images = rng.normal(size=(2, 5, 3)), [rng.integers(1, 4, 5), rng.integers(1, 4, 5)]
    slow = []
    for seed in range(2):
        single = [values[seed, p, c] for p in range(5) for _ in range(images[seed][p]) for c in (0, 2)]
        slow.append(sum(single) / len(single))
    np.testing.assert_allclose(pair(values, images).by_seed([0, 2]), slow)


@pytest.mark.parametrize("shared", [True, False])
def test_the_variance_over_patients_is_that_of_the_bootstrap(shared):
    rng = np.random.default_rng(2)
    count = 40
    patient = rng.normal(0, 0.05, count)
    values = (patient + rng.normal(0, 0.02, (2, count)))[:, :, None].repeat(3, 2)
    names = [[f"{0 if shared else seed}-{p}" for p in range(count)] for seed in range(2)]
    told = pair(values, names=names).patient_variance(ALL)
    draws = rng.integers(0, count, (2, 20000, count))
    if shared:
        draws[1] = draws[0]
    means = np.mean([values[seed, :, 0][draws[seed]].mean(1) for seed in range(2)], axis=0)
    assert told == pytest.approx(means.var(), rel=0.08)
    assert pair(values[:1, :1]).patient_variance(ALL) == np.inf


def simulated(rng, *, effect, seeds, rows, spread=0.01):
    """Comparisons of one scale: each seed has its own patients and its own luck."""
    luck = rng.normal(effect, spread, (rows, seeds, 1, 1))
    return [pair(values) for values in luck + rng.normal(0, 0.03, (rows, seeds, 20, 1)).repeat(3, 3)]


@pytest.mark.parametrize(("seeds", "rows"), [(1, 8), (2, 8), (3, 8), (3, 1)])
def test_without_an_effect_few_rows_are_decided(seeds, rows):
    rng, decided, asked = np.random.default_rng(3), 0, 0
    for _ in range(60 if rows > 1 else 400):
        pairs = simulated(rng, effect=0.0, seeds=seeds, rows=rows)
        if seeds == 1:  # the others have two, so that their spread is known
            pairs = [*pairs[:1], *simulated(rng, effect=0.0, seeds=2, rows=rows)]
        for number, one in enumerate(pairs if seeds > 1 else pairs[:1]):
            decided += gain_of(one, [p for i, p in enumerate(pairs) if i != number], ALL).sign != 0
            asked += 1
    assert decided / asked < 0.06


def test_a_large_effect_is_told_by_two_seeds():
    pairs = simulated(np.random.default_rng(4), effect=0.05, seeds=2, rows=50)
    signs = [gain_of(one, [p for p in pairs if p is not one], ALL).sign for one in pairs]
    assert np.mean(signs) > 0.95


def test_an_unsteady_row_is_not_called_sure_because_the_others_are_steady():
    steady = [pair(np.full((2, 5, 3), v) + np.array([0, 1e-4])[:, None, None]) for v in (0.01, 0.02, 0.03)]
    unsteady = pair(np.array([-0.02, 0.08])[:, None, None] * np.ones((2, 5, 3)))
    assert gain_of(steady[0], [*steady[1:], unsteady], ALL).mean == pytest.approx(0.01005)
    assert gain_of(unsteady, steady, ALL).sign == 0


def test_one_seed_alone_tells_nothing():
    one = pair(np.full((1, 5, 3), 0.3))
    assert gain_of(one, [], ALL).interval is None
    assert gain_of(one, [pair(np.full((1, 5, 3), 0.1))], ALL).sign == 0


@pytest.mark.parametrize(
    ("outcome", "interval", "told"),
    [
        ("worked", (0.001, 0.02), "agrees"),
        ("worked", (-0.02, -0.001), "disagrees"),
        ("worked", (-0.001, 0.02), "undecided"),
        ("worked", None, "undecided"),
        ("did not help", (0.001, 0.02), "disagrees"),
        ("did not help", (-0.02, -0.001), "agrees"),
        ("did not help", (-0.02, 0.0), "undecided"),
        ("open", (0.001, 0.02), "open: better"),
        ("open", (-0.02, -0.001), "open: worse"),
        ("open", (-0.02, 0.02), "undecided"),
    ],
)
def test_verdicts(outcome, interval, told):
    assert verdict(outcome, Gain(0.0, (0.0,), interval), Metric("auc")) == told
    assert verdict(outcome, None, Metric("auc")) == "not run"


def test_of_a_metric_that_should_fall_a_fall_is_the_gain(invented):
    loss = Metric("loss", higher_is_better=False)
    assert verdict("worked", Gain(-0.02, (-0.02,), (-0.03, -0.01)), loss) == "agrees"
    assert verdict("open", Gain(0.02, (0.02,), (0.01, 0.03)), loss) == "open: worse"
    row = np.full((3, 3), 0.5)
    assert Paired.of([invented("a", 0, row)], [invented("b", 0, row)]).values
    assert not Paired.of([invented("a", 0, row)], [invented("b", 0, row, metric=loss)]).values  # not comparable
