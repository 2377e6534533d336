"""Sparse maps against dense arrays: sums, means, enlargement, masks."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from phalanx.data.images import Grid
from phalanx.masks.rle import decode, encode
from phalanx.predict.maps import EMPTY, FLOOR, Box, MapsMean, MapsSum, ProbabilityMaps, box_of, stack_of_parts


def blobs(seed, classes=4, side=24):
    """float32[C, n, n] of a few soft spots each, some classes with none."""
    rng = np.random.default_rng(seed)
    out = np.zeros((classes, side, side), np.float32)
    for plane in out[: classes - 1]:
        for _ in range(rng.integers(0, 3)):
            y, x, r = map(int, rng.integers([0, 0, 1], [side, side, side // 3]))
            cv2.circle(plane, (x, y), r, float(rng.uniform(0.2, 1)), -1)
        plane[:] = cv2.GaussianBlur(plane, (0, 0), 1.5)
    return out


def test_cropping_loses_only_what_is_below_the_floor():
    dense = blobs(1)
    maps = ProbabilityMaps.of(dense)
    assert maps.boxes[-1] == EMPTY
    lost = dense - maps.dense()
    assert lost.max() < FLOOR
    assert (maps.dense()[dense >= FLOOR] == dense[dense >= FLOOR]).all()
    assert sum(v.size for v in maps.values) < dense.size


@given(st.lists(st.tuples(*[st.integers(0, 6)] * 4), min_size=2, max_size=2))
def test_boxes_join_and_meet_as_sets_of_pixels_do(corners):
    planes = np.zeros((2, 6, 6), bool)
    boxes = []
    for plane, (a, b, c, d) in zip(planes, corners, strict=True):
        plane[min(a, b) : max(a, b), min(c, d) : max(c, d)] = True
        boxes.append(box_of(plane))
    assert boxes[0].join(boxes[1]) == box_of(planes[0] | planes[1])
    assert boxes[0].intersect(boxes[1]) == box_of(planes[0] & planes[1])


@given(st.integers(0, 50), st.integers(1, 4))
def test_a_growing_total_is_the_dense_sum(seed, count):
    stack = [blobs(seed + i) for i in range(count)]
    total, factors = MapsSum(24, 4), [1, 0.5, 2, 3]
    for dense, factor in zip(stack, factors, strict=False):
        total.add(ProbabilityMaps.of(dense, floor=0), factor)
    slow = sum(dense * factor for dense, factor in zip(stack, factors, strict=False))
    np.testing.assert_allclose(total.over(2).dense(), slow / 2, atol=1e-6)


@pytest.mark.parametrize("size", [(24, 24), (48, 48), (96, 61), (37, 96), (500, 333), (20, 20), (11, 24)])
def test_a_stretched_box_is_that_part_of_the_whole_image_enlarged(size):
    """Enlarged as a whole by two others: `Grid.restore` (OpenCV) and, where the image is square, PyTorch."""
    dense, scale = blobs(3), max(size) / 24
    maps, whole = ProbabilityMaps.of(dense, floor=0), Grid(*size, 24).restore(dense)
    if size[0] == size[1]:
        torch_way = F.interpolate(torch.from_numpy(dense)[None], size, mode="bilinear", align_corners=False)[0].numpy()
        np.testing.assert_allclose(whole, torch_way, atol=1e-4)
    rng = np.random.default_rng(0)
    for c in range(len(dense)):
        y, x = np.sort(rng.integers(0, size[0] + 1, 2)), np.sort(rng.integers(0, size[1] + 1, 2))
        for box in (Box(0, 0, *size), Box(y[0], x[0], y[1] + (y[0] == y[1] == 0), x[1] + (x[0] == x[1] == 0))):
            if box.shape[0] and box.shape[1]:
                np.testing.assert_allclose(maps.resize(c, box, size, scale), whole[c][box.slices], atol=1e-4)


@given(st.integers(0, 200), st.tuples(st.integers(5, 60), st.integers(5, 60)), st.floats(0.02, 0.98))
def test_nothing_outside_its_reach_comes_up_to_the_threshold(seed, size, threshold):
    maps, scale = ProbabilityMaps.of(blobs(seed), floor=0), max(size) / 24
    for c in range(4):
        full = maps.resize(c, Box(0, 0, *size), size, scale)
        found, reach = box_of(full >= np.float32(threshold)), maps.support(c, threshold, size, scale)
        assert reach.join(found) == reach


def slow_rles(dense, size, threshold):
    """Everything enlarged, in float64 where it is not enlarged already, then thresholded and encoded."""
    return [encode(plane >= np.float32(threshold)) for plane in dense[:, : size[0], : size[1]]]


@given(st.integers(0, 200), st.floats(0.05, 0.95))
def test_masks_of_one_map_on_its_own_grid_are_those_of_the_slow_way_bit_for_bit(seed, threshold):
    dense = blobs(seed)
    for size in ((24, 24), (24, 13)):
        crop = ProbabilityMaps.of(dense, floor=threshold)  # all that a single map needs
        assert stack_of_parts([(crop, 1.0)], size, threshold).texts() == slow_rles(dense, size, threshold)


@given(st.integers(0, 100), st.floats(0.1, 0.9), st.tuples(st.integers(20, 70), st.integers(20, 70)))
def test_masks_of_a_mean_on_several_grids_are_those_of_all_enlarged_and_averaged(seed, threshold, size):
    stack = [blobs(seed), blobs(seed + 1), blobs(seed + 2, side=40), blobs(seed + 3, side=16)]
    weights, mean = [1, 2, 1, 3], MapsMean(size)
    for dense, weight in zip(stack, weights, strict=True):
        mean.add(ProbabilityMaps.of(dense), weight)
    slow = sum(w * Grid(*size, d.shape[1]).restore(d).astype(float) for d, w in zip(stack, weights, strict=True)) / 7
    masks = np.stack([decode(text, size) for text in mean.stack(threshold).texts()])
    unsure = abs(slow - threshold) < FLOOR + 2e-4  # what lies outside a box counted as 0; OpenCV's coordinates
    np.testing.assert_array_equal(masks[~unsure], (slow >= threshold)[~unsure])
    assert mean.stack(0.999).texts()[-1] == ""


def test_means_on_one_grid_meet_on_the_finest():
    coarse, fine = blobs(5, side=8), blobs(6, side=32)
    mean = MapsMean((32, 32))
    for dense in (coarse, fine):
        mean.add(ProbabilityMaps.of(dense))
    grown = F.interpolate(torch.from_numpy(coarse)[None], (32, 32), mode="bilinear", align_corners=False)[0].numpy()
    found = mean.on_finest_grid()
    assert found.side == 32
    np.testing.assert_allclose(found.dense(), (grown + fine) / 2, atol=FLOOR)
