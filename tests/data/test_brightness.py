"""Bright pixels and bands of noise, against images made by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.data.brightness import brightness, fence, noise_bands


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 200), st.integers(0, 9))
def test_bands_of_noise_are_measured_to_the_pixel(top, left, low, seed):
    rng = np.random.default_rng(seed)
    ramp = np.add.outer(np.linspace(20, 120, 256), np.linspace(0, 80, 256)) + rng.normal(0, 3, (256, 256))
    image = ramp.clip(0, 255).astype(np.uint8)
    image[:top] = rng.integers(low, 256, (top, 256))
    image[:, :left] = rng.integers(low, 256, (256, left))
    rows, columns = noise_bands(image)
    assert abs(rows - top) <= 1
    assert abs(columns - left) <= 1


def test_bright_pixels_are_counted_outside_the_bands():
    rng = np.random.default_rng(0)
    image = np.full((200, 160), 90, np.uint8)
    image[:16], image[:, :9] = rng.integers(0, 256, (16, 160)), rng.integers(0, 256, (200, 9))
    assert brightness(image) == (0, 16, 9)
    image[100:110, 50:70], image[120, 50:70] = 240, 239
    assert brightness(image) == (pytest.approx(200 / (184 * 151)), 16, 9)


def test_the_fence_is_tukeys_and_forgives_a_few_pixels():
    assert fence([0.1, 0.2, 0.3, 0.4, 0.5], 2) == pytest.approx(0.4 + 2 * 0.2)
    assert fence([0.0] * 9) == pytest.approx(0.00015)


def test_the_width_of_a_noise_band():
    rng = np.random.default_rng(0)
    picture = np.full((400, 300), 90, np.uint8)
    assert noise_bands(picture) == (0, 0)
    picture[:16], picture[:, :9] = rng.integers(0, 256, (16, 300)), rng.integers(0, 256, (400, 9))
    assert noise_bands(picture) == (16, 9)


def test_noise_of_the_whole_picture_is_no_band():
    rng = np.random.default_rng(0)
    picture = rng.normal(60, 20, (400, 300)).clip(0, 255).astype(np.uint8)
    assert noise_bands(picture) == (0, 0)
    picture[:9] = rng.normal(110, 20, (9, 300)).clip(0, 255)  # a brighter margin, as rough as the rest
    assert noise_bands(picture) == (0, 0)
    picture[:9] = rng.integers(100, 256, (9, 300))
    assert noise_bands(picture) == (9, 0)
