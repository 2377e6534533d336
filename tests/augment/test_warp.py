"""The warp against numpy's own flips and turns, and the image held against its masks."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phalanx.augment.draw import Crop, draw, draw_affine, draw_elastic
from phalanx.augment.warp import warp, warp_drawn
from phalanx.config import Augment, Elastic, GridDistortion
from phalanx.masks.planes import pack, unpack

SIDE = 64


class Extreme:
    """Draws in place of a generator's: whatever has a chance comes true, every range gives its upper end."""

    def random(self):
        return 0.0

    def uniform(self, low, high, size=None):
        return high if size is None else np.full(size, high)


def sample(classes=29, side=SIDE, content=None):
    """Noise, every pixel of it told from its neighbours; black beside the content."""
    rows, columns = content or (side, side)
    rng = np.random.default_rng(0)
    image, stack = np.zeros((side, side), np.uint8), np.zeros((classes, side, side), bool)
    image[:rows, :columns] = rng.integers(0, 256, (rows, columns))
    stack[:, :rows, :columns] = rng.random((classes, rows, columns)) < 0.3
    return image, stack


@pytest.mark.parametrize("off", [Augment(), Augment(shift=0.5, scale=0.5, rotate=90), Augment(warp=1)])
def test_without_a_chance_or_a_range_no_pixel_changes(off):
    image, stack = sample()
    warped, planes = warp(image, pack(stack), (SIDE, SIDE), Extreme(), off, [(0, 1)])
    np.testing.assert_array_equal(warped, image)
    np.testing.assert_array_equal(unpack(planes, 29), stack)


@pytest.mark.parametrize("content", [(64, 64), (64, 40), (30, 51), (64, 1)])
@pytest.mark.parametrize("classes", [4, 29, 38])
def test_a_mirror_is_numpys_flip_of_the_content_with_the_pairs_exchanged(content, classes):
    """38 classes are five planes, one more than OpenCV remaps at once."""
    rows, columns = content
    image, stack = sample(classes, content=content)
    for array in (image, *stack):
        array[:rows, :columns] = np.flip(array[:rows, :columns], 1).copy()
    mirrored = stack.copy()
    mirrored[[0, classes - 1]] = stack[[classes - 1, 0]]
    fresh_image, fresh = sample(classes, content=content)
    warped, planes = warp(fresh_image, pack(fresh), content, Extreme(), Augment(flip=1), [(0, classes - 1)])
    np.testing.assert_array_equal(warped, image)
    np.testing.assert_array_equal(unpack(planes, classes), mirrored)


@pytest.mark.parametrize("side", [64, 65])
def test_a_quarter_turn_is_numpys_rot90_and_exchanges_nothing(side):
    image, stack = sample(38, side)
    warped, planes = warp(image, pack(stack), (side, side), Extreme(), Augment(warp=1, rotate=90), [(0, 1)])
    np.testing.assert_array_equal(warped, np.rot90(image))
    np.testing.assert_array_equal(unpack(planes, 38), np.rot90(stack, axes=(1, 2)))


def test_a_shift_is_a_share_of_the_content_and_what_leaves_is_lost():
    image, stack = sample(9)
    warped, planes = warp(image, pack(stack), (SIDE, SIDE), Extreme(), Augment(warp=1, shift=0.125), [])
    np.testing.assert_array_equal(warped[8:, 8:], image[:-8, :-8])
    np.testing.assert_array_equal(unpack(planes, 9)[:, 8:, 8:], stack[:, :-8, :-8])
    assert not warped[:8].any()
    assert not planes[:, :8].any()


def test_a_scale_above_one_enlarges_about_the_contents_centre():
    image = np.zeros((65, 65), np.uint8)
    image[22:43, 22:43] = 255  # 21 pixels about 32
    warped, _ = warp(image, image[:, :, None], (65, 65), Extreme(), Augment(warp=1, scale=0.5), [])
    rows = np.flatnonzero(warped[32] > 127)
    assert (rows[0], rows[-1]) == (32 - 15, 32 + 15)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("classes", [3, 38])
def test_image_and_masks_stay_in_step(seed, classes):
    """Blobs drawn as image and as the last class, warped by everything at once: away from edges they agree."""
    rng = np.random.default_rng(seed)
    drawn = np.zeros((256, 256), np.uint8)
    for _ in range(6):
        centre, axes = rng.integers(30, 226, 2).tolist(), rng.integers(15, 50, 2).tolist()
        cv2.ellipse(drawn, centre, axes, float(rng.uniform(0, 180)), 0, 360, 255, -1)
    stack = np.zeros((classes, 256, 256), bool)
    stack[-1] = drawn > 0
    lively = Augment(flip=0.5, warp=1, shift=0.1, scale=0.2, rotate=180, elastic=Elastic(p=1, strength=0.02))
    warped, planes = warp(drawn, pack(stack), (256, 256), rng, lively, [])
    mask = unpack(planes, classes)[-1]
    edge = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    assert 0.02 < mask.mean() < 0.98
    assert not np.array_equal(mask, stack[-1])
    assert ((warped > 127) == mask)[~edge].mean() > 0.99
    assert not unpack(planes, classes)[:-1].any()


def test_elastic_alone_bends_by_about_its_strength():
    """A ramp tells each pixel's source: displacements spread as far as told, and vary smoothly."""
    side = 256
    ramp = np.tile(np.arange(side, dtype=np.uint8), (side, 1))
    bend = Augment(elastic=Elastic(p=1, strength=0.02, cell=0.125))
    moved = []
    for seed in range(8):
        warped, _ = warp(ramp, ramp[:, :, None], (side, side), np.random.default_rng(seed), bend, [])
        moved.append((warped.astype(float) - ramp)[40:-40, 40:-40])
    assert 0.5 * 0.02 * side < np.std(moved) < 1.2 * 0.02 * side
    assert np.abs(np.diff(moved, axis=1)).max() < 4


def test_the_draw_depends_on_the_generator_alone():
    image, stack = sample()
    lively = Augment(flip=0.5, warp=1, shift=0.1, scale=0.2, rotate=30, elastic=Elastic(p=0.5))
    one, two, other = (
        warp(image, pack(stack), (SIDE, SIDE), np.random.default_rng(seed), lively, [(0, 1)]) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])
    assert not np.array_equal(one[0], other[0])


def test_a_mirror_comes_as_often_as_told():
    image, stack = sample(1)
    rng = np.random.default_rng(0)
    flips = [warp(image, pack(stack), (SIDE, SIDE), rng, Augment(flip=0.3), [])[0] is not image for _ in range(400)]
    assert 0.22 < np.mean(flips) < 0.38


LIVELY = Augment(
    flip=0.5,
    warp=1,
    shift=0.1,
    scale=0.2,
    rotate=40,
    elastic=Elastic(p=0.5, strength=0.02),
    grid_distortion=GridDistortion(p=0.7, steps=4, limit=0.4),
)


def find(window, whole):
    """Top left corners at which an image is found in another, all tried."""
    side = len(window)
    views = np.lib.stride_tricks.sliding_window_view(whole, (side, side))
    return [tuple(map(int, place)) for place in np.argwhere((views == window).all((2, 3)))]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("augment", [Augment(), LIVELY], ids=["plain", "lively"])
def test_a_crop_is_a_window_of_what_the_whole_warp_gives(seed, augment):
    """The same draws but for the corner, which is drawn last: bit-equal."""
    image, stack = sample(10)
    image = np.maximum(image, 1)
    pairs = [(0, 9)]
    whole, planes = warp(image, pack(stack), (SIDE, SIDE), np.random.default_rng(seed), augment, pairs)
    draws = [np.random.default_rng(seed) for _ in range(2)]
    (part, cut), (again, _) = (
        warp(image, pack(stack), (SIDE, SIDE), rng, augment, pairs, Crop(32, 0.5)) for rng in draws
    )
    assert part.shape == (32, 32)
    assert cut.shape == (32, 32, 2)
    np.testing.assert_array_equal(part, again)
    ((top, left), *_) = find(part, whole)
    np.testing.assert_array_equal(cut, planes[top : top + 32, left : left + 32])


def test_crops_that_prefer_foreground_hold_some_of_every_class_as_often():
    """A tiny and a huge bone: a pixel drawn from all foreground would hardly ever be the tiny one's."""
    stack = np.zeros((2, 256, 256), bool)
    stack[0, 20:190, 10:100] = True
    stack[1, 195:201, 195:201] = True
    planes, image = pack(stack), np.zeros((256, 256), np.uint8)
    seen = []
    for seed in range(200):
        _, cut = warp(image, planes, (256, 256), np.random.default_rng(seed), LIVELY, [], Crop(64, 1.0))
        seen.append(unpack(cut, 2).any((1, 2)))
    counts = np.mean(seen, axis=0)
    assert counts[0] > 0.4
    assert counts[1] > 0.35  # where the warp has not thrown it out of the frame
    assert np.mean(np.any(seen, axis=1)) > 0.75


def test_crops_without_preference_lie_everywhere_in_the_content_and_only_there():
    image, planes = np.zeros((128, 128), np.uint8), np.zeros((128, 128, 1), np.uint8)
    rows, columns = np.indices((128, 128), np.uint8)
    corners = []
    for seed in range(600):
        crops = [
            warp(ramp, planes, (128, 80), np.random.default_rng(seed), Augment(), [], Crop(64, 0.0))[0]
            for ramp in (rows, columns)
        ]
        corners.append([int(crop[0, 0]) for crop in crops])
    corners = np.array(corners)
    assert (corners.min(0).tolist(), corners.max(0).tolist()) == ([0, 0], [64, 16])
    assert len(np.unique(corners[:, 0])) > 60
    assert image.sum() == 0


def test_foreground_is_not_missed_where_there_is_none_or_the_frame_is_near():
    image, planes = sample(1)[0], np.zeros((SIDE, SIDE, 1), np.uint8)
    assert warp(image, planes, (SIDE, SIDE), np.random.default_rng(0), LIVELY, [], Crop(32, 1.0))[0].shape == (32, 32)
    planes[0, 0] = planes[63, 63] = 1
    for seed in range(20):
        _, cut = warp(image, planes, (SIDE, SIDE), np.random.default_rng(seed), Augment(), [], Crop(32, 1.0))
        assert cut.sum() == 1


@pytest.mark.parametrize("content", [(128, 128), (128, 70)])
def test_grid_distortion_stretches_strips_and_keeps_the_frame(content):
    """Held against a loop over the strips: each output strip shows its source strip, linearly."""
    rows, columns = content
    ramp = np.zeros((128, 128), np.uint8)
    ramp[:rows, :columns] = np.arange(columns)
    augment = Augment(grid_distortion=GridDistortion(p=1, steps=4, limit=0.5))
    rng = np.random.default_rng(3)
    found, _ = warp(ramp, ramp[:, :, None], content, rng, augment, [])
    rng = np.random.default_rng(3)
    rng.random(4)  # flip, warp, elastic, grid: the draws before the widths
    rng.uniform(0.5, 1.5, 4)  # of the rows
    widths = rng.uniform(0.5, 1.5, 4)
    edges = np.concatenate([[0], np.cumsum(widths)]) / widths.sum() * columns
    expected = []
    for pixel in range(columns):
        strip, share = divmod((pixel + 0.5) / columns * 4, 1)
        expected.append(edges[int(strip)] + share * (edges[int(strip) + 1] - edges[int(strip)]) - 0.5)
    middle = slice(2, columns - 2)
    np.testing.assert_allclose(found[rows // 2, :columns][middle], np.array(expected)[middle], atol=0.6)
    assert np.abs(np.array(expected) - np.arange(columns)).max() > 3
    assert found[0, columns - 1] >= columns - 3
    assert not found[:, columns:].any()


def test_without_grid_distortion_the_draws_are_what_they_were():
    """Recipes that do not use it continue to the same samples."""
    image, stack = sample()
    plain = Augment(flip=0.5, warp=1, rotate=30, elastic=Elastic(p=0.5))
    one, two = np.random.default_rng(5), np.random.default_rng(5)
    warp(image, pack(stack), (SIDE, SIDE), one, plain, [])
    draw_affine(two, plain, (SIDE, SIDE))
    draw_elastic(two, plain, SIDE)
    assert one.random() == two.random()


@settings(max_examples=150)
@given(st.data())
def test_the_warp_is_each_class_warped_alone_and_the_image_interpolated(warps, data):
    """Held against one pixel, one class at a time in double precision, through every kind of draw."""
    case = data.draw(warps.cases())
    image, stack, doubtful = warps.warp_slowly(case)
    found, planes = warp_drawn(case.drawn, case.image, pack(case.stack), case.pairs)
    assert np.abs(found - image).max(initial=0) <= 1
    np.testing.assert_array_equal(unpack(planes, len(stack))[:, ~doubtful], stack[:, ~doubtful])


@settings(max_examples=60)
@given(st.data())
def test_planes_warped_together_are_the_planes_warped_one_by_one(warps, data):
    """Bit for bit: no plane, and no pixel on the edge of rounding, goes another way than its neighbours."""
    case = data.draw(warps.cases())
    _, planes = warp_drawn(case.drawn, case.image, pack(case.stack), case.pairs)
    alone = [warp_drawn(case.drawn, case.image, pack(mask[None]), [])[1][:, :, 0] > 0 for mask in case.stack]
    for a, b in case.pairs if case.drawn.flipped else ():
        alone[a], alone[b] = alone[b], alone[a]
    np.testing.assert_array_equal(planes, pack(np.stack(alone)))


def test_a_plain_mirror_is_what_its_map_gives():
    """It takes a shorter way; a field that moves nothing by more than a millionth of a pixel takes the long one."""
    image, stack = sample(38, content=(64, 40))
    short = draw(np.random.default_rng(0), Augment(flip=1), (64, 40), SIDE, pack(stack), Crop(48, 0.0))
    long = short._replace(field=np.full((2, 3, 3), 1e-6, np.float32))
    for one, two in zip(*(warp_drawn(d, image, pack(stack), [(0, 37)]) for d in (short, long)), strict=True):
        np.testing.assert_array_equal(one, two)
