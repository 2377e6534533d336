"""What one image tells: its bones' areas and overlaps, the tilt of the hand, bright pixels, bands of noise.

Runs in worker processes and returns a few numbers an image, so memory does not grow with the images' pixels.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np

from ..config import Data
from ..data.images import read_grey
from ..data.records import Record
from ..data.rotation import has_rule, tilt_of_stack
from ..data.truth import planes_of
from ..errors import DataError
from ..submit.rle import area, encode_planes, intersection
from ..submit.stack import Stack

BRIGHT = 240  # grey value from which a pixel counts as bright: metal, nail art, burnt-out skin
BAND_SHARE = 1 / 8  # of the side: how deep a band of noise may reach
NOISE = 12.0  # mean step between neighbouring pixels from which a row is noise; white noise of 0..255 steps by 85
NOISE_FACTOR = 1.5  # and this many times the step of the rows behind the band


class Measured(NamedTuple):
    """Numbers of one image. Areas are shares of the image, NaN or empty where nothing tells."""

    name: str
    group: str
    split: str
    height: int
    width: int
    degrees: float  # tilt of the hand
    bright: float  # share of bright pixels outside the bands
    top: int  # rows of noise
    left: int  # columns of noise
    areas: tuple[float, ...]  # a class
    overlaps: tuple[tuple[int, int, float], ...]  # class, class, shared area
    problem: str = ""


def measure(record: Record, *, split: str, data: Data) -> Measured:
    """Measures an image and, where it has one, its annotation. A file that cannot be used becomes a ``problem``."""
    cv2.setNumThreads(1)  # a process an image already
    try:
        image = read_grey(record.image)
        height, width = image.shape
        stack = None
        if record.labels is not None:
            planes = planes_of(record, data, (height, width))
            stack = Stack.parse(encode_planes(planes, len(data.classes)))
    except DataError as error:
        return Measured(record.name, record.group, split, 0, 0, math.nan, math.nan, 0, 0, (), (), str(error))
    top, left = noise_bands(image)
    inner = image[top:, left:]
    areas: tuple[float, ...] = ()
    overlaps: tuple[tuple[int, int, float], ...] = ()
    degrees = math.nan
    if stack is not None:
        areas = tuple((stack.areas / image.size).tolist())
        overlaps = tuple((a, b, shared / image.size) for a, b, shared in overlaps_of(stack))
        degrees = tilt_of_stack(stack, data.classes, width) if has_rule(data.classes) else math.nan
    bright = cv2.countNonZero(cv2.inRange(inner, BRIGHT, 255)) / max(1, inner.size)
    return Measured(record.name, record.group, split, height, width, degrees, bright, top, left, areas, overlaps)


def noise_bands(image: np.ndarray) -> tuple[int, int]:
    """Rows of white noise at the top and columns at the left of uint8[H, W], 0 where there is none."""
    rows = _band(image[: 2 * max(1, int(image.shape[0] * BAND_SHARE))])
    deep = max(1, int(image.shape[1] * BAND_SHARE))
    return rows, _band(np.ascontiguousarray(image[:, : 2 * deep].T))


def overlaps_of(stack: Stack) -> list[tuple[int, int, int]]:
    """Pairs of classes that share pixels, and how many."""
    each = [stack.runs[a:b] for a, b in zip(stack.splits[:-1], stack.splits[1:], strict=True)]
    pairs = []
    for a, first in enumerate(each):
        for b in range(a + 1, len(each)):
            other = each[b]
            # pixels are numbered row by row: apart in rows means no run of the one lies between those of the other
            if not len(first) or not len(other) or first[-1, 1] <= other[0, 0] or other[-1, 1] <= first[0, 0]:
                continue
            shared = area(intersection(first, other))
            if shared:
                pairs.append((a, b, shared))
    return pairs


def _band(strip: np.ndarray) -> int:
    """Rows from the first on that are noise, in the upper half of a strip uint8[2 N, W]; the lower half compares."""
    steps = cv2.absdiff(strip[:, 1:], strip[:, :-1]).mean(1)
    half = len(strip) // 2
    noisy = steps[:half] > max(NOISE, NOISE_FACTOR * float(np.median(steps[half:])))
    return int(half if noisy.all() else noisy.argmin())
