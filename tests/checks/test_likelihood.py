"""The likelihoods of `phalanx check` against scipy's normal distribution, and what they tell of planted faults."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from phalanx.checks.likelihood import align, assess, cycles
from phalanx.checks.normal import best_swaps, deviations, energies, fit, swap_ratios

CLASSES = 12


def model(k: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean float[C, k], covariance float[C k, C k] and one draw float[C, k]."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(CLASSES * k, CLASSES * k))
    covariance = root @ root.T / CLASSES + np.eye(CLASSES * k)
    mean = rng.normal(0, 5, (CLASSES, k))
    return mean, covariance, mean + rng.multivariate_normal(np.zeros(CLASSES * k), covariance).reshape(CLASSES, k)


@pytest.mark.parametrize("k", [1, 2])
def test_exchange_ratios_are_differences_of_log_densities(k):
    mean, covariance, x = model(k)
    inverse = np.linalg.inv(covariance).reshape(CLASSES, k, CLASSES, k)
    ratios = swap_ratios(x - mean, inverse, mean)
    density = multivariate_normal(mean.ravel(), covariance)
    for a in range(CLASSES):
        for b in range(CLASSES):
            order = np.arange(CLASSES)
            order[[a, b]] = b, a
            expected = density.logpdf(x[order].ravel()) - density.logpdf(x.ravel())
            np.testing.assert_allclose(ratios[a, b], expected, rtol=1e-8, atol=1e-8)


def test_exchanges_together_gain_the_difference_of_log_densities_and_at_least_the_best_pair():
    for seed in range(8):
        kinds, before, after = [], 0.0, 0.0
        drawn = [model(k, seed) for k in (1, 2)]
        order = np.random.default_rng(seed).permutation(CLASSES) if seed % 2 else np.arange(CLASSES)
        for mean, covariance, x in drawn:
            k = mean.shape[1]
            kinds.append((x[order] - mean, np.linalg.inv(covariance).reshape(CLASSES, k, CLASSES, k), mean))
        gain, pairs = best_swaps(kinds)
        assert len(set(pairs.ravel().tolist())) == pairs.size  # no bone twice
        changed = order.copy()
        for a, b in pairs:
            changed[[a, b]] = changed[[b, a]]
        for mean, covariance, x in drawn:
            density = multivariate_normal(mean.ravel(), covariance)
            before, after = before + density.logpdf(x[order].ravel()), after + density.logpdf(x[changed].ravel())
        np.testing.assert_allclose(gain, after - before)
        ratios = sum(swap_ratios(*kind) for kind in kinds)
        assert gain >= (ratios - 1e9 * np.eye(CLASSES)).max() - 1e-6


def test_exchanges_together_find_what_no_single_one_gains():
    """Two rows of bones that keep together: one bone in the other row fits worse than the whole row there."""
    covariance = np.kron(np.eye(2), np.full((4, 4), 4.0)) + np.eye(8)
    mean = np.repeat([[0.0], [9.0]], 4, axis=0)
    kind = (
        mean[::-1] - mean,
        np.linalg.inv(covariance).reshape(8, 1, 8, 1),
        mean,
    )  # each row where the other should be
    singly = swap_ratios(*kind)
    assert singly[0, 4] < -50
    gain, pairs = best_swaps([kind])
    assert gain == pytest.approx(energies(*kind).sum() / 2)
    assert gain > singly.max() + 10
    assert sorted((a // 4, b // 4) for a, b in pairs.tolist()) == [(0, 1)] * 4


@pytest.mark.parametrize("k", [1, 2])
def test_deviations_are_those_from_the_conditional_distribution(k):
    mean, covariance, x = model(k, seed=1)
    told = deviations(x - mean, np.linalg.inv(covariance).reshape(CLASSES, k, CLASSES, k), mean)
    for c in range(CLASSES):
        own = np.arange(c * k, (c + 1) * k)
        rest = np.setdiff1d(np.arange(CLASSES * k), own)
        weight = covariance[np.ix_(own, rest)] @ np.linalg.inv(covariance[np.ix_(rest, rest)])
        left = (x - mean).ravel()[own] - weight @ (x - mean).ravel()[rest]
        spread = covariance[np.ix_(own, own)] - weight @ covariance[np.ix_(rest, own)]
        np.testing.assert_allclose(told[c], np.sqrt(left @ np.linalg.inv(spread) @ left))


def test_a_fit_with_absent_classes_is_a_distribution():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(30, CLASSES, 2)) + rng.normal(size=(30, 1, 1))
    values[rng.random((30, CLASSES)) < 0.6] = np.nan
    fitted = fit(values, 0.1)
    np.linalg.cholesky(fitted.covariance.reshape(2 * CLASSES, 2 * CLASSES))
    some = np.isfinite(values[:, 0, 0])
    np.testing.assert_allclose(fitted.mean[0, 0], np.median(values[some, 0, 0]))


def test_alignment_undoes_moves_turns_scales_and_mirrors():
    rng = np.random.default_rng(0)
    usual = np.concatenate([rng.uniform(0.2, 0.8, (CLASSES, 2)), np.tile([0.01, 4e-5, 1e-5, 1e-5], (CLASSES, 1))], 1)
    bones = np.tile(usual, (9, 1, 1))
    for image in bones:
        angle, scale = rng.uniform(-0.5, 0.5), rng.uniform(0.8, 1.2)
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        if rng.random() < 0.5:
            turn = turn @ np.diag([-1, 1])
        image[:, :2] = image[:, :2] @ turn.T + rng.normal(0, 0.1, 2)
        spread = turn @ np.array([[4e-5, 1e-5], [1e-5, 1e-5]]) @ turn.T
        image[:, 2:] = 0.01 * scale**2, spread[0, 0], spread[1, 1], spread[0, 1]
    for kind, values in align(bones, flip=True).items():
        np.testing.assert_allclose(values, np.broadcast_to(values[:1], values.shape), atol=1e-4, err_msg=kind)


def poses(count: int, seed: int) -> np.ndarray:
    """float[N, C, 6]: a chain of bones that bends, so that the usual places say little and the neighbours much."""
    rng = np.random.default_rng(seed)
    bones = np.zeros((count, CLASSES, 6))
    bend = rng.normal(0, 0.1, count)[:, None] * np.arange(CLASSES) + rng.normal(0, 0.01, (count, CLASSES))
    bones[..., 0] = 0.5 + np.cumsum(0.05 * np.sin(bend), axis=1)
    bones[..., 1] = 0.9 - np.cumsum(0.05 * np.cos(bend), axis=1)
    bones[..., 2:] = np.array([2e-3, 1e-4, 2e-4, 2e-5]) * np.exp(rng.normal(0, 0.05, (count, CLASSES, 1)))
    return bones


@pytest.mark.parametrize("names", [(4, 5), (0, 11), (2, 6, 7), (3, 4, 5, 6)])
def test_exchanged_labels_and_nothing_else(names):
    bones = poses(60, seed=1)
    wrong = bones.copy()
    wrong[9, names] = bones[9, np.roll(names, 1)]
    start = np.tile(np.arange(CLASSES), (60, 1))
    judged = assess(wrong, [str(i) for i in range(60)], start, flip=False)
    rows, labels = np.nonzero(judged.labels != start)
    assert set(rows) == {9}
    assert set(labels) == set(names)
    np.testing.assert_array_equal(wrong[9, judged.labels[9]], bones[9])
    assert np.nanmax(judged.place) < 7


def test_a_bone_elsewhere_is_odd_and_no_exchange_and_its_neighbours_are_not():
    bones = poses(60, seed=2)
    bones[7, 5, :2] += 0.12, -0.05
    start = np.tile(np.arange(CLASSES), (60, 1))
    judged = assess(bones, [str(i) for i in range(60)], start, flip=False)
    np.testing.assert_array_equal(judged.labels, start)
    assert judged.place[7, 5] > 8
    judged.place[7, 5] = 0
    assert np.nanmax(judged.place) < 7


def test_both_images_of_a_patient_wrong_in_the_same_way():
    bones = poses(60, seed=3)
    bones[[20, 21], 2], bones[[20, 21], 3] = bones[[20, 21], 3], bones[[20, 21], 2]
    start = np.tile(np.arange(CLASSES), (60, 1))
    judged = assess(bones, [str(i // 2) for i in range(60)], start, flip=False)
    assert set(np.nonzero(judged.labels != start)[0]) == {20, 21}


@pytest.mark.parametrize("count", [1, 2, 8])
@pytest.mark.parametrize("groups", ["one patient", "each its own"])
def test_few_images_or_few_patients_say_little_and_break_nothing(count, groups):
    bones = poses(count, seed=4)
    bones[0, 3] = np.nan
    bones[:, 7] = np.nan
    start = np.tile(np.arange(CLASSES), (count, 1))
    names = ["a"] * count if groups == "one patient" else [str(i) for i in range(count)]
    judged = assess(bones, names, start, flip=True)
    np.testing.assert_array_equal(judged.labels, start)
    assert not (judged.place > 8).any()
    assert np.isnan(judged.place[:, 7]).all()


def test_equal_images_do_not_break_it():
    bones = np.tile(poses(1, seed=5), (12, 1, 1))
    start = np.tile(np.arange(CLASSES), (12, 1))
    judged = assess(bones, [str(i) for i in range(12)], start, flip=True)
    np.testing.assert_array_equal(judged.labels, start)
    assert not (judged.place > 8).any()


def test_cycles_of_a_permutation_are_its_own():
    rng = np.random.default_rng(0)
    for _ in range(50):
        bearing = rng.permutation(9)
        found = cycles(bearing)
        assert sorted(c for cycle in found for c in cycle) == np.flatnonzero(bearing != np.arange(9)).tolist()
        assert all(bearing[a] == b for cycle in found for a, b in zip(cycle, [*cycle[1:], cycle[0]], strict=True))
