"""Calibration errors with known answers, and those of torchmetrics."""

import json

import numpy as np
import pytest
import torch
import torchmetrics.functional.classification as tm

from phalanx.scoring.reliability import calibration_json, outcomes, reliability

NAN = float("nan")


def test_a_table_by_hand():
    """Ten bins: .05 and .15 are alone in theirs, .95 is in the last with 1."""
    table = reliability(np.array([0.05, 0.15, 0.95, 1.0, 0.2]), np.array([False, True, True, False, True]), 10)
    np.testing.assert_allclose(table.low, [0, 0.1, 0.2, 0.9])
    np.testing.assert_allclose(table.high, [0.1, 0.2, 0.3, 1.0])
    assert table.predictions.tolist() == [1, 1, 1, 2]
    np.testing.assert_allclose(table.confidence, [0.05, 0.15, 0.2, 0.975])
    np.testing.assert_allclose(table.frequency, [0, 1, 1, 0.5])
    assert table.error == pytest.approx((0.05 + 0.85 + 0.8 + 2 * 0.475) / 5)
    assert table.largest_error == pytest.approx(0.85)


def test_bins_of_equal_mass_keep_equal_ones_together():
    p = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    table = reliability(p, p > 0.35, 3, equal_mass=True)
    assert table.predictions.tolist() == [2, 2, 2]
    np.testing.assert_allclose(table.confidence, [0.15, 0.35, 0.55])
    np.testing.assert_allclose(table.frequency, [0, 0.5, 1])
    assert table.error == pytest.approx((0.15 + 0.15 + 0.45) / 3)
    tied = reliability(np.full(9, 0.3), np.arange(9) < 3, 3, equal_mass=True)
    assert tied.predictions.tolist() == [9]
    assert tied.error == pytest.approx(1 / 30)
    rng = np.random.default_rng(0)
    counts = reliability(rng.random(1003), rng.random(1003) < 0.5, 15, equal_mass=True).predictions
    assert set(counts.tolist()) <= {66, 67}


def test_without_predictions_there_is_no_error():
    for mass in (False, True):
        table = reliability(np.zeros(0), np.zeros(0, bool), equal_mass=mass)
        assert np.isnan(table.error)
        assert np.isnan(table.largest_error)
        assert len(table.predictions) == 0


@pytest.mark.parametrize("bins", [7, 15])
def test_the_error_is_torchmetrics(bins):
    rng = np.random.default_rng(bins)
    p = rng.dirichlet(np.ones(4), 500)
    truth = rng.integers(0, 4, 500)
    pairs = outcomes(p, np.eye(4)[truth], "softmax")
    for norm, ours in (("l1", "error"), ("max", "largest_error")):
        wanted = tm.multiclass_calibration_error(torch.tensor(p), torch.tensor(truth), 4, n_bins=bins, norm=norm)
        assert getattr(reliability(*pairs, bins), ours) == pytest.approx(float(wanted), abs=1e-6)
    q, y = rng.random(500), rng.random(500) < 0.5
    wanted = tm.binary_calibration_error(torch.tensor(q), torch.tensor(y.astype(int)), n_bins=bins, norm="l1")
    assert reliability(q, y, bins).error == pytest.approx(float(wanted), abs=1e-6)


def test_honest_probabilities_have_a_small_error_and_bold_ones_a_large_one():
    rng = np.random.default_rng(1)
    q = rng.random(20000)
    y = rng.random(20000) < q
    for mass in (False, True):
        assert reliability(q, y, equal_mass=mass).error < 0.015
        bold = reliability(np.clip(2 * q - 0.5, 0, 1), y, equal_mass=mass)
        assert bold.error == pytest.approx(0.125, abs=0.015)  # mean of |clip(2q - .5) - q|


def test_missing_labels_are_left_out():
    p = np.array([[0.7, 0.3], [0.4, 0.6], [0.9, 0.1]])
    labels = np.array([[1.0, 0], [NAN, 0], [0, 1]])
    confidence, right = outcomes(p, labels, "softmax")
    assert (confidence.tolist(), right.tolist()) == ([0.7, 0.9], [True, False])
    confidence, right = outcomes(p, labels, "sigmoid")
    assert confidence.tolist() == [0.7, 0.3, 0.6, 0.9, 0.1]
    assert right.tolist() == [True, False, False, False, True]


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_the_report_is_json_and_has_each_class(head):
    rng = np.random.default_rng(2)
    p = rng.dirichlet(np.ones(3), 60)
    labels = np.eye(3)[rng.integers(0, 3, 60)]
    labels[:4] = NAN
    found = json.loads(json.dumps(calibration_json(p, labels, list("abc"), head), allow_nan=False))
    assert found["ece_equal_width"] == reliability(*outcomes(p, labels, head)).error
    assert found["classes"]["b"] == reliability(p[4:, 1], labels[4:, 1] == 1, equal_mass=True).error
    assert found["ece_of_classes"] == pytest.approx(np.mean([*found["classes"].values()]))
    assert sum(row["predictions"] for row in found["table"]) == (56 if head == "softmax" else 168)
    none = calibration_json(p, np.full((60, 3), NAN), list("abc"), head)
    assert none["ece_equal_mass"] is none["ece_of_classes"] is none["classes"]["a"] is None
