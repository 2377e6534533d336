"""Thresholds of scores by class: those of a search by hand, cross-fitted, and what few objects do."""

import numpy as np
import pytest
from tests.scoring.random_boxes import CLASSES, predicted_of, submission, truth_of

from phalanx.scoring.box_thresholds import MIN_OBJECTS, choose_thresholds, counts_by_image, fit_thresholds
from phalanx.scoring.boxes import score_boxes
from phalanx.submission.boxes import Boxes


def scored(seed=0, images=40, patients=True):
    rng = np.random.default_rng(seed)
    truth = truth_of(rng, images)
    whose = {f"im{i:03}": f"P{i // 2}" for i in range(images)} if patients else None
    return score_boxes(submission(predicted_of(rng, truth, ties=False)), submission(truth, "truth", patients=whose))


def f1_by_hand(score, c, threshold, images):
    """F1 of a class in some images, from the library's own matches at one threshold."""
    at = score_boxes(
        submission([one.chosen(one.scores >= threshold) for one in score.predicted]), submission(score.truth, "truth"),
        threshold=0.0,
    )  # fmt: skip
    one, t = at.matches[c], at.matched_at
    here = images[one.image]
    tp = int(one.found[t][here].sum())
    return 2 * tp / max(1, int(here.sum()) + int(one.objects[images].sum()))


def test_a_class_has_the_threshold_with_the_highest_f1():
    score, half = scored(), np.arange(40) % 2 == 0
    for images in (np.ones(40, bool), half):
        found = fit_thresholds(score, images)
        for c in range(3):
            tried = np.unique(score.matches[c].scores[images[score.matches[c].image]])
            values = [f1_by_hand(score, c, threshold, images) for threshold in tried]
            assert f1_by_hand(score, c, found.own[c], images) == pytest.approx(max(values))
            assert found.own[c] == max(t for t, v in zip(tried, values, strict=True) if v == max(values))
    assert fit_thresholds(score, np.ones(40, bool)).one == score.best_threshold().score


def test_counts_of_images_are_those_of_the_score():
    score = scored(1)
    counts = counts_by_image(score, np.broadcast_to(score.thresholds, (40, 3)))
    for k, name in enumerate(("tp", "fp", "fn")):
        assert counts[..., k].sum(axis=0).tolist() == getattr(score.counts, name).tolist()


def test_what_a_threshold_is_worth_is_measured_where_it_was_not_chosen():
    score, folds = scored(2), [i % 4 // 2 for i in range(40)]  # both images of a patient in one fold
    found = choose_thresholds(score, folds)
    expected = {"one": np.zeros((3, 3)), "class": np.zeros((3, 3))}
    for fold in (0, 1):
        here = np.array(folds) == fold
        other = fit_thresholds(score, ~here)
        for name, limit in (("one", np.full(3, other.one)), ("class", other.own)):
            expected[name] += counts_by_image(score, np.broadcast_to(limit, (40, 3)))[here].sum(axis=0)
    for name, counts in expected.items():
        tp, fp, fn = counts.T
        assert found.f1[name] == pytest.approx(2 * tp / (2 * tp + fp + fn))
        assert found.mean[name] == pytest.approx(found.f1[name].mean())
    assert found.gain[0] == pytest.approx(found.mean["class"] - found.mean["one"])
    low, high = found.gain[1]
    assert low <= found.gain[0] <= high
    assert found.used == ("class" if found.gain[0] > 0 else "one")


def test_by_says_which_thresholds_are_used():
    score = scored(3)
    one, own = (choose_thresholds(score, [0] * 40, by) for by in ("one", "class"))
    assert set(one.thresholds.values()) == {score.best_threshold().score}
    assert list(own.thresholds.values()) == own.fitted.own.tolist()
    assert list(own.thresholds) == list(CLASSES)


def test_a_class_whose_scores_are_lower_gets_a_lower_threshold_and_gains():
    """Right boxes of b score .3 and wrong ones .1; of a .9 and .6: no threshold for both is right."""
    truth = [Boxes.of([[0, 0, 10, 10], [20, 20, 30, 30]], None, [0, 1]) for _ in range(20)]
    far = [[50, 50, 60, 60], [70, 70, 80, 80]]
    made = [Boxes.of([*one.corners.tolist(), *far], [0.9, 0.3, 0.6, 0.1], [0, 1, 0, 1]) for one in truth]
    patients = {f"im{i:03}": f"P{i}" for i in range(20)}
    classes = ("a", "b")
    score = score_boxes(submission(made, classes=classes), submission(truth, "t", classes, patients))
    found = choose_thresholds(score, [i % 2 for i in range(20)])
    assert found.thresholds == {"a": 0.9, "b": 0.3}
    assert found.mean["class"] == 1
    assert found.gain[1][0] > 0
    assert found.used == "class"


def test_a_rare_or_absent_class_has_the_threshold_for_all():
    rng = np.random.default_rng(4)
    truth = [boxes.chosen(boxes.classes < 2) for boxes in truth_of(rng, 40)]
    for i, boxes in enumerate(truth):  # a few of b, and none of c
        truth[i] = boxes.chosen((boxes.classes == 0) | (i < 3))
    score = score_boxes(submission(predicted_of(rng, truth)), submission(truth, "t"))
    assert 0 < score.matches[1].objects.sum() < MIN_OBJECTS
    found = choose_thresholds(score, [0] * 40, "class")
    assert found.thresholds["b"] == found.thresholds["c"] == found.fitted.one
    assert "of b, c: the threshold is that for all" in found.to_text()
    assert np.isfinite(found.mean["class"])


def test_one_patient_has_thresholds_whose_worth_is_not_known():
    score = scored(5)
    alone = score_boxes(
        submission(score.predicted), submission(score.truth, "t", patients=dict.fromkeys(score.images, "P"))
    )
    found = choose_thresholds(alone, [0] * 40)
    assert (found.used, found.f1) == ("one", {})
    assert "not known what the thresholds are worth" in found.to_text()
    assert found.to_json()["gain"] is None
