"""How bright an image is: its share of bright pixels, outside the bands of white noise along two edges."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

BRIGHT = 240  # grey value from which a pixel counts as bright: metal, nail art, burnt-out skin
FENCE = 1.5  # quartile distances above the upper quartile from which an image is an outlier (Tukey's fence)
LEAST_SPREAD = 1e-4  # of the share: where most images have no bright pixel, one with a few is no outlier
BAND_SHARE = 1 / 8  # of the side: how deep a band of noise may reach
NOISE = 12.0  # mean step between neighbouring pixels from which a row is noise; white noise of 0..255 steps by 85
NOISE_FACTOR = 1.5  # and this many times the step of the rows behind the band


class Brightness(NamedTuple):
    """``share`` of bright pixels outside the bands; ``top`` rows and ``left`` columns of noise."""

    share: float
    top: int
    left: int


def brightness(image: np.ndarray) -> Brightness:
    """Measures uint8[H, W]."""
    top, left = noise_bands(image)
    inner = image[top:, left:]
    return Brightness(cv2.countNonZero(cv2.inRange(inner, BRIGHT, 255)) / max(1, inner.size), top, left)


def fence(shares: Sequence[float], distances: float = FENCE) -> float:
    """The share above which an image is an outlier among ``shares``, N >= 1.

    >>> round(fence([0.01, 0.02, 0.02, 0.03, 0.4]), 4)
    0.045
    """
    low, high = np.quantile(shares, [0.25, 0.75])
    return float(high + distances * max(high - low, LEAST_SPREAD))


def noise_bands(image: np.ndarray) -> tuple[int, int]:
    """Rows of white noise at the top and columns at the left of uint8[H, W], 0 where there is none."""
    deep = [2 * max(1, int(side * BAND_SHARE)) for side in image.shape]
    rows, columns = image[: deep[0]], image[:, : deep[1]]
    steps = cv2.absdiff(rows[:, 1:], rows[:, :-1]), cv2.absdiff(columns[1:], columns[:-1])
    return _band(steps[0].mean(1)), _band(cv2.reduce(steps[1], 0, cv2.REDUCE_AVG, dtype=cv2.CV_64F)[0])


def _band(steps: np.ndarray) -> int:
    """Lines from the first on that are noise, in the first half of their mean steps float64[2 N]; the rest compares."""
    half = len(steps) // 2
    noisy = steps[:half] > max(NOISE, NOISE_FACTOR * float(np.median(steps[half:])))
    return int(half if noisy.all() else noisy.argmin())
