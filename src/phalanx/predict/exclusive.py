"""Masks of a softmax, whose classes exclude each other: a pixel has the likeliest of background and the classes.

Maps hold the classes alone. Means, views, windows and resizing are linear, so that background always is the rest to 1.
"""

from collections.abc import Sequence

import numpy as np

from ..config.loss import Head
from ..masks.rle import mask_runs
from ..masks.stack import Stack
from .maps import EMPTY, ProbabilityMaps, Size, stack_of_parts

SOFTMAX_FLOOR = 1e-6  # what maps of a softmax leave out, since background is the rest to 1


def masks_of(parts: Sequence[tuple[ProbabilityMaps, float]], size: Size, threshold: float, head: Head) -> Stack:
    """The masks of the mean that ``parts`` add up to: of sigmoids where it reaches the threshold, of a softmax by
    :func:`exclusive_stack`."""
    return exclusive_stack(parts, size) if head == "softmax" else stack_of_parts(parts, size, threshold)


def exclusive_stack(parts: Sequence[tuple[ProbabilityMaps, float]], size: Size) -> Stack:
    """Masks of the likeliest class of each pixel of an image; of equals background wins, then the first class.

    Args:
        parts: maps that add up to the mean, each with its fraction of the weight.
    """
    count, box = len(parts[0][0].boxes), EMPTY
    for c in range(count):  # the likeliest of 1 + C has at least its part of 1
        for maps, fraction in parts:
            box = box.join(maps.support(c, fraction / (1 + count), size, max(size) / maps.side))
    if box == EMPTY:
        return Stack.of_runs([np.empty((0, 2), np.int64)] * count)
    levels = np.empty((1 + count, *box.shape), np.float32)
    for c in range(count):
        each = [maps.resize(c, box, size, max(size) / maps.side) for maps, _ in parts]
        levels[1 + c] = sum(each[1:], each[0])
    np.subtract(1, levels[1:].sum(axis=0, dtype=np.float64), out=levels[0], casting="same_kind")
    winner, frame, runs = levels.argmax(axis=0), np.zeros(size, bool), []
    for c in range(count):
        frame[box.slices] = winner == 1 + c
        runs.append(mask_runs(frame))
    return Stack.of_runs(runs)
