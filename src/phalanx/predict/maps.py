"""Probabilities of one image, each class stored only inside the box that contains some, and masks made of them.

Bones fill a few hundredths of their 29 planes. What is outside a class's box counts as 0: for the masks of a single map
that changes nothing, since bilinear interpolation never exceeds its neighbours; a mean of several maps is at most
``FLOOR`` too low there.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..data.classes import mirrored
from ..data.images import Grid
from ..masks.rle import mask_runs
from ..masks.stack import Stack

FLOOR = 1 / 510  # half a step of 8 bits: less is stored as 0
SLACK = 1e-6  # relative; float32 rounds a weighted mean of two numbers by less

Size = tuple[int, int]


class Box(NamedTuple):
    """Rows ``top`` to ``bottom`` and columns ``left`` to ``right``, ends excluded; all 0 for nothing."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def shape(self) -> Size:
        return self.bottom - self.top, self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def within(self, outer: "Box") -> tuple[slice, slice]:
        """The slices of this box in an array over ``outer``."""
        return (
            slice(self.top - outer.top, self.bottom - outer.top),
            slice(self.left - outer.left, self.right - outer.left),
        )

    def join(self, other: "Box") -> "Box":
        """The smallest box around both."""
        if not all(self.shape) or not all(other.shape):
            return self if all(self.shape) else other
        return Box(
            min(self.top, other.top), min(self.left, other.left),
            max(self.bottom, other.bottom), max(self.right, other.right),
        )  # fmt: skip

    def intersect(self, other: "Box") -> "Box":
        """What both hold."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        bottom, right = min(self.bottom, other.bottom), min(self.right, other.right)
        return Box(top, left, bottom, right) if top < bottom and left < right else EMPTY


EMPTY = Box(0, 0, 0, 0)


def box_of(where: np.ndarray) -> Box:
    """The box of what is set in bool[H, W]."""
    rows = np.flatnonzero(where.any(1))
    if not len(rows):
        return EMPTY
    columns = np.flatnonzero(where[rows[0] : rows[-1] + 1].any(0))
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


class ProbabilityMaps:
    """Probabilities of C classes on a square grid whose top left corner holds the image.

    Attributes:
        side: of the grid.
        boxes: one a class.
        values: float32[h, w] a class, over its box.
    """

    def __init__(self, side: int, boxes: Sequence[Box], values: Sequence[np.ndarray]):
        self.side, self.boxes, self.values = side, list(boxes), list(values)

    @classmethod
    def of(cls, dense: np.ndarray, floor: float = FLOOR) -> "ProbabilityMaps":
        """Probability maps of float32[C, n, n], cropped to what reaches ``floor``."""
        boxes = [box_of(plane >= floor) for plane in dense]
        return cls(dense.shape[1], boxes, [plane[box.slices] for plane, box in zip(dense, boxes, strict=True)])

    def dense(self) -> np.ndarray:
        """float32[C, n, n], 0 outside the boxes."""
        full = Box(0, 0, self.side, self.side)
        return np.stack([self.crop(c, full) for c in range(len(self.boxes))])

    def crop(self, c: int, box: Box) -> np.ndarray:
        """float32[h, w] of class ``c`` over any box of the grid."""
        own = self.boxes[c]
        if own == box:
            return self.values[c]
        out, shared = np.zeros(box.shape, np.float32), own.intersect(box)
        if shared != EMPTY:
            out[shared.within(box)] = self.values[c][shared.within(own)]
        return out

    def resize(self, c: int, box: Box, size: Size, scale: float) -> np.ndarray:
        """float32[h, w] of class ``c``, bilinear, over a box of a frame with ``scale`` pixels a grid pixel.

        Half-pixel centres; beyond the image of ``size`` (height, width) its border goes on, as in `Grid.restore`.
        """
        if scale == 1:
            return self.crop(c, box)
        rows, columns = Grid(*size, self.side).content
        up, down, v = _neighbours(box.top, box.bottom, scale, rows)
        left, right, u = _neighbours(box.left, box.right, scale, columns)
        block = self.crop(c, Box(up[0], left[0], down[-1] + 1, right[-1] + 1))
        left, right, up, down = left - left[0], right - left[0], up - up[0], down - up[0]
        wide = block[:, left] * (1 - u) + block[:, right] * u  # columns first: there are fewer rows yet
        return wide[up] * (1 - v)[:, None] + wide[down] * v[:, None]

    def support(self, c: int, floor: float, size: Size, scale: float) -> Box:
        """A box outside which :meth:`stretch` of class ``c`` stays below ``floor``, in an image of ``size``."""
        found = box_of(self.values[c] >= floor * (1 - SLACK))
        if found == EMPTY:
            return EMPTY
        top, left = found.top + self.boxes[c].top, found.left + self.boxes[c].left
        bottom, right = found.bottom + self.boxes[c].top, found.right + self.boxes[c].left
        if scale == 1:
            return Box(top, left, bottom, right).intersect(Box(0, 0, *size))
        # pixel y looks at grid rows around (y + 0.5) / scale - 0.5; one more for what rounds
        ends = [math.floor((top - 0.5) * scale) - 1, math.floor((left - 0.5) * scale) - 1]
        ends += [math.ceil((bottom + 0.5) * scale) + 1, math.ceil((right + 0.5) * scale) + 1]
        return Box(*ends).intersect(Box(0, 0, *size))

    def places(self, size: Size, threshold: float) -> np.ndarray:
        """float64[C, 3]: centre and area of each class's mask in an image of ``size``, measured on the grid."""
        found = np.full((len(self.boxes), 3), np.nan)
        found[:, 2] = 0
        scale = max(size) / self.side
        for c, (box, values) in enumerate(zip(self.boxes, self.values, strict=True)):
            mask = values >= threshold
            down, across = mask.sum(axis=1), mask.sum(axis=0)
            if area := int(down.sum()):
                x = (across @ np.arange(len(across))) / area + box.left
                y = (down @ np.arange(len(down))) / area + box.top
                found[c] = (x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5, area * scale**2
        return found

    def regrid(self, side: int, size: Size) -> "ProbabilityMaps":
        """The maps of an image of ``size`` on another grid, bilinear."""
        if side == self.side:
            return self
        scale, frame = side / self.side, Grid(*size, side).content
        all_of_it = float(np.finfo(np.float32).tiny)
        boxes = [self.support(c, all_of_it, (frame[0], frame[1]), scale) for c in range(len(self.boxes))]
        return ProbabilityMaps(side, boxes, [
            self.resize(c, box, size, scale) if box != EMPTY else np.zeros((0, 0), np.float32)
            for c, box in enumerate(boxes)
        ])  # fmt: skip


def _neighbours(first: int, last: int, scale: float, limit: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Grid lines before and after each pixel of a range, and the fraction of the latter; clamped to ``limit`` lines."""
    place = np.clip((np.arange(first, last) + 0.5) / scale - 0.5, 0, limit - 1)
    low = place.astype(int)
    return low, np.minimum(low + 1, limit - 1), (place - low).astype(np.float32)


class MapsSum:
    """A growing sum of maps of one grid: memory for what holds something, however many are added."""

    def __init__(self, side: int, classes: int):
        self.side = side
        self.boxes = [EMPTY] * classes
        self.values = [np.zeros((0, 0), np.float32)] * classes

    def add(self, maps: ProbabilityMaps, factor: float = 1.0) -> None:
        """Adds maps of the same grid, times a factor."""
        for c, (box, values) in enumerate(zip(maps.boxes, maps.values, strict=True)):
            self.add_one(c, box, values if factor == 1 else values * np.float32(factor))

    def add_one(self, c: int, box: Box, values: np.ndarray) -> None:
        """Adds float32[h, w] over a box of class ``c``."""
        if box == EMPTY:
            return
        if self.boxes[c] == EMPTY:
            self.boxes[c], self.values[c] = box, values.copy()
            return
        around = self.boxes[c].join(box)
        if around != self.boxes[c]:
            grown = np.zeros(around.shape, np.float32)
            grown[self.boxes[c].within(around)] = self.values[c]
            self.boxes[c], self.values[c] = around, grown
        self.values[c][box.within(around)] += values

    def over(self, weight: float | np.ndarray) -> ProbabilityMaps:
        """The sum divided by a number, or by float32[n, n] of the grid (0 where nothing was added)."""
        if isinstance(weight, np.ndarray):
            parts = [weight[box.slices] for box in self.boxes]
            values = [
                np.divide(v, w, out=np.zeros_like(v), where=w > 0) for v, w in zip(self.values, parts, strict=True)
            ]
        else:
            values = [v if weight == 1 else v / np.float32(weight) for v in self.values]
        return ProbabilityMaps(self.side, self.boxes, values)


class MapsMean:
    """A weighted mean of maps of one image, those of each grid together, so that each is enlarged once.

    Args:
        size: height and width of the image.
    """

    def __init__(self, size: Size):
        self.size, self.weight = size, 0.0
        self.places: list[np.ndarray] = []  # float64[C, 3] of each member of a vote
        self.totals: dict[int, tuple[MapsSum, float]] = {}  # by side: the sum, and its weight

    def add(self, maps: ProbabilityMaps, weight: float = 1.0) -> None:
        total, before = self.totals.get(maps.side, (MapsSum(maps.side, len(maps.boxes)), 0.0))
        total.add(maps, weight)
        self.totals[maps.side] = total, before + weight
        self.weight += weight

    def parts(self) -> list[tuple[ProbabilityMaps, float]]:
        """Probability maps that add up to the mean, one per grid, with its fraction of the weight."""
        return [(total.over(self.weight), part / self.weight) for total, part in self.totals.values()]

    def on_finest_grid(self) -> ProbabilityMaps:
        """The mean on the finest of its grids."""
        side = max(self.totals)
        (first, *others) = [maps.regrid(side, self.size) for maps, _ in self.parts()]
        if not others:
            return first
        total = MapsSum(side, len(first.boxes))
        for maps in (first, *others):
            total.add(maps)
        return total.over(1)

    def stack(self, threshold: float) -> Stack:
        """The masks at the size of the image: where the mean, upsampled, reaches the threshold.

        A class is upsampled only inside the box where it can reach it: a sum reaches it nowhere unless one of its parts
        reaches its own fraction of it.
        """
        return stack_of_parts(self.parts(), self.size, threshold)


def stack_of_parts(
    parts: Sequence[tuple[ProbabilityMaps, float]],
    size: Size,
    thresholds: float | Sequence[float],
    cleanings: Mapping[int, Callable[[np.ndarray], np.ndarray]] | None = None,
) -> Stack:
    """As :meth:`MapsMean.stack`.

    Args:
        thresholds: one, or one a class.
        cleanings: by class, what is then done with its mask bool[h, w], which is a box around all of it.
    """
    frame, runs, count = np.zeros(size, bool), [], len(parts[0][0].boxes)
    each = [thresholds] * count if isinstance(thresholds, float) else thresholds
    for c, threshold in zip(range(count), each, strict=True):
        box = EMPTY
        for maps, fraction in parts:
            box = box.join(maps.support(c, threshold * fraction, size, max(size) / maps.side))
        if box == EMPTY:
            runs.append(np.empty((0, 2), np.int64))
            continue
        level = [maps.resize(c, box, size, max(size) / maps.side) for maps, _ in parts]
        mask = sum(level[1:], level[0]) >= threshold
        frame[box.slices] = cleanings[c](mask) if cleanings and c in cleanings else mask
        runs.append(mask_runs(frame))
        frame[box.slices] = False
    return Stack.of_runs(runs)


def reordered(maps: ProbabilityMaps, pairs: Sequence[tuple[int, int]]) -> ProbabilityMaps:
    """Probability maps with the classes of each pair swapped."""
    order = mirrored(len(maps.boxes), pairs)
    return ProbabilityMaps(maps.side, [maps.boxes[c] for c in order], [maps.values[c] for c in order])
