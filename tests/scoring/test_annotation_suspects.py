"""Planted errors of annotations come first, whatever the kind; a good annotation has no reason."""

import cv2
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from phalanx.masks.stack import Stack
from phalanx.phantom.anatomy import FINGERS
from phalanx.scoring.annotation_suspects import (
    MaskEvidence,
    doubts_of_boxes,
    doubts_of_masks,
    order_of,
    overlaps_of,
    pixel_confidence,
    words,
)
from phalanx.scoring.surface import surface_scores
from phalanx.submission.boxes import Boxes

CLASSES = [*FINGERS, "Radius", "Ulna"]
SIZE = (160, 200)


def hand(rng):
    """Masks bool[C, H, W]: fingers of bones above a wrist, all a little elsewhere in each image."""
    masks = np.zeros((len(CLASSES), *SIZE), np.uint8)
    shift = rng.integers(-4, 5, 2)
    rays = [(3, 2, 1), (7, 6, 5, 4), (11, 10, 9, 8), (15, 14, 13, 12), (19, 18, 17, 16)]
    for column, ray in enumerate(rays):
        for level, bone in enumerate(ray):
            centre = (30 + 34 * column + int(shift[0]) + int(rng.integers(-2, 3)), 112 - 28 * level + int(shift[1]))
            cv2.ellipse(masks[bone - 1], centre, (7, 11), 0, 0, 360, 1, -1)
    for c, x in ((len(CLASSES) - 2, 75), (len(CLASSES) - 1, 125)):
        cv2.ellipse(masks[c], (x + int(shift[0]), 146), (16, 10), 0, 0, 360, 1, -1)
    return masks.astype(bool)


def predicted(masks, rng):
    """As a network would: borders a pixel or two off, now and then a bone half missed."""
    made = np.zeros_like(masks)
    for c, mask in enumerate(masks):
        move = np.float32([[1, 0, rng.integers(-2, 3)], [0, 1, rng.integers(-2, 3)]])
        made[c] = cv2.warpAffine(mask.astype(np.uint8), move, SIZE[::-1]) > 0
        if rng.random() < 0.02:
            made[c, : int(np.median(np.nonzero(mask)[0]))] = False
    return made


def plant(masks, rng):
    """Planted errors in place; the classes that are wrong."""
    kind = rng.choice(["swap", "drop", "shift", "invent"])
    a, b = rng.choice(len(FINGERS), 2, replace=False).tolist()
    if kind == "swap":
        masks[[a, b]] = masks[[b, a]]
        return {a, b}
    if kind == "drop":
        masks[a] = False
    elif kind == "shift":
        masks[a] = np.roll(masks[a], 14, axis=int(rng.integers(2)))
    else:  # the outline of another place
        masks[a] = np.roll(masks[b], 20, axis=1)
    return {a}


def evidence(truth, made):
    stacks = Stack.of_masks(truth), Stack.of_masks(made)
    surface = surface_scores(*stacks, SIZE, 2.0)[:, 0]
    nothing = np.full(len(CLASSES), np.nan)
    overlaps, order = overlaps_of(*stacks), order_of(stacks[0], CLASSES, SIZE[1])
    return MaskEvidence(overlaps, stacks[0].areas, stacks[1].areas, surface, nothing, order)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_planted_errors_of_hands_have_an_average_precision_of_90_percent(seed):
    rng = np.random.default_rng(seed)
    found, wrong = [], set()
    for image in range(24):
        truth = hand(rng)
        made = predicted(truth, rng)
        if image % 4 == 0:
            wrong |= {(image, c) for c in plant(truth, rng)}
        found.append(evidence(truth, made))
    ranked = doubts_of_masks(found)
    planted = [(one.image, one.label) in wrong for one in ranked]
    assert sum(planted) == len(wrong)
    assert average_precision_score(planted, [one.score for one in ranked]) >= 0.9


def test_reasons_name_what_was_planted():
    rng = np.random.default_rng(7)
    hands = [hand(rng) for _ in range(6)]
    pairs = [(truth.copy(), predicted(truth, rng)) for truth in hands]
    pairs[0][0][[4, 9]] = pairs[0][0][[9, 4]]
    pairs[1][0][6] = False
    pairs[2][1][8] = False
    ranked = doubts_of_masks([evidence(*pair) for pair in pairs])
    by_place = {(one.image, one.label): one for one in ranked}
    swapped = by_place[0, 4]
    assert swapped.reasons["swap"] > 0.5
    assert (swapped.other, by_place[0, 9].other) == (9, 4)
    assert any("finger-10" in text for text in words(swapped, CLASSES))
    assert set(by_place[1, 6].reasons) == {"missing"}
    assert "extra" in by_place[2, 8].reasons
    assert {(one.image, one.label) for one in ranked[:4]} == {(0, 4), (0, 9), (1, 6), (2, 8)}


def test_what_is_annotated_where_another_class_is_predicted_is_named():
    rng = np.random.default_rng(9)
    pairs = [(truth.copy(), predicted(truth, rng)) for truth in [hand(rng) for _ in range(6)]]
    truth = pairs[0][0]
    truth[8], truth[12] = truth[12], False  # finger-13 is annotated as finger-9, which the network does not see there
    pairs[0][1][8] = False
    pairs[1][0][6] = False  # not annotated at all
    by_place = {(one.image, one.label): one for one in doubts_of_masks([evidence(*pair) for pair in pairs])}
    assert by_place[0, 12].instead == 8
    assert words(by_place[0, 12], CLASSES)[0].startswith("predicted, but finger-9 is annotated (0.")
    assert by_place[1, 6].instead == -1
    assert words(by_place[1, 6], CLASSES)[0].startswith("predicted, but not annotated (0.")


def test_bones_of_a_finger_are_ordered_from_the_wrist():
    truth = hand(np.random.default_rng(1))
    assert not order_of(Stack.of_masks(truth), CLASSES, SIZE[1]).any()
    truth[[4, 5]] = truth[[5, 4]]  # finger-5 and finger-6
    assert np.flatnonzero(order_of(Stack.of_masks(truth), CLASSES, SIZE[1])).tolist() == [4, 5]
    assert not order_of(Stack.of_masks(np.zeros_like(truth)), CLASSES, SIZE[1]).any()


def test_overlaps_are_the_dice_of_each_pair():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 3, 20, 30)) > 0.6
    b[1] = False
    found = overlaps_of(Stack.of_masks(a), Stack.of_masks(b))
    slow = [[2 * (x & y).sum() / (x.sum() + y.sum()) if y.any() else np.nan for y in b] for x in a]
    np.testing.assert_allclose(found, slow)


def test_a_class_that_is_predicted_badly_everywhere_doubts_nobody():
    rng = np.random.default_rng(3)
    pairs = []
    for _ in range(6):
        truth = hand(rng)
        made = truth.copy()
        made[2] = False
        pairs.append((truth, made))
    assert all(one.score == 0 for one in doubts_of_masks([evidence(*pair) for pair in pairs]))


def test_improbable_pixels_lower_the_confidence():
    mask = np.zeros((20, 20), bool)
    mask[5:15, 5:15] = True
    good = np.where(mask, 0.9, 0.1)
    elsewhere = np.roll(good, 8, axis=1)
    assert pixel_confidence(good, mask) > 0.85
    assert pixel_confidence(elsewhere, mask) < 0.5
    assert np.isnan(pixel_confidence(good, mask & False))


def test_boxes_that_are_swapped_moved_invented_or_missing_come_first():
    good = [[10, 10, 50, 50], [60, 60, 90, 90]]
    truth, made = [], []
    for _ in range(12):
        truth.append(Boxes.of(good, classes=[0, 1]))
        made.append(Boxes.of(good, scores=[0.9, 0.85], classes=[0, 1]))
    truth[0] = Boxes.of(good, classes=[1, 1])  # swapped
    truth[1] = Boxes.of([[10, 10, 50, 50], [75, 60, 105, 90]], classes=[0, 1])  # moved
    truth[2] = Boxes.of([*good, [120, 10, 140, 30]], classes=[0, 1, 0])  # invented
    truth[3] = Boxes.of(good[:1], classes=[0])  # missing
    ranked = doubts_of_boxes(truth, made, 2)
    assert {(one.image, one.object) for one in ranked[:4]} == {(0, 0), (1, 1), (2, 2), (3, -1)}
    reasons = {one.image: one for one in ranked[:4]}
    assert reasons[0].other == 0
    assert "low" in reasons[1].reasons
    assert "extra" in reasons[2].reasons
    assert reasons[3].reasons == {"missing": 0.85}
    assert all(one.score == pytest.approx(0) for one in ranked[4:])
