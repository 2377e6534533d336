"""Cross-fitting: choices never depend on the held-out fold, noise is not adopted, what is planted is."""

import numpy as np
import pytest

from phalanx.scoring.crossfit import (
    MAX_WEIGHTINGS,
    MIN_GAIN,
    MIN_GAIN_SE,
    cross_fit,
    explore_weightings,
    for_all,
    forward,
    is_significant,
    per_class,
    weightings,
)

IMAGES = 120
FOLDS = np.arange(IMAGES) // 2 % 4
PATIENTS = [f"P{i // 2:03d}" for i in range(IMAGES)]


def judge(dice, fit, default):
    names = [f"i{i:03d}" for i in range(IMAGES)]
    classes = [f"c{c}" for c in range(dice.shape[1])]
    return cross_fit("x", dice, default=default, fit=fit, folds=FOLDS, images=names, patients=PATIENTS, classes=classes)


def noise(candidates, seed=0, classes=4, spread=0.02):
    rng = np.random.default_rng(seed)
    return (0.9 + spread * rng.standard_normal((IMAGES, classes, candidates))).clip(0, 1)


def test_a_choice_does_not_depend_on_the_held_out_fold():
    dice = noise(5)
    dice[:, 1, 3] += 0.05
    for fit in (per_class(2), for_all(2), forward(weightings(2)[:5])):
        clean = judge(dice, fit, 2)
        for fold in range(4):
            poisoned = dice.copy()
            poisoned[fold == FOLDS] = np.random.default_rng(fold).random(poisoned[fold == FOLDS].shape)
            found = judge(poisoned, fit, 2)
            np.testing.assert_array_equal(found.by_fold[fold], clean.by_fold[fold])
            for other in set(range(4)) - {fold}:  # and they do decide where they are not held out
                held = poisoned[other == FOLDS][:, np.arange(4), found.by_fold[other]]
                np.testing.assert_array_equal(found.comparison.dice[1][other == FOLDS], held)


@pytest.mark.parametrize("make", [per_class, for_all])
def test_noise_is_seldom_adopted_and_looks_good_in_sample(make):
    found = [judge(noise(30, seed), make(15), 15) for seed in range(40)]
    assert sum(v.adopted for v in found) <= 1
    gains = [v.in_sample - v.comparison.means[0] for v in found]
    assert np.mean(gains) > np.mean([v.comparison.difference for v in found])


def test_a_planted_gain_of_one_class_is_found_and_adopted():
    dice = noise(9, spread=0.01)
    dice[:, 2, 6] += 0.03
    found = judge(dice, per_class(4), 4)
    assert found.adopted
    assert found.chosen[2] == 6
    assert all(by[2] == 6 for by in found.by_fold.values())
    assert found.comparison.difference == pytest.approx(0.03 / 4, abs=0.002)


def test_a_significant_gain_that_is_too_small_is_not_adopted():
    dice = np.repeat(noise(1), 3, axis=2)
    dice[:, :, 2] += MIN_GAIN / 3
    found = judge(dice, for_all(0), 0)
    assert (found.chosen == 2).all()
    assert found.comparison.interval[0] > 0
    assert not found.adopted


def test_a_single_patient_decides_nothing():
    dice = noise(3)
    dice[:, :, 1] += 0.5
    assert not is_significant(dice[:, :, 1] - dice[:, :, 0], np.zeros(IMAGES, int)).any()


def test_equal_candidates_stay_near_the_default():
    dice = np.full((IMAGES, 1, 7), 0.5)
    assert judge(dice, per_class(3), 3).chosen.tolist() == [3]
    dice[:, :, [0, 4, 6]] = 0.8
    assert judge(dice, per_class(3), 3).chosen.tolist() == [4]


def test_sure_is_the_standard_error_of_patients_means():
    """Patients of two images each: the usual standard error of patients' means, by hand."""
    gaps = np.random.default_rng(0).normal(0.1, 1, IMAGES)
    patients = np.unique(PATIENTS, return_inverse=True)[1]
    means = gaps.reshape(-1, 2).mean(1)
    error = means.std(ddof=1) / np.sqrt(len(means))
    for mean, wanted in (((MIN_GAIN_SE - 0.01) * error, False), ((MIN_GAIN_SE + 0.01) * error, True)):
        assert bool(is_significant(gaps - gaps.mean() + mean, patients)) is wanted


def test_forward_selection_takes_the_best_then_what_helps():
    """Dice by the sum of what each member brings; the third only harms, so it is left out."""
    tried = weightings(3)
    is_worthwhile = np.array([0.3, 0.5, -0.2])
    dice = np.broadcast_to((tried * is_worthwhile).sum(1) / tried.sum(1).max() / 10 + 0.5, (IMAGES, 2, len(tried)))
    found = judge(np.array(dice), forward(tried), tried.tolist().index([1, 1, 1]))
    assert tried[found.chosen[0]].tolist() == [1, 1, 0]
    alone = np.full((IMAGES, 2, len(tried)), 0.5)
    alone[:, :, tried.tolist().index([0, 0, 1])] = 0.9
    assert tried[judge(alone, forward(tried), tried.tolist().index([1, 1, 1])).chosen[0]].tolist() == [0, 0, 1]


@pytest.mark.parametrize("members", range(2, 9))
def test_weightings_hold_every_choice_of_members_and_no_proportion_twice(members):
    rows = weightings(members)
    assert len(rows) <= MAX_WEIGHTINGS
    shares = {tuple(np.round(row / row.sum(), 9)) for row in rows}
    assert len(shares) == len(rows)
    assert {tuple(row) for row in rows.tolist() if max(row) == 1} == {
        tuple(map(int, f"{n:0{members}b}")) for n in range(1, 2**members)
    }


def pooled(members, seed):
    """Dice of votes int[k, M] as an ensemble's: errors of members are averaged, some members are better than others."""
    rng = np.random.default_rng(seed)
    errors = rng.normal(0, rng.permutation(np.geomspace(0.02, 0.3, members)), (IMAGES, 2, members))

    def measure(votes):
        shares = votes / votes.sum(1, keepdims=True)
        return 0.9 - abs(errors @ shares.T)

    return measure


@pytest.mark.parametrize("seed", range(3))
def test_what_is_explored_is_what_greedy_selection_needs_and_no_more(seed):
    """Against all choices of five members, and for votes against the selection written out."""
    measure, asked = pooled(5, seed), []
    tried, dice = explore_weightings(lambda votes: asked.append(len(votes)) or measure(votes), 5, FOLDS)
    assert len({tuple(row) for row in tried.tolist()}) == len(tried) == sum(asked)
    assert len(asked) <= 5
    np.testing.assert_allclose(dice, measure(tried))
    every = weightings(5)
    equal = [rows.tolist().index([1] * 5) for rows in (tried, every)]
    found, slow = judge(dice, forward(tried), equal[0]), judge(measure(every), forward(every), equal[1])
    for fold in range(4):
        assert tried[found.by_fold[fold][0]].tolist() == every[slow.by_fold[fold][0]].tolist()
    assert tried[found.chosen[0]].tolist() == every[slow.chosen[0]].tolist() != [1] * 5

    def score(votes):
        return measure(np.array([votes])).mean()

    taken, best = [0] * 5, -1.0
    for _ in range(5):
        grown = [[n + (m == i) for m, n in enumerate(taken)] for i in range(5)]
        if max(map(score, grown)) <= best:
            break
        taken = max(grown, key=score)
        best = score(taken)
    votes = tried[judge(dice, forward(tried, repeat=True), equal[0]).chosen[0]]
    np.testing.assert_allclose(votes / votes.sum(), np.array(taken) / sum(taken))
