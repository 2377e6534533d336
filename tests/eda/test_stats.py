"""Effect sizes against published examples, slower truths and scikit-learn."""

import math

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from phalanx.eda.stats import cohens_d, correlation, proportion_difference, regression, wilson


def test_wilson_and_newcombe_give_the_published_examples():
    """Newcombe (1998), Statistics in Medicine 17, tables II of both papers."""
    assert wilson(81, 263) == pytest.approx((0.3080, 0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0, 0, 0.1611), abs=5e-5)
    assert proportion_difference(48, 80, 56, 70) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    assert proportion_difference(0, 10, 10, 10) == pytest.approx((1, 0.6075, 1), abs=5e-5)


def test_the_interval_of_d_holds_the_truth_as_often_as_it_says():
    rng, hits = np.random.default_rng(0), 0
    for _ in range(600):
        found = cohens_d(rng.normal(0, 2, 40), rng.normal(1.2, 2, 60))  # d = 0.6
        hits += found.low <= 0.6 <= found.high
    assert 0.92 < hits / 600 < 0.975


def test_missing_values_are_passed_over_and_too_little_is_unknown():
    assert cohens_d(np.array([1.0, 2, 3, np.nan]), np.array([2.0, 3, 4])).value == pytest.approx(1)
    for unknown in (
        cohens_d(np.array([1.0]), np.array([1.0, 2])),
        cohens_d(np.ones(4), np.ones(4)),
        correlation(np.array([1.0, 2, 3]), np.array([1.0, 2, 3])),
        correlation(np.ones(9), np.arange(9.0)),
        wilson(0, 0),
    ):
        assert all(math.isnan(value) for value in unknown)


def test_correlation_is_pearsons_with_fishers_interval():
    x = np.arange(30.0)
    y = x + np.random.default_rng(1).normal(0, 10, 30)
    y[4] = np.nan
    found, known = correlation(x, y), np.isfinite(y)
    assert found.value == pytest.approx(np.corrcoef(x[known], y[known])[0, 1])
    assert np.arctanh(found.high) - np.arctanh(found.low) == pytest.approx(2 * 1.959964 / math.sqrt(26))
    assert correlation(x, x) == (1, 1, 1)


def test_regression_agrees_with_scikit_learn_and_covers_the_truth():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=200), rng.normal(size=200)
    y = 3 * a - b + rng.normal(size=200)
    a[:5] = np.nan
    effects, explained, count = regression({"a": a, "b": b, "same": np.ones(200)}, y)
    assert (set(effects), count) == ({"a", "b"}, 195)
    design = np.stack([a, b], 1)[5:]
    scaled, target = (design - design.mean(0)) / design.std(0), (y[5:] - y[5:].mean()) / y[5:].std()
    truth = LinearRegression().fit(scaled, target)
    assert [effects["a"].value, effects["b"].value] == pytest.approx(truth.coef_)
    assert explained == pytest.approx(truth.score(scaled, target))
    assert effects["a"].low < 3 * design[:, 0].std() / y[5:].std() < effects["a"].high
    assert regression({"a": a[:3]}, y[:3])[0] == {}
