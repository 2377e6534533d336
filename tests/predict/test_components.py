"""Parts and holes against scipy.ndimage, whole frames against boxes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from phalanx.predict.components import Cleaning, filled, parts
from phalanx.predict.maps import box_of

EIGHT = np.ones((3, 3))


def mask_of(seed, density):
    height, width = np.random.default_rng(seed).integers(1, 30, 2)
    return np.random.default_rng(seed).random((height, width)) < density


def slow(mask, smallest, largest, holes):
    labels, count = ndimage.label(mask, EIGHT)
    sizes = [int((labels == i).sum()) for i in range(1, count + 1)]
    out = np.zeros_like(mask)
    for i, size in enumerate(sizes, 1):
        if size >= smallest and (not largest or i == 1 + sizes.index(max(sizes))):
            out |= labels == i
    return ndimage.binary_fill_holes(out) if holes else out


@given(st.integers(0, 10**6), st.floats(0, 1), st.sampled_from([0, 1, 3, 9]), st.booleans(), st.booleans())
def test_cleaning_is_what_scipy_does_also_within_a_box(seed, density, smallest, largest, holes):
    mask = mask_of(seed, density)
    expected = slow(mask, smallest, largest, holes)
    cleaning = Cleaning(smallest=smallest, largest=largest, holes=holes)
    np.testing.assert_array_equal(cleaning(mask), expected)
    box = box_of(mask)
    if all(box.shape):
        framed = np.zeros_like(mask)
        framed[box.slices] = cleaning(mask[box.slices])
        np.testing.assert_array_equal(framed, expected)


@pytest.mark.parametrize("value", [False, True])
def test_empty_and_full_masks(value):
    mask = np.full((4, 6), value)
    for cleaning in (Cleaning(smallest=3), Cleaning(largest=True), Cleaning(holes=True)):
        np.testing.assert_array_equal(cleaning(mask), mask)
    assert parts(mask)[1].tolist() == ([24] if value else [])
    assert not Cleaning(smallest=25)(mask).any()


def test_a_bay_is_no_hole():
    ring = np.ones((5, 5), bool)
    ring[1:4, 1:4] = False
    assert filled(ring).all()
    ring[0, 2] = False
    np.testing.assert_array_equal(filled(ring), ring)
