"""IoU over the pixels of all images together, against counts of pixels."""

import numpy as np
import pytest

from phalanx.errors import DataError
from phalanx.masks.stack import Stack, any_class
from phalanx.scoring.iou import pooled_iou
from phalanx.submission.table import Submission


def submission(maps, classes, exclusive=True, sizes=True):
    stacks = {
        name: Stack.of_masks([array == c + 1 if exclusive else array >> c & 1 == 1 for c in range(len(classes))])
        for name, array in maps.items()
    }
    return Submission.of(stacks, classes, {name: array.shape for name, array in maps.items()} if sizes else None)


@pytest.mark.parametrize("exclusive", [True, False])
def test_counts_of_all_images_are_added_before_they_are_divided(exclusive):
    rng = np.random.default_rng(0)
    shapes = {"a": (7, 9), "b": (20, 5), "c": (6, 6)}
    maps, truth = ({name: rng.integers(0, 4, shape) for name, shape in shapes.items()} for _ in range(2))
    truth["c"][:] = 0  # background alone
    classes = ["x", "y"] if not exclusive else ["x", "y", "z"]
    found = pooled_iou(submission(maps, classes, exclusive), submission(truth, classes, exclusive))
    a, b = (np.concatenate([one[name].ravel() for name in shapes]) for one in (maps, truth))
    expected = {"background": np.sum((a == 0) & (b == 0)) / np.sum((a == 0) | (b == 0))}
    for c, name in enumerate(classes):
        one, other = (a == c + 1, b == c + 1) if exclusive else (a >> c & 1 == 1, b >> c & 1 == 1)
        expected[name] = np.sum(one & other) / np.sum(one | other)
    assert found == pytest.approx(expected)


def test_a_collapse_to_background_scores_its_fraction_and_nothing_else():
    truth = np.zeros((10, 10), int)
    truth[:2, :2] = 1
    maps = {"a": np.zeros((10, 10), int)}
    found = pooled_iou(submission(maps, ["normal", "diseased"]), submission({"a": truth}, ["normal", "diseased"]))
    assert found == {"background": 0.96, "normal": 0.0, "diseased": 1.0}  # nobody has a diseased pixel


def test_a_size_that_is_not_known_is_refused():
    maps = {"a": np.eye(3, dtype=int)}
    one = submission(maps, ["x"], sizes=False)
    with pytest.raises(DataError, match="size of a is not known"):
        pooled_iou(one, one)


def test_the_pixels_of_any_class_are_joined():
    masks = np.random.default_rng(1).random((4, 9, 11)) < 0.3
    stack = Stack.of_masks(list(masks))
    assert np.array_equal(Stack.of_runs([any_class(stack)]).masks((9, 11))[0], masks.any(0))
    assert len(any_class(Stack.of_masks([np.zeros((2, 2), bool)]))) == 0
