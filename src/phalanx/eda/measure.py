"""Measures one image: areas and overlaps of its classes, tilt of the hand, bright pixels, noise bands.

Runs in worker processes and returns a few numbers per image, so that memory does not grow with image size.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np

from ..config import SegmentData
from ..data.brightness import brightness
from ..data.images import read_grey
from ..data.records import Record
from ..data.rotation import has_rule, tilt_of_stack
from ..data.truth import planes_of
from ..errors import DataError
from ..masks.rle import area, intersection
from ..masks.stack import Stack

BEYOND = 2**62  # any pixel


class Measured(NamedTuple):
    """Measurements of one image. Areas are fractions of the image; NaN or empty if unknown."""

    name: str
    group: str
    split: str
    height: int
    width: int
    degrees: float  # tilt of the hand
    bright: float  # fraction of bright pixels outside the noise bands
    top: int  # rows of noise
    left: int  # columns of noise
    areas: tuple[float, ...]  # per class
    overlaps: tuple[tuple[int, int, float], ...]  # class, class, shared area
    problem: str = ""


def measure(record: Record, *, split: str, data: SegmentData) -> Measured:
    """Measures an image and its annotation, if any. An unusable file becomes a ``problem``."""
    cv2.setNumThreads(1)  # the images are processed in parallel already
    try:
        image = read_grey(record.image)
        height, width = image.shape
        stack = None
        if record.labels is not None:
            planes = planes_of(record, data, (height, width))
            stack = Stack.of_planes(planes, len(data.classes))
    except DataError as error:
        return Measured(record.name, record.group, split, 0, 0, math.nan, math.nan, 0, 0, (), (), str(error))
    bright, top, left = brightness(image)
    areas: tuple[float, ...] = ()
    overlaps: tuple[tuple[int, int, float], ...] = ()
    degrees = math.nan
    if stack is not None:
        areas = tuple((stack.areas / image.size).tolist())
        overlaps = tuple((a, b, shared / image.size) for a, b, shared in overlaps_of(stack, width))
        degrees = tilt_of_stack(stack, data.classes, width) if has_rule(data.classes) else math.nan
    return Measured(record.name, record.group, split, height, width, degrees, bright, top, left, areas, overlaps)


def overlaps_of(stack: Stack, width: int) -> list[tuple[int, int, int]]:
    """Returns the pairs of classes that share pixels of an image of that width, and the number of pixels."""
    each = [stack.runs[a:b] for a, b in pairwise(stack.splits)]
    boxes = np.array([_box(runs, width) for runs in each])  # (C, 2, 2): first and last, of rows and columns
    first, last = boxes[:, 0], boxes[:, 1]
    meet = ((first[:, None] <= last) & (first <= last[:, None])).all(2)  # most pairs do not
    pairs = []
    for a, b in np.argwhere(np.triu(meet, 1)).tolist():
        shared = area(intersection(each[a], each[b]))
        if shared:
            pairs.append((a, b, shared))
    return pairs


def _box(runs: np.ndarray, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns the first and last row and column, inclusive, of runs int64[N, 2]; without runs, an empty box."""
    if not len(runs):
        return (BEYOND, BEYOND), (-1, -1)
    rows, columns = np.divmod(runs - (0, 1), width)
    if (rows[:, 0] < rows[:, 1]).any():  # a run that continues in the next row
        columns = np.array([[0, width - 1]])
    return (rows[0, 0], columns[:, 0].min()), (rows[-1, 1], columns[:, 1].max())
