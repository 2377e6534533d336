"""Rotation of a hand at the wrist, by the rule that split the competition's data into two groups.

The line from the centre of the Ulna to the centre of the little finger's tip (finger-16), in degrees from vertical;
from 33 degrees on the hand counts as rotated. Measured on polygons or on the runs of any submission, regardless of
side: left and right hands count alike.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from ..masks.stack import Stack
from .polygons import Polygon

BASE, TIP, LIMIT = "Ulna", "finger-16", 33.0


def has_rule(classes: Sequence[str]) -> bool:
    """Whether a data set has the two bones that the rule needs."""
    return BASE in classes and TIP in classes


def tilt(base: np.ndarray, tip: np.ndarray) -> float:
    """Degrees from vertical, 0 to 180, of the line from ``base`` to ``tip``, each x, y with y down.

    >>> tilt(np.array([10, 30]), np.array([10, 5])), round(tilt(np.array([0, 10]), np.array([-10, 0])))
    (0.0, 45)
    """
    return math.degrees(math.atan2(abs(tip[0] - base[0]), base[1] - tip[1]))


def tilt_of_polygons(polygons: Iterable[Polygon], classes: Sequence[str]) -> float:
    """The rule on an annotation; NaN if one of the two bones is not annotated."""
    outlines: dict[int, list[np.ndarray]] = {classes.index(BASE): [], classes.index(TIP): []}
    for label, points in polygons:
        if label in outlines:
            outlines[label].append(points)
    if not all(outlines.values()):
        return math.nan
    base, tip = (_centre_of_outlines(parts) for parts in outlines.values())
    return tilt(base, tip)


def tilt_of_stack(stack: Stack, classes: Sequence[str], width: int) -> float:
    """The rule on the masks of an image ``width`` pixels wide; NaN if one of the two bones is empty."""
    centres = []
    for name in (BASE, TIP):
        label = classes.index(name)
        runs = stack.runs[stack.splits[label] : stack.splits[label + 1]]
        if not len(runs):
            return math.nan
        centres.append(centre_of_runs(runs, width))
    return tilt(*centres)


def centre_of_runs(runs: np.ndarray, width: int) -> np.ndarray:
    """Centroid x, y of the pixels of runs int64[N, 2], N >= 1, in an image ``width`` pixels wide.

    >>> centre_of_runs(np.array([[0, 3], [5, 8]]), width=5)
    array([1. , 0.5])
    """
    if (runs[:, 0] // width != (runs[:, 1] - 1) // width).any():  # a run that continues in the next row
        runs = np.concatenate([_split_at_rows(start, end, width) for start, end in runs.tolist()])
    length = (runs[:, 1] - runs[:, 0]).astype(np.float64)
    row, column = np.divmod(runs[:, 0], width)
    return np.array([(column + (length - 1) / 2) @ length, row @ length]) / length.sum()


def _split_at_rows(start: int, end: int, width: int) -> np.ndarray:
    edges = [start, *range((start // width + 1) * width, end, width), end]
    return np.array([edges[:-1], edges[1:]]).T


def _centre_of_outlines(outlines: Sequence[np.ndarray]) -> np.ndarray:
    """Centroid of the area inside outlines float64[N, 2] that do not overlap (shoelace formula)."""
    moments = np.zeros(3)
    for points in outlines:
        after = np.roll(points, -1, axis=0)
        cross = points[:, 0] * after[:, 1] - after[:, 0] * points[:, 1]
        own = np.array([cross.sum() / 2, *((points + after) * cross[:, None]).sum(0) / 6])
        moments += own * np.sign(own[0])
    if moments[0] < 1e-9:  # outlines without area: use their points
        return np.concatenate(outlines).mean(0)
    return moments[1:] / moments[0]
