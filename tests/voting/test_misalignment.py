"""Permuted names of images, from centres alone: each image is the other's best, or it is chance."""

import numpy as np
import pytest

from phalanx.voting.misalignment import Pair, find_misalignment

IMAGES, CLASSES = 48, 12
SAMPLED = np.unique(np.linspace(0, IMAGES - 1, 24).round().astype(int))
NAMES = [f"i{number:02d}" for number in range(IMAGES)]


@pytest.fixture
def poses():
    """float64[I, C, 2]: centres that differ much from image to image."""
    return np.random.default_rng(0).uniform(0.2, 0.8, (IMAGES, CLASSES, 2))


def misalignment(one, other):
    some = Pair(("A", "B"), one[SAMPLED], other[SAMPLED], np.full((len(SAMPLED), 2), 512))
    return find_misalignment(some, [f"bone-{c}" for c in range(CLASSES)], lambda: (NAMES, one, other))


def near(places, seed):
    return places + np.random.default_rng(seed).normal(0, 0.003, places.shape)


def test_rotated_names_are_found(poses):
    assert misalignment(near(poses, 1), near(np.roll(poses, 1, axis=0), 2)).startswith(
        "images have other names: i00 of A is i01 of B"
    )


def test_images_that_look_alike_are_not_other_names(poses):
    """Half of the images are bad in one member. In the other they look like images which are good in both."""
    rest = np.setdiff1d(np.arange(IMAGES), SAMPLED)
    poses[SAMPLED] = near(poses[rest], 3)
    other = near(poses, 4)
    other[SAMPLED] = np.random.default_rng(5).uniform(0.2, 0.8, other[SAMPLED].shape)
    assert misalignment(near(poses, 6), other) == ""
