"""Labels judged by all images of a patient, against written-out values; when they are; planted errors."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from phalanx.errors import ConfigError
from phalanx.scoring.patient_labels import LEAST_IMAGES, agreement, judged_by_patient, wrong_rate
from phalanx.scoring.suspects import rank_suspects


def test_the_odds_of_a_class_are_those_of_all_images_and_the_other_labels():
    # two images of one patient, two classes; e is half a label of no patient with three images, so .05
    p = np.array([[0.9, 0.1], [0.4, 0.6]])
    found = judged_by_patient(p, np.array([0, 1]), np.array([0, 0]))
    first = np.array([0.9 * 0.4 * 0.05, 0.1 * 0.6 * 0.95])  # the other label speaks for class 1
    second = np.array([0.9 * 0.4 * 0.95, 0.1 * 0.6 * 0.05])
    assert found == pytest.approx(np.stack([first / first.sum(), second / second.sum()]))
    alone = judged_by_patient(p, np.array([0, 1]), np.array([0, 1]))
    assert alone == pytest.approx(p)  # of images without others nothing changes
    certain = judged_by_patient(np.array([[1.0, 0.0]] * 3), np.array([0, 0, 1]), np.array([0, 0, 0]))
    assert np.isfinite(certain).all()
    assert certain[:, 0] == pytest.approx(1)


def test_the_rate_of_wrong_labels_is_counted_in_patients_with_three_images():
    assert wrong_rate(np.array([0, 0, 1, 2, 2, 2, 0, 1]), np.array([0, 0, 0, 1, 1, 1, 2, 2])) == pytest.approx(1 / 6)
    assert wrong_rate(np.array([0, 0, 0, 2, 2, 2]), np.array([0, 0, 0, 1, 1, 1])) == pytest.approx(0.5 / 6)
    assert wrong_rate(np.array([0, 1]), np.array([0, 1])) == 0.05


def test_agreement_is_1_for_shared_classes_0_by_chance_and_unknown_of_few_images():
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(500), 4)
    assert agreement(np.repeat(rng.integers(0, 3, 500), 4), patients) == 1
    assert abs(agreement(rng.integers(0, 3, 2000), patients)) < 0.05
    assert np.isnan(agreement(np.arange(2000) % 3, np.arange(2000)))
    assert np.isnan(agreement(np.zeros(2000, int), patients))
    few = np.repeat(np.arange(LEAST_IMAGES // 2), 2)
    assert agreement(few % 2, few) == 1
    assert np.isnan(agreement(few[:-2] % 2, few[:-2]))
    # one of four labels differs: of the ordered pairs of a patient's images half share their class, as by chance .625
    pairs = agreement(np.tile([0, 0, 0, 1], 10), np.repeat(np.arange(10), 4))
    assert pairs == pytest.approx((0.5 - 0.625) / (1 - 0.625))


def planted(rng, patients=150, images=4, wrong=0.05):
    """Probabilities of a network that is right in about three of four, labels of which some are wrong, and which."""
    true = np.repeat(rng.integers(0, 4, patients), images)
    logits = rng.normal(0, 1, (len(true), 4)) + 1.6 * np.eye(4)[true]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    errors = rng.random(len(true)) < wrong
    given = np.where(errors, (true + rng.integers(1, 4, len(true))) % 4, true)
    return p, given, np.repeat(np.arange(patients), images), errors


def precision(p, given, patients, errors, by):
    names = [f"{i:04}.png" for i in range(len(p))]
    found, note = rank_suspects(
        p, np.eye(4)[given], list("abcd"), "softmax", images=names, patients=[f"P{k}" for k in patients],
        folds=[0] * len(p), by=by,
    )  # fmt: skip
    score = {one.image: one.score for one in found}
    return average_precision_score(errors, [-score[name] for name in names]), note


@pytest.mark.parametrize("seed", range(3))
def test_planted_errors_are_found_by_patients_that_single_images_hide(seed):
    sample = planted(np.random.default_rng(seed))
    alone, note = precision(*sample, "image")
    assert note == ""
    shared, note = precision(*sample, "auto")
    assert "by=image" in note
    assert precision(*sample, "patient")[0] == shared
    assert alone < 0.6
    assert shared > 0.9


def test_where_images_of_a_patient_differ_each_is_judged_by_itself():
    rng = np.random.default_rng(0)
    p, given, _, errors = planted(rng)
    others = rng.permutation(np.repeat(np.arange(150), 4))
    assert precision(p, given, others, errors, "auto") == precision(p, given, others, errors, "image")


def test_labels_of_sigmoids_are_not_those_of_patients():
    about = {"images": ["a", "b"], "patients": ["P", "P"], "folds": [0, 0]}
    with pytest.raises(ConfigError, match="needs a softmax"):
        rank_suspects(np.full((2, 2), 0.5), np.eye(2), ["x", "y"], "sigmoid", by="patient", **about)
