"""Fusion of boxes: the formulas of the paper by hand, its controls, and what does not depend on chance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.scoring.random_boxes import predicted_of, submission, truth_of

from phalanx.errors import DataError
from phalanx.masks.box_geometry import BoxView, pairwise_iou
from phalanx.scoring.boxes import score_boxes
from phalanx.submission.boxes import Boxes
from phalanx.voting.boxes import fuse, fuse_views

A, B, FAR = [0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]


def one(corners, score, label=0):
    return Boxes.of([corners], [score], [label])


def test_corners_are_the_mean_weighted_by_score():
    found = fuse([one(A, 0.9), one(B, 0.6)])
    assert np.allclose(found.corners, [(np.array(A) * 0.9 + np.array(B) * 0.6) / 1.5])
    assert found.scores.tolist() == pytest.approx([0.75])


@pytest.mark.parametrize(
    ("scores", "both", "single", "three"),
    [
        ("mean", 0.75, 0.4, 0.7),  # three boxes of two members: the mean
        ("sum", 0.75, 0.4, 1.0),  # 1.05, at most 1
        ("average", 0.75, 0.8, 0.7),
        ("max", 0.9, 0.8, 0.9),
    ],
)
def test_scores_combine_as_documented(scores, both, single, three):
    members = [Boxes.of([A, FAR], [0.9, 0.8]), one(B, 0.6)]
    assert fuse(members, scores=scores).scores.tolist() == pytest.approx(sorted([both, single], reverse=True))
    doubled = [Boxes.of([A, A], [0.9, 0.6]), one(B, 0.6)]
    assert fuse(doubled, scores=scores).scores.tolist() == pytest.approx([three])


def test_sums_divided_by_members_are_means_unless_a_member_has_several_boxes():
    rng = np.random.default_rng(0)
    truth = truth_of(rng, 30)
    members = [[boxes.chosen(np.unique(boxes.classes, return_index=True)[1]) for boxes in predicted_of(rng, truth)]
               for _ in range(3)]  # fmt: skip
    for image in zip(*members, strict=True):
        mean, total = (fuse(image, scores=scores) for scores in ("mean", "sum"))
        assert np.allclose(mean.scores, total.scores)


def test_weights_count_as_members_do():
    members = [one(A, 0.9), one(B, 0.6)]
    twice = fuse([members[0], members[0], members[1]])
    weighted = fuse(members, [2, 1])
    assert np.allclose(twice.corners, weighted.corners)
    assert weighted.scores.tolist() == pytest.approx([(2 * 0.9 + 0.6) / 3])
    alone = fuse([one(A, 0.9), Boxes.of()], [3, 1])
    assert alone.scores.tolist() == pytest.approx([0.9 * 3 / 4])
    for scores in ("mean", "sum", "average", "max"):
        same = [fuse(members, given, scores=scores) for given in ([2, 1], [4, 2])]
        assert np.allclose(same[0].scores, same[1].scores)


def test_only_boxes_of_one_class_that_overlap_enough_are_one():
    assert len(fuse([one(A, 0.9), one(A, 0.9, 1)]).scores) == 2
    overlap = pairwise_iou(np.array([A], float), np.array([B], float))[0, 0]
    assert len(fuse([one(A, 0.9), one(B, 0.8)], iou=overlap).scores) == 2  # not more than the threshold
    assert len(fuse([one(A, 0.9), one(B, 0.8)], iou=overlap - 1e-9).scores) == 1


def test_a_cluster_moves_and_the_nearest_one_is_joined():
    shifted = [3, 0, 13, 10]  # overlaps A by 7/13 = .54, and the fused box of A and B by more
    found = fuse([one(A, 0.9), one(B, 0.9), one(shifted, 0.3)])
    assert len(found.scores) == 1
    two = [Boxes.of([[0, 0, 10, 10], [4, 0, 14, 10]], [0.9, 0.8]), one([3, 0, 13, 10], 0.5)]
    joined = fuse(two, iou=0.5)
    assert sorted(joined.corners[:, 0].tolist()) == pytest.approx([0, (4 * 0.8 + 3 * 0.5) / 1.3])


def test_suppression_keeps_the_best_box_or_lowers_the_rest():
    members = [one(A, 0.9), Boxes.of([B, FAR], [0.6, 0.5])]
    hard = fuse(members, method="nms")
    assert (hard.corners.tolist(), hard.scores.tolist()) == ([A, FAR], [0.9, 0.5])
    assert len(fuse(members, method="nms", iou=0.9).scores) == 3
    soft = fuse(members, method="soft_nms")
    overlap = 9 / 11
    assert soft.scores.tolist() == pytest.approx([0.9, 0.5, 0.6 * np.exp(-(overlap**2) / 0.5)])
    weighted = fuse(members, [1, 2], method="nms")
    assert (weighted.corners.tolist(), weighted.scores.tolist()) == ([B, FAR], [0.6, 0.5])
    same = fuse([one(A, 0.9)] * 5, method="soft_nms")
    assert same.scores.tolist() == pytest.approx([0.9 * np.exp(-2 * k) for k in range(4)])  # the fifth is below .001


def test_what_is_left_out_or_empty():
    assert len(fuse([Boxes.of(), Boxes.of()]).scores) == 0
    assert len(fuse([one(A, 0.3)], min_score=0.4).scores) == 0
    zero = fuse([one(A, 0.0), one(B, 0.0)])
    assert zero.scores.tolist() == [0]
    assert np.isfinite(zero.corners).all()
    for wrong in ({"weights": [1, 0]}, {"weights": [1]}, {"weights": [1, float("nan")]}, {"iou": 0}, {"iou": 1.5}):
        with pytest.raises(DataError, match=r"weights|iou"):
            fuse([one(A, 0.9), one(B, 0.9)], **wrong)
    with pytest.raises(DataError, match="at least one member"):
        fuse([])


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sampled_from(["wbf", "nms", "soft_nms"]),
    st.sampled_from(["mean", "sum", "average", "max"]),
)
def test_a_fusion_depends_neither_on_the_order_of_members_nor_of_boxes(seed, method, scores):
    rng = np.random.default_rng(seed)
    truth = truth_of(rng, 1)
    members = [predicted_of(rng, truth)[0] for _ in range(3)]
    found = fuse(members, [1, 2, 3], method=method, scores=scores)
    shuffled = [boxes.chosen(rng.permutation(len(boxes.scores))) for boxes in members]
    again = fuse(shuffled[::-1], [3, 2, 1], method=method, scores=scores)
    assert np.array_equal(found.corners, again.corners)
    assert np.array_equal(found.scores, again.scores)
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    assert (found.corners[:, 2:] > found.corners[:, :2]).all()


def test_one_member_without_overlaps_is_left_as_it_is():
    boxes = Boxes.of([A, FAR], [0.9, 0.8], [1, 0])
    for method in ("wbf", "nms", "soft_nms"):
        found = fuse([boxes], method=method)
        assert np.allclose(found.corners, boxes.corners)
        assert np.allclose(found.scores, boxes.scores)
        assert found.classes.tolist() == [1, 0]


def test_fusing_noisy_members_is_better_than_each_and_than_suppression():
    rng = np.random.default_rng(1)
    truth = truth_of(rng, 80)
    members = []
    for _ in range(5):
        rows = []
        for boxes in truth:
            seen = boxes.chosen(rng.random(len(boxes.scores)) < 0.8)
            moved = seen.corners + rng.normal(0, 1, seen.corners.shape)
            rows.append(Boxes.of(moved, rng.uniform(0.4, 0.9, len(moved)), seen.classes))
        members.append(rows)
    gold = submission(truth)

    def ap(rows):
        return score_boxes(submission(rows), gold).value("map")

    fused = {
        method: ap([fuse(image, method=method) for image in zip(*members, strict=True)]) for method in ("wbf", "nms")
    }
    assert fused["wbf"] > fused["nms"] + 0.05
    assert fused["wbf"] > max(map(ap, members)) + 0.1


@settings(max_examples=30, deadline=None)
@given(st.booleans(), st.booleans(), st.integers(0, 3), st.integers(0, 2**31))
def test_views_move_boxes_as_they_move_pixels_and_back(hflip, vflip, turns, seed):
    rng = np.random.default_rng(seed)
    height, width = 7, 11
    view = BoxView(hflip, vflip, turns)
    x, y = np.sort(rng.choice(width + 1, 2, replace=False)), np.sort(rng.choice(height + 1, 2, replace=False))
    box = np.array([[x[0], y[0], x[1], y[1]]], float)
    pixels = np.zeros((height, width), bool)
    pixels[y[0] : y[1], x[0] : x[1]] = True
    shown = pixels[:, ::-1] if hflip else pixels
    shown = np.rot90(shown[::-1] if vflip else shown, turns)
    rows, columns = np.nonzero(shown)
    there = view.apply(box, (height, width))
    assert there.tolist() == [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]
    assert np.array_equal(view.invert(there, (height, width)), box)


def test_boxes_of_views_are_mapped_back_and_fused_and_sides_change_places():
    left = one([0, 0, 10, 10], 0.9, 0)
    seen = one([90, 0, 100, 10], 0.7, 1)  # in the mirrored image the left side is called right
    views = [BoxView(), BoxView(hflip=True)]
    found = fuse_views([left, seen], views, (50, 100), mirror=[1, 0])
    assert (found.corners.tolist(), found.classes.tolist()) == ([[0, 0, 10, 10]], [0])
    assert found.scores.tolist() == pytest.approx([0.8])
    assert len(fuse_views([left, seen], views, (50, 100)).scores) == 2
    with pytest.raises(DataError, match="views"):
        fuse_views([left], views, (50, 100))
