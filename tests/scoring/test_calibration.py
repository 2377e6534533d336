"""Temperatures and thresholds with known answers, cross-fitted: no fold's labels decide about that fold."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, log_loss

from phalanx.errors import DataError
from phalanx.scoring.calibration import (
    COLDEST,
    HOTTEST,
    MIN_POSITIVES,
    apply_temperature,
    cross_fit_temperature,
    cross_fit_thresholds,
    fit_temperature,
    fit_thresholds,
    negative_log_likelihood,
)

NAN = float("nan")


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def softmax_case(count=3000, temperature=1.0, seed=0):
    """Labels drawn from probabilities, which are then shown at another temperature."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 1.5, (count, 4))
    truth = (rng.random(count)[:, None] > softmax(z).cumsum(axis=1)).sum(axis=1)
    return softmax(z * temperature), np.eye(4)[truth]


def sigmoid_case(temperatures, count=3000, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 1.5, (count, len(temperatures)))
    labels = (rng.random(z.shape) < 1 / (1 + np.exp(-z))).astype(float)
    return 1 / (1 + np.exp(-z * temperatures)), labels


@pytest.mark.parametrize("planted", [0.5, 1.0, 2.5])
def test_the_planted_temperature_is_found(planted):
    p, labels = softmax_case(temperature=planted)
    found = fit_temperature(p, labels, "softmax")
    np.testing.assert_allclose(found, planted, rtol=0.07)
    assert (found == found[0]).all()
    honest, _ = softmax_case(temperature=1.0)
    np.testing.assert_allclose(apply_temperature(p, planted, "softmax"), honest, atol=1e-3)  # below 1e-9 is cut


def test_sigmoids_have_one_temperature_or_each_its_own():
    planted = np.array([0.5, 1.0, 3.0])
    p, labels = sigmoid_case(planted)
    labels[:300, 1] = NAN
    np.testing.assert_allclose(fit_temperature(p, labels, "sigmoid", per_class=True), planted, rtol=0.12)
    assert planted[0] < fit_temperature(p, labels, "sigmoid")[0] < planted[2]
    honest, _ = sigmoid_case(np.ones(3))
    np.testing.assert_allclose(apply_temperature(p, planted, "sigmoid"), honest, atol=1e-6)
    with pytest.raises(DataError, match="head=sigmoid"):
        fit_temperature(p, labels, "softmax", per_class=True)


def test_the_likelihood_is_scikit_learns_and_the_fit_its_minimum():
    p, labels = softmax_case(200, 2.0)
    own = negative_log_likelihood(p, labels, "softmax")
    assert own.mean() == pytest.approx(log_loss(labels.argmax(axis=1), p))
    best = fit_temperature(p, labels, "softmax")[0]

    def at(temperature):
        return log_loss(labels.argmax(axis=1), apply_temperature(p, temperature, "softmax"))

    assert at(best) <= min(at(best * 1.01), at(best / 1.01))
    q, y = sigmoid_case(np.ones(2), 50)
    cells = -(y * np.log(q) + (1 - y) * np.log(1 - q))
    np.testing.assert_allclose(negative_log_likelihood(q, y, "sigmoid"), cells.mean(axis=1), rtol=1e-6)
    y[0, 1], y[1] = NAN, NAN
    found = negative_log_likelihood(q, y, "sigmoid")
    assert found[0] == pytest.approx(cells[0, 0])
    assert np.isnan(found).tolist() == [False, True] + [False] * 48


def test_a_temperature_changes_no_order_and_is_finite_at_the_ends():
    p = np.array([[0.0, 1.0, 0.0], [0.2, 0.3, 0.5], [1e-12, 0.5, 0.5]])
    for temperature in (COLDEST, 1, HOTTEST):
        found = apply_temperature(p, temperature, "softmax")
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found.sum(axis=1), 1)
        assert (found.argmax(axis=1) == p.argmax(axis=1)).all()
        single = apply_temperature(p[:, 1:], temperature, "sigmoid")
        assert np.isfinite(single).all()
        assert ((single > 0.5) == (p[:, 1:] > 0.5)).all()


def test_right_predictions_or_no_labels_have_a_temperature():
    p, _ = softmax_case(50)
    right = np.eye(4)[p.argmax(axis=1)]
    assert fit_temperature(p, right, "softmax")[0] == pytest.approx(COLDEST, rel=1e-4)
    assert fit_temperature(p, np.roll(right, 1, axis=1), "softmax")[0] == pytest.approx(HOTTEST, rel=1e-4)
    assert fit_temperature(p, np.full(p.shape, NAN), "softmax").tolist() == [1] * 4
    assert fit_temperature(p, np.full(p.shape, NAN), "sigmoid", per_class=True).tolist() == [1] * 4


def best_by_trying(p, y):
    return max(f1_score(y, p >= cut) for cut in [*np.unique(p), 2])


def test_thresholds_have_the_best_f1_of_all():
    rng = np.random.default_rng(0)
    for seed in range(9):
        p = rng.random((40, 3)).round(1 + seed % 3)
        y = (rng.random((40, 3)) < 0.2 + 0.6 * p).astype(float)
        y[rng.random(y.shape) < 0.1] = NAN
        for c, cut in enumerate(fit_thresholds(p, y)):
            known = ~np.isnan(y[:, c])
            found = f1_score(y[known, c], p[known, c] >= cut)
            assert found == pytest.approx(best_by_trying(p[known, c], y[known, c]))
            assert np.abs(p[:, c][known] - cut).min() > 0 or cut in (0, 0.5)


def test_thresholds_by_hand():
    p = np.array([0.9, 0.8, 0.4, 0.38, 0.35, 0.3, 0.1, 0.05])[:, None]
    y = np.array([1, 1, 1, 1, 1, 0, 0, 0.0])[:, None]
    assert fit_thresholds(p, y)[0] == pytest.approx(0.325)  # half-way from .35 to .3
    assert fit_thresholds(p + 0.1 * (p < 0.5) + 0.2 * (p == 0.35), y)[0] == pytest.approx((0.48 + 0.4) / 2)
    sure = np.where(y == 1, 0.9, 0.1)
    assert fit_thresholds(sure, y)[0] == 0.5  # which does as well as any between
    assert fit_thresholds(p, np.where(y == 1, 1.0, NAN))[0] == pytest.approx(0.175)  # all are positive
    few = y.copy()
    few[: 6 - MIN_POSITIVES] = 0
    assert fit_thresholds(p, few)[0] == 0.5
    assert fit_thresholds(p, np.full(y.shape, NAN))[0] == 0.5


def groups(count):
    return np.arange(count) // 2 % 4, [f"p{i // 2:04d}" for i in range(count)]


def test_no_folds_labels_decide_about_that_fold():
    folds, patients = groups(400)
    p, labels = softmax_case(400, 2.0)
    q, y = sigmoid_case(np.array([1.0, 2.0]), 400)

    def both(softmax_labels, sigmoid_labels):
        return (
            cross_fit_temperature(p, softmax_labels, "softmax", folds, patients),
            cross_fit_temperature(q, sigmoid_labels, "sigmoid", folds, patients, per_class=True),
            cross_fit_thresholds(q, sigmoid_labels, folds, patients),
        )

    clean = both(labels, y)
    for fold in range(4):
        held = folds == fold
        poisoned = labels.copy(), y.copy()
        poisoned[0][held], poisoned[1][held] = np.roll(labels[held], 1, axis=1), 1 - y[held]
        for one, other in zip(both(*poisoned), clean, strict=True):
            np.testing.assert_array_equal(one.by_fold[fold], other.by_fold[fold])
            np.testing.assert_array_equal(one.applied[held], other.applied[held])
            assert any((one.by_fold[f] != other.by_fold[f]).any() for f in range(4) if f != fold)


def test_a_planted_temperature_is_adopted_and_an_honest_one_is_not():
    folds, patients = groups(800)
    for planted, adopted in ((2.0, True), (1.0, False)):
        p, labels = softmax_case(800, planted)
        found = cross_fit_temperature(p, labels, "softmax", folds, patients)
        assert found.adopted is adopted
        assert found.before == pytest.approx(log_loss(labels.argmax(axis=1), p))
        assert found.after == pytest.approx(log_loss(labels.argmax(axis=1), found.applied))
        if adopted:
            assert found.after < found.before
            assert found.interval[0] < found.before - found.after < found.interval[1]
        np.testing.assert_allclose(
            found.applied[folds == 1], apply_temperature(p, found.by_fold[1], "softmax")[folds == 1]
        )


def test_planted_thresholds_are_adopted_and_honest_ones_are_not():
    folds, patients = groups(800)
    rng = np.random.default_rng(3)
    y = (rng.random((800, 3)) < 0.3).astype(float)
    q = np.clip(0.25 + 0.3 * y + rng.normal(0, 0.1, y.shape), 0, 1)
    y[rng.random(y.shape) < 0.1] = NAN
    planted = cross_fit_thresholds(q**2, y, folds, patients)
    assert planted.adopted
    np.testing.assert_allclose(planted.fitted, 0.4**2, atol=0.05)
    columns = [~np.isnan(y[:, c]) for c in range(3)]
    wanted = [f1_score(y[k, c], (q**2)[k, c] >= planted.applied[k, c]) for c, k in enumerate(columns)]
    assert planted.after == pytest.approx(np.mean(wanted))
    assert planted.before == pytest.approx(
        np.mean([f1_score(y[k, c], (q**2)[k, c] >= 0.5) for c, k in enumerate(columns)])
    )
    assert planted.interval[0] < planted.after - planted.before < planted.interval[1]
    assert not cross_fit_thresholds(np.clip(q + 0.1, 0, 1), y, folds, patients).adopted


def test_noise_is_seldom_adopted():
    folds, patients = groups(120)
    found = 0
    for seed in range(20):
        q, y = sigmoid_case(np.ones(4), 120, seed)
        found += cross_fit_temperature(q, y, "sigmoid", folds, patients).adopted
    assert found <= 2


def test_patients_in_two_folds_and_single_folds_are_refused():
    p, labels = softmax_case(8)
    folds, patients = np.arange(8) % 2, [f"p{i // 2}" for i in range(8)]
    with pytest.raises(DataError, match="patient 'p0' is in more than one fold"):
        cross_fit_temperature(p, labels, "softmax", folds, patients)
    with pytest.raises(DataError, match="1 fold: cross-fitting needs two"):
        cross_fit_thresholds(p, labels, np.zeros(8, int), patients)


def test_without_labels_nothing_is_adopted():
    p, labels = softmax_case(8)
    folds, patients = groups(8)
    nothing = np.full(labels.shape, NAN)
    for found in (
        cross_fit_temperature(p, nothing, "softmax", folds, patients),
        cross_fit_thresholds(p, nothing, folds, patients),
    ):
        assert not found.adopted
        assert np.isnan([found.before, found.after]).all()
