"""Windows: a pointwise model sees no difference, blending is the weighted mean, nothing of the image is left out."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.config import SlidingWindow, validate_as
from phalanx.data.images import Grid
from phalanx.data.preprocess import bright
from phalanx.errors import ConfigError
from phalanx.predict.maps import ProbabilityMaps
from phalanx.predict.windows import blend_windows, gaussian_weights, window_corners, window_starts


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def pointwise(tiles):
    """Two classes: brightness and its opposite."""
    found = np.stack([tiles / 255, 1 - tiles / 255], 1).astype(np.float32)
    return [ProbabilityMaps.of(one, floor=0) for one in found]


@given(st.integers(1, 200), st.integers(1, 60), st.integers(1, 60))
def test_starts_leave_no_gap_and_stay_inside(length, size, stride):
    found = window_starts(length, size, min(stride, size))
    covered = np.zeros(max(length, size), bool)
    for at in found:
        assert at >= 0
        assert at + size <= max(length, size)
        covered[at : at + size] = True
    assert covered.all()
    assert len(set(found)) == len(found)


@given(
    st.tuples(st.integers(40, 120), st.integers(40, 120)), st.sampled_from([32, 64, 96, 160]), st.integers(5, 160),
    st.integers(1, 5),
)  # fmt: skip
def test_windows_of_any_stride_of_a_pointwise_model_equal_the_whole(shape, size, stride, batch):
    side = 96
    grid = Grid(*shape, side)
    placed = grid.place(noise(shape))
    window = SlidingWindow(size=size, stride=max(size // 16, min(size, stride)), skip_empty=False)
    corners = window_corners(noise(shape), grid, window)
    maps = blend_windows(placed, corners, window, classes=2, batch=batch, predict=pointwise)
    rows, columns = grid.content
    whole = np.stack([placed / 255, 1 - placed / 255])[:, :rows, :columns]
    np.testing.assert_allclose(maps.dense()[:, :rows, :columns], whole, atol=1e-5)
    assert maps.side == side


def test_windows_that_differ_are_blended_by_gaussians():
    """Each window has an own level; the blend is worked out pixel by pixel."""
    image, window = noise((64, 64)), SlidingWindow(size=32, stride=16, skip_empty=False)
    corners = window_corners(image, Grid(64, 64, 64), window)
    levels = iter(np.linspace(0.1, 0.9, len(corners)))

    def predict(tiles):
        return [ProbabilityMaps.of(np.full((1, 32, 32), next(levels), np.float32)) for _ in tiles]

    found = blend_windows(image, corners, window, classes=1, batch=2, predict=predict).dense()[0]
    for y, x in [(0, 0), (20, 20), (31, 33), (63, 40), (47, 16)]:
        top, bottom = 0.0, 0.0
        for (a, b), level in zip(corners, np.linspace(0.1, 0.9, len(corners)), strict=True):
            if a <= y < a + 32 and b <= x < b + 32:
                weight = np.exp(-0.5 * (((y - a - 15.5) / 4) ** 2 + ((x - b - 15.5) / 4) ** 2))
                top, bottom = top + weight * level, bottom + weight
        assert found[y, x] == pytest.approx(top / bottom, abs=1e-5)


def test_a_bell_falls_off_evenly_and_never_to_nothing():
    weights = gaussian_weights(1024)
    assert weights.min() > 0
    np.testing.assert_array_equal(weights, weights[::-1, ::-1])
    np.testing.assert_array_equal(weights, weights.T)


def hand_like(shape, spot, radius=40):
    """A bright disc in noisy air."""
    image = np.random.default_rng(0).normal(12, 3, shape).clip(0, 255).astype(np.uint8)
    cv2.circle(image, spot, radius, 150, -1)
    return image


@pytest.mark.parametrize("shape", [(1024, 1024), (1024, 700), (300, 512)])
def test_only_windows_with_something_bright_are_looked_at(shape):
    image, side = hand_like(shape, (shape[1] // 3, shape[0] // 3)), 512
    grid, window = Grid(*shape, side), SlidingWindow(size=64, stride=64)
    placed, found = grid.place(image), window_corners(image, grid, window)
    every = window_corners(image, grid, window.model_copy(update={"skip_empty": False}))
    for at in every:
        tile = placed[at[0] : at[0] + 64, at[1] : at[1] + 64]
        if (tile > 100).any():
            assert at in found
    assert len(found) < len(every) / 3


def test_an_image_without_anything_bright_is_predicted_whole():
    for image in (np.zeros((128, 128), np.uint8), np.full((128, 128), 200, np.uint8)):
        assert not bright(image).any()
        assert len(window_corners(image, Grid(128, 128, 128), SlidingWindow(size=64, stride=64))) == 4


def test_what_no_window_reaches_is_background():
    image, window = noise((64, 64)), SlidingWindow(size=32, stride=32)
    found = blend_windows(image, [(0, 32)], window, classes=2, batch=4, predict=pointwise).dense()
    assert found[:, :32, 32:].sum(0) == pytest.approx(np.ones((32, 32)), abs=1e-5)
    found[:, :32, 32:] = 0
    assert not found.any()


def test_impossible_windows_are_refused():
    for told, text in (
        ({"size": 30}, "multiple of 32"),
        ({"size": 64, "stride": 65}, "leaves gaps"),
        ({"stride": 4}, "size: missing"),
    ):
        with pytest.raises(ConfigError, match=text):
            validate_as(SlidingWindow, told)
    assert validate_as(SlidingWindow, 64) == SlidingWindow(size=64, stride=None)
    assert SlidingWindow(size=64).step == 32
