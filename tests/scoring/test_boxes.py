"""Scores of boxes: equal to pycocotools called by itself, and figures of draws equal to those of repeated images."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.scoring.random_boxes import CLASSES, predicted_of, submission, truth_of

from phalanx.errors import DataError
from phalanx.scoring.box_matches import average_precisions, match_boxes, recalls
from phalanx.scoring.boxes import compare_boxes, score_boxes
from phalanx.submission.boxes import Boxes


def by_pycocotools(predicted, truth, classes=3):
    """Precision [T, R, K] and recall [T, K] of pycocotools, through its own files and defaults; -1 if undefined."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations, found = [], []
    for i, boxes in enumerate(truth):
        for corners, label, ignore in zip(boxes.corners, boxes.classes, boxes.ignored, strict=True):
            bbox = [*corners[:2].tolist(), *(corners[2:] - corners[:2]).tolist()]
            annotations.append({"id": len(annotations) + 1, "image_id": i, "category_id": int(label), "bbox": bbox,
                                "area": bbox[2] * bbox[3], "iscrowd": int(ignore)})  # fmt: skip
    for i, boxes in enumerate(predicted):
        for corners, score, label in zip(boxes.corners, boxes.scores, boxes.classes, strict=True):
            bbox = [*corners[:2].tolist(), *(corners[2:] - corners[:2]).tolist()]
            found.append({"image_id": i, "category_id": int(label), "bbox": bbox, "score": float(score)})
    with contextlib.redirect_stdout(io.StringIO()):
        gold = COCO()
        gold.dataset = {"images": [{"id": i} for i in range(len(truth))], "annotations": annotations,
                        "categories": [{"id": c} for c in range(classes)]}  # fmt: skip
        gold.createIndex()
        run = COCOeval(gold, gold.loadRes(found), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run.eval["precision"][:, :, :, 0, -1], run.eval["recall"][:, :, 0, -1], run.stats


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 12), st.booleans(), st.booleans())
def test_average_precision_and_recall_are_those_of_pycocotools(seed, images, crowds, ties):
    rng = np.random.default_rng(seed)
    truth = truth_of(rng, images, crowds=crowds)
    predicted = [boxes.sorted() for boxes in predicted_of(rng, truth, ties=ties)]
    if not any(len(boxes.scores) for boxes in predicted):
        return  # pycocotools cannot load no boxes at all
    precision, recall, _ = by_pycocotools(predicted, truth)
    once = np.ones((1, images))
    for c, matches in enumerate(match_boxes(predicted, truth, 3)):
        if (precision[:, :, c] < 0).all():
            assert np.isnan(average_precisions(matches, once)).all()
            continue
        assert np.abs(average_precisions(matches, once)[0] - precision[:, :, c].mean(axis=1)).max() < 1e-12
        assert np.abs(recalls(matches, once)[0] - recall[:, c]).max() < 1e-12


def test_the_summary_is_that_of_pycocotools():
    rng = np.random.default_rng(3)
    truth = truth_of(rng, 40)
    predicted = predicted_of(rng, truth)
    stats = by_pycocotools([boxes.sorted() for boxes in predicted], truth)[2]
    score = score_boxes(submission(predicted), submission(truth))
    assert stats[0] > 0.1
    for metric, number in (("map", 0), ("map50", 1), ("map75", 2), ("recall", 8)):
        assert score.value(metric) == pytest.approx(stats[number], abs=1e-12)


def test_a_draw_is_the_figure_of_its_images_repeated():
    rng = np.random.default_rng(4)
    truth = truth_of(rng, 12, crowds=True)
    predicted = predicted_of(rng, truth, ties=False)
    score = score_boxes(submission(predicted), submission(truth), threshold=0.4)
    drawn = rng.multinomial(12, np.full(12, 1 / 12), size=3)
    for metric in ("map", "map50", "recall", "f1"):
        values = score.values(metric, drawn.astype(float))
        for counts, row in zip(drawn, values, strict=True):
            index = np.repeat(np.arange(12), counts)
            again = score_boxes(
                submission([predicted[i] for i in index]), submission([truth[i] for i in index]), threshold=0.4
            )
            assert np.abs(np.nan_to_num(again.figures[metric] - row)).max() < 1e-12
            assert (np.isnan(row) == np.isnan(again.figures[metric])).all()


ONE = [[0, 0, 10, 10]]


def score_of(predicted, truth, **options):
    return score_boxes(submission(predicted), submission(truth), **options)


def test_a_perfect_prediction_has_one_in_all_figures():
    rng = np.random.default_rng(5)
    truth = truth_of(rng, 20)
    score = score_of(truth, truth)
    assert all(values[0] == pytest.approx(1) for values in score.figures.values())
    assert (score.confusion == np.diag(score.confusion.diagonal())).all()
    assert score.confusion.sum() == sum(len(boxes.scores) for boxes in truth)


def test_images_without_objects_count_only_by_their_boxes():
    right = Boxes.of(ONE, [0.9])
    alone = score_of([right], [Boxes.of(ONE)])
    with_empty = score_of([right, Boxes.of()], [Boxes.of(ONE), Boxes.of()])
    invented = score_of([right, Boxes.of(ONE, [0.95])], [Boxes.of(ONE), Boxes.of()])
    assert alone.figures["map"][1] == with_empty.figures["map"][1] == pytest.approx(1)
    assert invented.figures["map"][1] == pytest.approx(0.5)
    assert [invented.counts.tp[0], invented.counts.fp[0], invented.counts.fn[0]] == [1, 1, 0]


def test_without_any_box_or_object_figures_are_zero_or_undefined():
    nothing = score_of([Boxes.of()], [Boxes.of(ONE)])
    assert nothing.value("map") == nothing.value("f1") == nothing.value("recall") == 0
    assert nothing.best_threshold() == (1.0, 0.0)
    neither = score_of([Boxes.of()], [Boxes.of()])
    assert np.isnan([neither.value(metric) for metric in ("map", "f1", "recall")]).all()
    only_boxes = score_of([Boxes.of(ONE, [0.7])], [Boxes.of()])
    assert np.isnan(only_boxes.value("map"))
    assert only_boxes.value("f1") == 0


def test_f1_follows_from_counts_at_its_threshold_and_iou():
    truth = [Boxes.of([[0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 50, 50]])]
    found = [Boxes.of([[0, 0, 10, 10], [20, 20, 30, 26], [70, 70, 80, 80], [40, 40, 50, 50]], [0.9, 0.8, 0.7, 0.3])]
    score = score_of(found, truth)
    assert [int(side[0]) for side in score.counts[:3]] == [2, 1, 1]  # the last box is below .5
    assert score.figures["f1"][0] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert score_of(found, truth, iou=0.61).figures["f1"][0] == pytest.approx(2 * 1 / (2 * 1 + 2 + 2))
    assert score.best_threshold().score == 0.3
    assert score.best_threshold("a").f1 == pytest.approx(6 / 7)
    assert score_of(found, truth, threshold=0.3).value("f1") == pytest.approx(6 / 7)
    curve = score.curve("a")
    assert curve.scores.tolist() == [0.9, 0.8, 0.7, 0.3]
    assert np.allclose(curve.precision, [1, 1, 2 / 3, 3 / 4])
    assert np.allclose(curve.recall, [1 / 3, 2 / 3, 2 / 3, 1])


def test_the_best_threshold_is_one_for_all_classes_or_of_each():
    truth = [Boxes.of([[0, 0, 10, 10], [0, 0, 10, 10]], classes=[0, 1])]
    found = [Boxes.of([[0, 0, 10, 10], [50, 0, 60, 10], [0, 0, 10, 10]], [0.9, 0.6, 0.4], [0, 0, 1])]
    score = score_of(found, truth)
    assert score.best_threshold("a") == (0.9, 1.0)
    assert score.best_threshold("b") == (0.4, 1.0)
    assert score.best_threshold() == (0.4, pytest.approx(0.8))
    assert score_of(found, truth, threshold=[0.9, 0.4, 0.5]).value("f1") == 1


def test_the_confusion_names_exchanged_sides():
    truth = [Boxes.of([[0, 0, 10, 10], [30, 0, 40, 10], [60, 0, 70, 10]], classes=[0, 1, 2])]
    found = [Boxes.of([[0, 0, 10, 10], [30, 0, 40, 10], [80, 50, 90, 60]], [0.9, 0.8, 0.7], [1, 1, 2])]
    score = score_of(found, truth)
    assert score.confusion.tolist() == [[0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]
    assert score.exchanged({"a": "b"}) == 1
    assert score.exchanged({"b": "a"}) == 1
    assert score.exchanged({"a": "c"}) == 0


def test_what_is_to_be_ignored_is_neither_right_nor_wrong():
    crowd = Boxes.of([[0, 0, 50, 50], [60, 60, 70, 70]], ignore=[True, False])
    found = Boxes.of([[0, 0, 10, 10], [20, 20, 30, 30], [60, 60, 70, 70]], [0.9, 0.9, 0.8])
    score = score_of([found], [crowd])
    assert [int(side[0]) for side in score.counts[:3]] == [1, 0, 0]
    assert score.value("map") == pytest.approx(1)
    assert score.confusion.sum() == 1


def test_intervals_are_over_patients_and_of_one_patient_none():
    rng = np.random.default_rng(6)
    truth = truth_of(rng, 16)
    predicted = predicted_of(rng, truth)
    patients = {f"im{i:03}": f"p{i // 2}" for i in range(16)}
    score = score_boxes(submission(predicted), submission(truth, patients=patients))
    low, high = score.intervals("map50")[0]
    assert low < score.value("map50") < high
    single = score_boxes(submission(predicted), submission(truth, patients=dict.fromkeys(patients, "p")))
    assert single.intervals("map50") == [None] * 4
    with pytest.raises(DataError, match="have no patient, first 'im015'"):
        score_boxes(
            submission(predicted), submission(truth, patients={k: v for k, v in patients.items() if k != "im015"})
        )


def test_a_comparison_is_paired_and_refuses_other_images():
    rng = np.random.default_rng(7)
    truth = truth_of(rng, 30)
    good, bad = truth, predicted_of(rng, truth)
    one, other = (score_boxes(submission(boxes), submission(truth)) for boxes in (bad, good))
    same = compare_boxes(one, one, "map50")
    assert (same.difference, same.interval, same.tied) == (0, (0, 0), True)
    better = compare_boxes(one, other, "map50")
    assert better.difference == pytest.approx(1 - one.value("map50"))
    assert better.interval[0] > 0
    assert not better.tied
    fewer = score_boxes(submission(bad[:9]), submission(truth[:9]))
    with pytest.raises(DataError, match="differ in images"):
        compare_boxes(one, fewer, "map50")


def test_what_cannot_be_scored_is_refused():
    boxes = [Boxes.of(ONE)]
    with pytest.raises(DataError, match="differ in images"):
        score_boxes(submission(boxes), submission(boxes * 2))
    with pytest.raises(DataError, match=r"iou 1\.5"):
        score_of(boxes, boxes, iou=1.5)
    for threshold in (-1, [0.5, 0.5], float("nan")):
        with pytest.raises(DataError, match="threshold"):
            score_of(boxes, boxes, threshold=threshold)
    with pytest.raises(DataError, match="rising"):
        match_boxes(boxes, boxes, 1, [0.7, 0.5])
    with pytest.raises(DataError, match="no such figure"):
        score_of(boxes, boxes).value("map60")
    assert score_of(boxes, boxes).classes == CLASSES
