"""Stacks from masks and bit-planes are those of their text, which is the slower truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.errors import DataError
from phalanx.masks import rle
from phalanx.masks.planes import pack
from phalanx.masks.stack import Stack


@given(st.integers(1, 19), st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_stacks_are_those_of_the_text(classes, height, width, seed):
    masks = np.random.default_rng(seed).random((classes, height, width)) < 0.4
    truth = Stack.parse([rle.encode(mask) for mask in masks], height * width)
    planes = pack(masks)
    for found in (
        Stack.of_masks(masks),
        Stack.of_planes(planes, classes),
        Stack.of_planes(planes, classes).chosen(range(classes)),
    ):
        np.testing.assert_array_equal(found.runs, truth.runs)
        np.testing.assert_array_equal(found.splits, truth.splits)
    np.testing.assert_array_equal(truth.masks((height, width)), masks)
    order = np.random.default_rng(seed).permutation(classes)
    assert truth.chosen(order).texts() == [truth.texts()[c] for c in order]


def test_empty_masks_are_stacks_too():
    found = Stack.of_masks(np.zeros((3, 2, 2), bool))
    assert found.texts() == ["", "", ""]
    assert found.runs.shape == (0, 2)
    assert found.classes == 3


def test_a_stack_is_not_painted_into_a_smaller_frame():
    found = Stack.of_masks(np.ones((2, 3, 4), bool))
    assert found.masks((3, 4)).all()
    with pytest.raises(DataError, match="has pixel 12, outside an image of 3x3"):
        found.masks((3, 3))


def test_planes_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="do not hold 9 classes"):
        Stack.of_planes(np.zeros((2, 2, 1), np.uint8), 9)
