"""F1 at an IoU: the two published tables, and each rule for what the name leaves open."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phalanx.config import validate_as
from phalanx.config.f1_iou import F1AtIoU
from phalanx.errors import ConfigError, DataError
from phalanx.masks.stack import Stack
from phalanx.scoring.f1_iou import FIGURES, f1_of_boxes, f1_of_masks
from phalanx.scoring.mask_counts import MaskCounts, counts_of_maps, counts_of_stacks
from phalanx.submission.boxes import Boxes

CLASSES = ("normal", "diseased")
NORMAL, DISEASED = 1, 2  # labels
# TP FP FN TN, then accuracy, precision, recall and F1, as published; and the IoU threshold
AB01 = ((127, 57, 31, 339), (0.84, 0.69, 0.80, 0.74), 0.5)
CH02 = ((80, 33, 31, 801), (0.93, 0.71, 0.72, 0.71), 0.25)


def rule(**options):
    return validate_as(F1AtIoU, {"positive": "diseased", "negative": "normal", **options})


def organ(label, columns):
    """A label map with an organ of some columns; its IoU with one of 20 is columns / 20."""
    labels = np.zeros((8, 40), np.uint8)
    labels[:, :columns] = label
    return labels


def published_maps(table, iou):
    """Label maps that lead to a table, the IoU of what is found just at the threshold, of what is not just below."""
    tp, fp, fn, tn = table
    truth, predicted = [], []
    for count, (label, called, columns) in (
        (tp, (DISEASED, DISEASED, 20)),
        (fp, (NORMAL, DISEASED, 20)),
        (fn, (DISEASED, None, 0)),
        (tn, (NORMAL, NORMAL, 20)),
    ):
        for number in range(count):
            truth.append(organ(label, 20))
            if called is not None:
                predicted.append(organ(called, int(20 * iou) if number % 2 and label == DISEASED else columns))
            elif number % 3 == 0:  # missed: called normal, below the threshold, or nothing at all
                predicted.append(organ(NORMAL, 20))
            else:
                predicted.append(organ(DISEASED, int(20 * iou) - 1) if number % 3 == 1 else organ(0, 0))
    return truth, predicted


def score_maps(truth, predicted, with_rule=None, **options):
    counts = [counts_of_maps(a, b, 2) for a, b in zip(truth, predicted, strict=True)]
    stacked = MaskCounts(*map(np.stack, zip(*counts, strict=True)))
    return f1_of_masks("maps", with_rule or rule(), CLASSES, [f"i{k}" for k in range(len(truth))], stacked, **options)


@pytest.mark.parametrize(("table", "figures", "iou"), [AB01, CH02], ids=["Ab01", "Ch02"])
def test_the_published_tables_follow_from_label_maps(table, figures, iou):
    score = score_maps(*published_maps(table, iou), rule(iou=iou))
    assert len(score.images) == sum(table)
    assert tuple(score.counts()) == table
    assert tuple(round(score.value(name), 2) for name in FIGURES) == figures
    assert (score.cells().sum(axis=1) == 1).all()
    assert score.counts().tp + score.counts().fn == {554: 158, 945: 111}[sum(table)]


@pytest.mark.parametrize(("table", "figures", "iou"), [AB01, CH02], ids=["Ab01", "Ch02"])
def test_the_published_tables_follow_from_boxes(table, figures, iou):
    def box(columns, label, score=0.9):
        return Boxes.of([[0, 0, columns, 8]], [score], [label])

    tp, fp, fn, tn = table
    truth = [box(20, 1)] * tp + [box(20, 0)] * fp + [box(20, 1)] * fn + [box(20, 0)] * tn
    missed = [box(20, 0), box(20 * iou - 0.01, 1), Boxes.of(), box(20, 1, 0.4)]
    predicted = [box(20 * iou, 1)] * tp + [box(20, 1)] * fp + [missed[k % 4] for k in range(fn)] + [box(20, 0)] * tn
    images = [f"i{k}" for k in range(sum(table))]
    score = f1_of_boxes("boxes", rule(iou=iou), CLASSES, images, predicted, truth)
    assert tuple(score.counts()) == table
    assert tuple(round(score.value(name), 2) for name in FIGURES) == figures


def test_one_threshold_for_all_diseases_changes_the_table():
    truth, predicted = published_maps(*CH02[::2])
    assert score_maps(truth, predicted, rule(iou=0.25)).counts().tp == 80
    assert score_maps(truth, predicted, rule(iou=0.5)).counts().tp == 40
    curve = score_maps(truth, predicted).curve(np.array([0.2, 0.25, 0.5]))
    assert [row["tp"] for row in curve] == [90, 80, 40]
    assert curve[2]["f1"] == pytest.approx(2 * 40 / (2 * 40 + 33 + 71))


def test_a_disease_below_the_iou_is_missed_and_perhaps_a_false_alarm_too():
    truth, predicted = [organ(DISEASED, 20)], [organ(DISEASED, 9)]
    assert tuple(score_maps(truth, predicted).counts()) == (0, 0, 1, 0)
    both = score_maps(truth, predicted, rule(below="fn_and_fp"))
    assert tuple(both.counts()) == (0, 1, 1, 0)
    assert (both.images_of("fp"), both.images_of("fn")) == (["i0"], ["i0"])
    assert tuple(score_maps(truth, [organ(NORMAL, 20)], rule(below="fn_and_fp")).counts()) == (0, 0, 1, 0)


def test_an_image_with_both_classes_is_decided_by_the_rule():
    mixed = organ(NORMAL, 20)
    mixed[:, :8] = DISEASED
    healthy, ill = organ(NORMAL, 20), organ(DISEASED, 20)
    cells = {both: tuple(score_maps([healthy], [mixed], rule(both=both)).counts()) for both in ("any", "larger_area")}
    assert cells == {"any": (0, 1, 0, 0), "larger_area": (0, 0, 0, 1)}
    sure, unsure = (
        score_maps([healthy], [mixed], rule(both="most_confident"), confidence=np.array([pair]))
        for pair in ([0.6, 0.9], [0.9, 0.6])
    )
    assert (tuple(sure.counts()), tuple(unsure.counts())) == ((0, 1, 0, 0), (0, 0, 0, 1))
    # of a diseased image: called normal it is missed, however well the disease is outlined
    mixed[:, :10] = DISEASED
    assert score_maps([ill], [mixed], rule(both="larger_area", iou=0.5)).counts().tp == 1  # of equals the disease
    mixed[:, 9] = NORMAL
    assert tuple(score_maps([ill], [mixed], rule(both="larger_area", iou=0.4)).counts()) == (0, 0, 1, 0)
    assert tuple(score_maps([ill], [mixed], rule(both="any", iou=0.4)).counts()) == (1, 0, 0, 0)


def test_most_confident_needs_confidences():
    with pytest.raises(ConfigError, match="no confidence; use any or larger_area"):
        score_maps([organ(1, 20)], [organ(1, 20)], rule(both="most_confident"))


def test_an_image_without_a_predicted_disease_is_negative_whatever_else_it_has():
    for predicted in (organ(NORMAL, 3), organ(0, 0)):
        assert tuple(score_maps([organ(NORMAL, 20)], [predicted]).counts()) == (0, 0, 0, 1)
        assert tuple(score_maps([organ(DISEASED, 20)], [predicted]).counts()) == (0, 0, 1, 0)


def boxes_score(predicted, truth, **options):
    return f1_of_boxes("boxes", rule(**options), CLASSES, ["i"], [Boxes.of(*predicted)], [Boxes.of(*truth)])


def test_the_boxes_that_decide_an_image_also_place_its_disease():
    truth = ([[0, 0, 10, 10]], None, [1])
    two = ([[0, 0, 10, 10], [20, 0, 40, 20]], [0.6, 0.8], [1, 1])  # the small one is right, the large one surer
    assert boxes_score(two, truth).counts().tp == 1
    for both in ("larger_area", "most_confident"):
        assert boxes_score(two, truth, both=both).counts().fn == 1
    mixed = ([[0, 0, 10, 10], [20, 0, 40, 20]], [0.8, 0.6], [1, 0])
    assert boxes_score(mixed, truth, both="most_confident").counts().tp == 1
    assert boxes_score(mixed, truth, both="larger_area").counts().fn == 1
    assert boxes_score(([[0, 0, 10, 10]] * 2, [0.8, 0.8], [0, 1]), truth, both="most_confident").counts().tp == 1
    assert boxes_score(([[0, 0, 10, 10]] * 2, [0.8, 0.8], [0, 1]), truth, both="larger_area").counts().tp == 1


def test_of_several_objects_one_that_is_found_is_enough():
    hips = ([[0, 0, 10, 10], [30, 0, 40, 10]], None, [1, 1])
    found = boxes_score(([[30, 0, 40, 10]], [0.9], [1]), hips)
    assert found.counts().tp == 1
    assert found.class_iou["diseased"] == 0.5
    lesions = validate_as(F1AtIoU, {"positive": "diseased"})
    alone = f1_of_boxes("b", lesions, CLASSES, ["i"], [Boxes.of()], [Boxes.of()])
    assert tuple(alone.counts()) == (0, 0, 0, 1)
    assert np.isnan(alone.class_iou["diseased"])


def test_objects_to_ignore_do_not_make_an_image_diseased():
    ignored = Boxes.of([[0, 0, 10, 10]], None, [1], [True])
    score = f1_of_boxes("b", rule(), CLASSES, ["i"], [Boxes.of()], [ignored])
    assert score.counts().tn == 1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31))
def test_submissions_and_label_maps_count_alike(seed):
    rng = np.random.default_rng(seed)
    maps = [(rng.random((9, 11)) < rng.random()) * rng.integers(0, 3, (9, 11)) for _ in range(2)]
    stacks = [Stack.of_masks([labels == 1, labels == 2]) for labels in maps]
    by_map, by_stack = counts_of_maps(*maps, 2), counts_of_stacks(*stacks, 99)
    for one, other in zip(by_map, by_stack, strict=True):
        assert one.tolist() == other.tolist()
    unsized = counts_of_stacks(*stacks, None)
    assert np.isnan(unsized.shared[2])
    assert unsized.shared[:2].tolist() == by_map.shared[:2].tolist()


def test_class_iou_is_of_all_pixels_together():
    score = score_maps([organ(NORMAL, 20), organ(DISEASED, 20)], [organ(NORMAL, 10), organ(DISEASED, 20)])
    assert score.class_iou == {"background": (160 + 160) / (240 + 160), "normal": 0.5, "diseased": 1.0}


def test_intervals_are_over_patients_and_json_is_whole():
    truth, predicted = published_maps(*AB01[::2])
    patients = [f"p{k // 3}" for k in range(len(truth))]
    score = score_maps(truth, predicted, patients=patients)
    low, high = score.intervals["f1"]
    assert low < score.value("f1") < high
    values = json.loads(json.dumps(score.to_json()))
    assert (values["tp"], values["patients"], len(values["curve"])) == (127, 185, 19)
    assert values["per_image"]["i0"] == {"cells": ["tp"], "iou": 1.0}
    assert "0.7427" in score.to_text()
    assert score_maps(truth, predicted, patients=["p"] * len(truth)).intervals["f1"] is None


def test_rules_that_cannot_work_are_refused():
    for options, why in (
        ({"negative": "diseased"}, "is the positive class too"),
        ({"negative": None, "both": "larger_area"}, "chooses between two classes"),
        ({"iou": 0}, "iou=0"),
        ({"iou": 1.5}, "iou=1.5"),
        ({"both": "all"}, "both='all'"),
        ({"below": "fp"}, "below='fp'"),
        ({"positiv": "x"}, "did you mean positive"),
    ):
        with pytest.raises(ConfigError, match=why):
            rule(**options)
    with pytest.raises(ConfigError, match=r"f1_iou\.positive=disease: is not a class of maps; did you mean diseased"):
        score_maps([organ(1, 20)], [organ(1, 20)], rule(positive="disease"))
    with pytest.raises(DataError, match="no images"):
        f1_of_boxes("b", rule(), CLASSES, [], [], [])
    with pytest.raises(DataError, match="one size"):
        counts_of_maps(np.zeros((2, 2), int), np.zeros((2, 3), int), 2)
    with pytest.raises(DataError, match="labels 0 to 3"):
        counts_of_maps(np.zeros((1, 2), int), np.array([[0, 3]]), 2)
