"""Bit-planes against one bool plane a class."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from phalanx.masks.planes import (
    CHUNK,
    PlaneRuns,
    any_class,
    areas,
    one_class,
    pack,
    plane_count,
    present_classes,
    swap_classes,
    unpack,
)

stacks = st.tuples(st.integers(1, 40), st.integers(1, 6), st.integers(1, 6)).flatmap(lambda s: hnp.arrays(bool, s))


@settings(deadline=None)
@given(stacks)
def test_class_c_is_bit_c_mod_8_of_plane_c_div_8(stack):
    planes = pack(stack)
    expected = np.zeros((*stack.shape[1:], plane_count(len(stack))), np.uint8)
    for c, mask in enumerate(stack):
        expected[:, :, c // 8] += np.uint8(1 << c % 8) * mask
    assert planes.flags.c_contiguous  # OpenCV wants it so
    np.testing.assert_array_equal(planes, expected)


@settings(deadline=None)
@given(stacks)
def test_unpack_inverts_pack_for_all_and_for_each(stack):
    planes = pack(stack)
    np.testing.assert_array_equal(unpack(planes, len(stack)), stack)
    for c, mask in enumerate(stack):
        np.testing.assert_array_equal(one_class(planes, c), mask)


@settings(deadline=None)
@given(stacks, st.data())
def test_swap_exchanges_the_masks_and_leaves_the_planes_given_alone(stack, data):
    order = data.draw(st.permutations(range(len(stack))))
    pairs = list(zip(order[::2], order[1::2], strict=False))[: data.draw(st.integers(0, 20))]
    expected = stack.copy()
    for a, b in pairs:
        expected[[a, b]] = stack[[b, a]]
    planes = pack(stack)
    swapped = swap_classes(planes, pairs)
    np.testing.assert_array_equal(unpack(swapped, len(stack)), expected)
    np.testing.assert_array_equal(planes, pack(stack))


@pytest.mark.parametrize("classes", [8, 16, 29])
def test_swap_reaches_every_pixel_of_a_large_mask(classes):
    stack = np.random.default_rng(0).random((classes, 300, CHUNK // 300 + 7)) < 0.5
    swapped = unpack(swap_classes(pack(stack), [(0, classes - 1)]), classes)
    np.testing.assert_array_equal(swapped, stack[[classes - 1, *range(1, classes - 1), 0]])


@settings(deadline=None)
@given(stacks, st.booleans())
def test_runs_are_the_planes_in_order_and_no_two_alike_meet(stack, blank):
    planes = pack(stack & (not blank))
    runs = PlaneRuns.of(planes)
    np.testing.assert_array_equal(runs.planes(), planes)
    pixels = [tuple(pixel) for pixel in planes.reshape(-1, planes.shape[2])]
    expected = [i for i, pixel in enumerate(pixels) if i == 0 or pixel != pixels[i - 1]]
    assert runs.starts.tolist() == expected
    assert [tuple(value) for value in runs.values] == [pixels[i] for i in expected]


def test_a_view_that_is_not_contiguous_has_runs_too():
    planes = np.random.default_rng(0).integers(0, 3, (8, 9, 4), np.uint8)
    for view in (planes[:, ::-1], planes[2:6, 3:7], planes.transpose(1, 0, 2)):
        np.testing.assert_array_equal(PlaneRuns.of(view).planes(), view)


@settings(deadline=None)
@given(stacks)
def test_covered_is_where_any_class_is(stack):
    np.testing.assert_array_equal(any_class(pack(stack)), stack.any(axis=0))


@settings(deadline=None)
@given(stacks)
def test_areas_and_present_classes_are_those_of_the_masks(stack):
    planes = pack(stack)
    np.testing.assert_array_equal(areas(planes, len(stack)), stack.sum(axis=(1, 2)))
    np.testing.assert_array_equal(present_classes(planes), np.flatnonzero(stack.any(axis=(1, 2))))
