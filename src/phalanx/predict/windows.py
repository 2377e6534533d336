"""An image predicted in overlapping windows: their places, which are predicted, how they are blended."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import product

import numpy as np

from ..config import SlidingWindow
from ..data.images import Grid
from ..data.preprocess import bright
from ..errors import ConfigError
from .maps import Box, MapsSum, ProbabilityMaps


def window_starts(length: int, size: int, stride: int) -> list[int]:
    """Where windows of ``size`` begin along ``length`` pixels; the last is moved inside. One, if it is longer.

    >>> window_starts(10, 4, 4), window_starts(8, 4, 4), window_starts(3, 4, 4)
    ([0, 4, 6], [0, 4], [0])
    """
    return [*range(0, length - size, stride), max(0, length - size)]


@lru_cache(4)
def gaussian_weights(size: int) -> np.ndarray:
    """float32[size, size]: weights of a window's pixels, a Gaussian of an eighth of its side (as nnU-Net's)."""
    line = np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / (size / 8)) ** 2)
    return np.outer(line, line).astype(np.float32)


def window_corners(image: np.ndarray, grid: Grid, window: SlidingWindow) -> list[tuple[int, int]]:
    """Top left corners of the windows to predict of an image uint8[H, W].

    With ``skip_empty``, those in which nothing is brighter than the air around the hand (`preprocess.bright`) are left
    out; an image in which nothing is brighter at all is predicted whole.
    """
    rows, columns = grid.content
    try:
        window.check_count(max(rows, columns))
    except ValueError as error:
        raise ConfigError(str(error)) from None
    every = list(
        product(window_starts(rows, window.size, window.step), window_starts(columns, window.size, window.step))
    )
    shown = bright(image)
    if not window.skip_empty or not shown.any():
        return every
    scale = max(shown.shape) / grid.side  # pixels of the small image per grid pixel
    ends = [[(int(at * scale), int((at + window.size) * scale) + 1) for at in corner] for corner in every]
    return [at for at, ((a, b), (c, d)) in zip(every, ends, strict=True) if shown[a:b, c:d].any()]


def blend_windows(
    placed: np.ndarray,
    corners: Sequence[tuple[int, int]],
    window: SlidingWindow,
    *,
    classes: int,
    batch: int,
    predict: Callable[[np.ndarray], list[ProbabilityMaps]],
) -> ProbabilityMaps:
    """Probability maps of one image uint8[n, n], blended from its windows; pixels outside all windows are background.

    Args:
        predict: returns the maps of uint8[B, size, size].
    """
    side, size = len(placed), window.size
    padded = np.pad(placed, (0, max(0, size - side)))  # if the window is larger
    total, weight = MapsSum(side, classes), np.zeros(padded.shape, np.float32)
    whole, weights = Box(0, 0, side, side), gaussian_weights(size)
    for first in range(0, len(corners), batch):
        some = corners[first : first + batch]
        tiles = np.stack([padded[top : top + size, left : left + size] for top, left in some])
        for (top, left), maps in zip(some, predict(tiles), strict=True):
            weight[top : top + size, left : left + size] += weights
            for c, (box, values) in enumerate(zip(maps.boxes, maps.values, strict=True)):
                moved = Box(box.top + top, box.left + left, box.bottom + top, box.right + left)
                held = moved.intersect(whole)
                total.add_one(c, held, (values * weights[box.slices])[held.within(moved)])
    return total.over(weight[:side, :side])
