"""Pixel transforms: refused when built, in words about the config; drawn from the sample's generator alone."""

import re

import albumentations
import cv2
import numpy as np
import pytest

from phalanx.augment.pixels import PixelTransforms
from phalanx.errors import ConfigError

CHAIN = [
    {"name": "RandomBrightnessContrast", "p": 0.5, "brightness_limit": 0.2},
    {"name": "GaussNoise", "p": 0.5, "std_range": [0.02, 0.1]},
    {"name": "GaussianBlur", "p": 0.5, "blur_limit": [3, 5]},
]


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (48, 48), np.uint8)


def test_no_transforms_change_nothing_and_draw_nothing(image):
    rng = np.random.default_rng(0)
    assert PixelTransforms([])(image, rng) is image
    assert rng.random() == np.random.default_rng(0).random()


def test_the_result_depends_on_the_generator_alone(image):
    """Not on calls before, another instance, or the global seeds."""
    one, two = PixelTransforms(CHAIN), PixelTransforms(CHAIN)
    results = []
    for seed in range(6):
        np.random.seed(seed)  # noqa: NPY002
        a = one(image, np.random.default_rng(seed))
        assert (a.dtype, a.shape) == (np.uint8, image.shape)
        for _ in range(seed):
            two(image, np.random.default_rng())
        np.testing.assert_array_equal(a, two(image, np.random.default_rng(seed)))
        results.append(a.tobytes())
    assert len(set(results)) > 3


def test_each_transform_comes_as_often_as_told(image):
    chain = PixelTransforms([{"name": "InvertImg", "p": 0.25}])
    rng = np.random.default_rng(0)
    inverted = [np.array_equal(chain(image, rng), 255 - image) for _ in range(400)]
    assert 0.18 < np.mean(inverted) < 0.33


def test_transforms_come_independently_of_each_other(image):
    """Two inversions of equal seed would come both or neither, and never show."""
    chain = PixelTransforms([{"name": "InvertImg", "p": 0.5}] * 2)
    rng = np.random.default_rng(0)
    inverted = [np.array_equal(chain(image, rng), 255 - image) for _ in range(300)]
    assert 0.4 < np.mean(inverted) < 0.6


def test_a_list_is_a_range_and_the_source_stays_whole(image):
    before = image.copy()
    darker = PixelTransforms([{"name": "RandomGamma", "p": 1.0, "gamma_limit": [200, 200]}])
    found = darker(image, np.random.default_rng(0))
    np.testing.assert_allclose(found, 255 * (image / 255.0) ** 2, atol=1.01)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"name": "GausNoise"},
            "augment.pixel[1].name=GausNoise: not a pixel transform of albumentations; did you mean",
        ),
        ({"nam": "GaussNoise"}, "augment.pixel[1].name=None: not a pixel transform"),
        ({"name": "ImageOnlyTransform"}, "augment.pixel[1].name=ImageOnlyTransform: not a pixel transform"),
        (
            {"name": "GaussNoise", "std_rang": [0, 1]},
            "augment.pixel[1].std_rang: not an option of GaussNoise; did you",
        ),
        ({"name": "GaussNoise", "p": 2}, "augment.pixel[1] (GaussNoise): "),
        ({"name": "GaussNoise", "std_range": [5, 9]}, "augment.pixel[1] (GaussNoise): "),
        ({"name": "ISONoise"}, "augment.pixel[1] (ISONoise): This transformation expects 3-channel images"),
        ({"name": "ToFloat"}, "augment.pixel[1] (ToFloat): makes float32[32, 32, 1] of a grey uint8 image"),
        ({"name": "Normalize"}, "augment.pixel[1] (Normalize): makes float32"),
        ({"name": "ToRGB"}, "augment.pixel[1] (ToRGB): makes uint8[32, 32, 3]"),
        ({"name": "FDA"}, "augment.pixel[1] (FDA): "),
    ],
)
def test_what_cannot_work_is_refused_when_built_in_one_line(spec, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as found:
        PixelTransforms([{"name": "GaussNoise"}, spec])
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("name", ["Rotate", "HorizontalFlip", "ElasticTransform", "RandomCrop", "CoarseDropout"])
def test_what_moves_pixels_is_refused_as_masks_would_not_move_along(name):
    assert hasattr(albumentations, name)
    with pytest.raises(ConfigError, match=f"name={name}: not a pixel transform"):
        PixelTransforms([{"name": name}])


def test_grid_dropout_cuts_holes_into_the_image_and_has_no_option_for_masks(image):
    chain = PixelTransforms([{"name": "GridDropout", "p": 1.0, "ratio": 0.5}])
    found = chain(np.maximum(image, 1), np.random.default_rng(0))
    assert 0.1 < (found == 0).mean() < 0.5
    np.testing.assert_array_equal(found[found > 0], np.maximum(image, 1)[found > 0])
    with pytest.raises(ConfigError, match=r"fill_mask: not an option of GridDropout"):
        PixelTransforms([{"name": "GridDropout", "fill_mask": 0}])


@pytest.mark.parametrize("tiles", [8, 16, 24])
def test_clahe_of_the_configs_is_opencvs(tiles):
    picture = np.random.default_rng(0).integers(60, 120, (96, 96), np.uint8)
    chain = PixelTransforms([{"name": "CLAHE", "p": 1.0, "clip_limit": [4, 4], "tile_grid_size": [tiles, tiles]}])
    expected = cv2.createCLAHE(clipLimit=4, tileGridSize=(tiles, tiles)).apply(picture)
    np.testing.assert_array_equal(chain(picture, np.random.default_rng(0)), expected)
