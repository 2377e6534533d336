"""The batched warp against the slow one, pixel by pixel, and against the warp of the CPU."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phalanx.augment.device import Maps, cubic_weights, warp_batch
from phalanx.augment.draw import Crop, Draw, Window, draw
from phalanx.augment.warp import warp_drawn
from phalanx.config import Augment, Elastic, GridDistortion
from phalanx.masks.planes import pack, unpack


def batch_of(cases):
    images = torch.from_numpy(np.stack([case.image for case in cases]))[:, None]
    planes = torch.from_numpy(np.stack([pack(case.stack).transpose(2, 0, 1) for case in cases]))
    return images, planes, Maps.of([case.drawn for case in cases])


def some(**changes):
    elastic, grid = Elastic(p=0.5, strength=0.03), GridDistortion(p=0.5, steps=4)
    return Augment(
        **{"flip": 0.5, "warp": 0.8, "shift": 0.1, "rotate": 60, "elastic": elastic, "grid_distortion": grid} | changes
    )


RECIPES = st.sampled_from([some(), some(elastic=Elastic()), some(warp=0), Augment(flip=0.5), Augment()])


@settings(max_examples=60)
@given(st.data(), RECIPES, st.integers(8, 70), st.integers(1, 3), st.integers(2, 40))
def test_a_batch_is_each_sample_and_each_class_warped_alone(warps, data, recipe, side, count, classes):
    """Samples with and without flip and elastic deformation in one batch, whole or cropped."""
    crop = data.draw(st.none() | st.integers(1, side))
    cases = [data.draw(warps.cases(recipe, side, crop, classes)) for _ in range(count)]
    if crop is None:
        cases = [case._replace(drawn=case.drawn._replace(window=cases[0].drawn.window)) for case in cases]
    images, planes, maps = batch_of(cases)
    pairs = cases[0].pairs
    before = images.clone(), planes.clone()
    found, warped = warp_batch(images, planes, maps, pairs)
    assert (found.dtype, warped.dtype) == (torch.uint8, torch.uint8)
    for i, case in enumerate(cases):
        image, stack, doubtful = warps.warp_slowly(case._replace(pairs=pairs))
        assert np.abs(found[i, 0].numpy() - image).max(initial=0) <= 1
        masks = unpack(warped[i].permute(1, 2, 0).numpy(), classes)
        np.testing.assert_array_equal(masks[:, ~doubtful], stack[:, ~doubtful])
    assert torch.equal(images, before[0])
    assert torch.equal(planes, before[1])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("crop", [None, Crop(256, 0.5)])
def test_at_a_larger_size_it_is_the_cpus_warp_but_for_a_few_pixels(seed, crop):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (512, 512), np.uint8)
    stack = cv2.resize(rng.integers(0, 256, (16, 16, 4), np.uint8), (512, 512), interpolation=cv2.INTER_NEAREST)
    drawn = draw(rng, some(warp=1), (512, 400), 512, stack, crop)
    expected, expected_planes = warp_drawn(drawn, image, stack, [(0, 28), (5, 3)])
    planes = torch.from_numpy(stack.transpose(2, 0, 1).copy())[None]
    found, warped = warp_batch(torch.from_numpy(image)[None, None], planes, Maps.of([drawn]), [(0, 28), (5, 3)])
    assert np.abs(found[0, 0].numpy().astype(int) - expected).max() <= 1
    assert (warped[0].permute(1, 2, 0).numpy() != expected_planes).any(2).mean() < 1e-4
    assert len(np.unique(expected_planes)) > 100


@pytest.mark.parametrize(("side", "count"), [(64, 2), (512, 9), (100, 3), (37, 37), (16, 16), (9, 30)])
def test_the_field_is_enlarged_as_opencv_does(side, count):
    field = np.random.default_rng(0).normal(0, 20, (count, count)).astype(np.float32)
    weights = cubic_weights(side, count)
    expected = cv2.resize(field, (side, side), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_allclose(weights @ field @ weights.T, expected, atol=1e-3)


def test_lower_precision_of_the_network_does_not_reach_the_map():
    """Under autocast a matrix product would be bfloat16: half a pixel wrong where the displacement is a hundred."""
    drawn = draw(
        np.random.default_rng(0), Augment(elastic=Elastic(p=1, strength=0.2)), (96, 96), 96, np.zeros((1, 1, 1))
    )
    images = torch.randint(0, 256, (1, 1, 96, 96), dtype=torch.uint8)
    plain = warp_batch(images, images, Maps.of([drawn]), [])
    with torch.autocast("cpu", torch.bfloat16):
        lower = warp_batch(images, images, Maps.of([drawn]), [])
    assert all(torch.equal(a, b) for a, b in zip(plain, lower, strict=True))


def test_pixels_are_counted_exactly_beyond_what_single_precision_can():
    """8200 x 2051 pixels are more than 2 ** 24."""
    planes = torch.zeros((1, 1, 8200, 2051), dtype=torch.uint8)
    planes[0, 0, -4:, -4:] = torch.arange(1, 17).view(4, 4)
    window = Window(8196, 2047, 4, 4)
    still = Draw(False, np.eye(2, 3), np.zeros((2, 0, 0), np.float32), None, window, 8200, (8200, 2051))
    found = warp_batch(planes, planes, Maps.of([still]), [])
    assert torch.equal(found[1], planes[:, :, -4:, -4:])
    assert torch.equal(found[0], planes[:, :, -4:, -4:])
