"""How bright an image is: its fraction of bright pixels, outside the bands of white noise along two edges."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

BRIGHT = 240  # grey value from which a pixel counts as bright: metal, nail art, burnt-out skin
FENCE = 1.5  # quartile distances above the upper quartile from which an image is an outlier (Tukey's fence)
MIN_SPREAD = 1e-4  # of the fraction: if most images have no bright pixel, one with a few is not an outlier
NOISE = 12.0  # median step between neighbouring pixels of a line, from which on it is white noise
ROUGHER, BRIGHTER = 1.5, 40.0  # a band compared with the lines next to it: times as rough, or grey levels brighter
UP_TO_WHITE = 0.4  # minimum median step of brighter lines over their distance from white; .58 for uniform levels


class Brightness(NamedTuple):
    """``fraction`` of bright pixels outside the bands; ``top`` rows and ``left`` columns of noise."""

    fraction: float
    top: int
    left: int


def brightness(image: np.ndarray) -> Brightness:
    """Measures uint8[H, W]."""
    top, left = noise_bands(image)
    inner = image[top:, left:]
    return Brightness(cv2.countNonZero(cv2.inRange(inner, BRIGHT, 255)) / max(1, inner.size), top, left)


def fence(fractions: Sequence[float], distances: float = FENCE) -> float:
    """The fraction above which an image is an outlier among ``fractions``, N >= 1.

    >>> round(fence([0.01, 0.02, 0.02, 0.03, 0.4]), 4)
    0.045
    """
    low, high = np.quantile(fractions, [0.25, 0.75])
    return float(high + distances * max(high - low, MIN_SPREAD))


def noise_bands(image: np.ndarray) -> tuple[int, int]:
    """Rows at the top and columns at the left of uint8[H, W] that hold white noise, as broken detector borders do.

    Noise over the whole image does not count: a band is rougher or brighter than the lines next to it.
    """
    widths = []
    for lines in (image, image.T):
        deep = max(1, len(lines) // 8)
        steps, levels = _texture(lines[:deep])
        usual_steps, usual_levels = (np.median(values) for values in _texture(lines[deep : 2 * deep + 1 : 4]))
        brighter = (levels > usual_levels + BRIGHTER) & (steps > UP_TO_WHITE * (255 - levels))
        noisy = (steps > NOISE) & ((steps > ROUGHER * usual_steps) | brighter)
        noisy[1:-1] |= noisy[:-2] & noisy[2:]  # a smooth line by chance
        widths.append(len(steps) if noisy.all() else int(np.argmin(noisy)))
    return widths[0], widths[1]


def _texture(lines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median step between neighbours, and median level, of each of uint8[N, W]; 512 pixels per line are enough."""
    every = max(1, lines.shape[1] // 512)
    ones, others = lines[:, :-1:every], lines[:, 1::every]
    return np.median(cv2.absdiff(ones, others), axis=1), np.median(ones, axis=1)
