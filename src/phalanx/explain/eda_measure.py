"""What one image tells: its bones' areas and overlaps, the tilt of the hand, bright pixels, bands of noise.

Runs in worker processes and returns a few numbers an image, so memory does not grow with the images' pixels.
"""

import math
from typing import NamedTuple

import cv2

from ..config import Data
from ..data.brightness import brightness
from ..data.images import read_grey
from ..data.records import Record
from ..data.rotation import has_rule, tilt_of_stack
from ..data.truth import planes_of
from ..errors import DataError
from ..submit.rle import area, encode_planes, intersection
from ..submit.stack import Stack


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
    bright, top, left = brightness(image)
    areas: tuple[float, ...] = ()
    overlaps: tuple[tuple[int, int, float], ...] = ()
    degrees = math.nan
    if stack is not None:
        areas = tuple((stack.areas / image.size).tolist())
        overlaps = tuple((a, b, shared / image.size) for a, b, shared in overlaps_of(stack))
        degrees = tilt_of_stack(stack, data.classes, width) if has_rule(data.classes) else math.nan
    return Measured(record.name, record.group, split, height, width, degrees, bright, top, left, areas, overlaps)


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
