"""Boxes of one image, and what is not a box.

Corners are in pixels of the stored image and lie on edges: a box of the first pixel alone is 0, 0, 1, 1. Numbers of a
CSV have at most ``CORNER_DECIMALS`` and ``SCORE_DECIMALS`` decimals.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError
from ..runtime.sidecar import Size

HEADER = ("image_name", "class", "score", "x_min", "y_min", "x_max", "y_max")
CORNERS = HEADER[3:]
CORNER_DECIMALS = 4
SCORE_DECIMALS = 9
OUTSIDE = 1.0  # pixels that a box may leave the frame by: tools round outwards, or count pixels from 1


class Boxes(NamedTuple):
    """Boxes of one image."""

    corners: np.ndarray  # float64[N, 4]: x_min, y_min, x_max, y_max in pixels of the stored image
    scores: np.ndarray  # float64[N] from 0 to 1; of the ground truth 1
    classes: np.ndarray  # int64[N], index into the list of classes
    ignore: np.ndarray | None = None  # bool[N] of the ground truth: finding it is neither right nor wrong

    @classmethod
    def of(cls, corners: Any = (), scores: Any = None, classes: Any = None, ignore: Any = None) -> "Boxes":
        """Boxes of anything that numpy reads; by default of class 0 and score 1.

        >>> Boxes.of([[0, 0, 1, 1]]).areas
        array([1.])

        Raises:
            DataError: numbers of corners, scores, classes and flags that differ.
        """
        found = np.asarray(corners, np.float64).reshape(-1, 4) if np.size(corners) else np.empty((0, 4))
        count = len(found)
        made = cls(
            found,
            np.ones(count) if scores is None else np.asarray(scores, np.float64).reshape(-1),
            np.zeros(count, np.int64) if classes is None else np.asarray(classes, np.int64).reshape(-1),
            None if ignore is None else np.asarray(ignore, bool).reshape(-1),
        )
        for what, values in zip(("scores", "classes", "ignore flags"), made[1:], strict=True):
            if values is not None and len(values) != count:
                raise DataError(f"{len(values)} {what} for {count} boxes; give one for each")
        return made

    @property
    def areas(self) -> np.ndarray:
        """float64[N]: pixels."""
        return np.asarray((self.corners[:, 2:] - self.corners[:, :2]).prod(axis=1))

    @property
    def ignored(self) -> np.ndarray:
        """bool[N]: ``ignore``, or False for each box."""
        return np.zeros(len(self.corners), bool) if self.ignore is None else self.ignore

    def chosen(self, index: np.ndarray) -> "Boxes":
        """The boxes of an index or mask, in its order."""
        ignore = None if self.ignore is None else self.ignore[index]
        return Boxes(self.corners[index], self.scores[index], self.classes[index], ignore)

    def above(self, limits: np.ndarray) -> "Boxes":
        """The boxes whose score is at least the threshold of their class, float64[C], in the same order."""
        return self.chosen(self.scores >= limits[self.classes])

    def order(self) -> np.ndarray:
        """int64[N]: from the highest score to the lowest; equal ones by class and corners, not by chance."""
        return np.lexsort((*self.corners.T[::-1], self.classes, -self.scores))

    def sorted(self) -> "Boxes":
        """The same boxes in their :meth:`order`."""
        return self.chosen(self.order())

    def rounded(self) -> "Boxes":
        """As a CSV contains them: rounded, and :meth:`sorted`."""
        corners = np.round(self.corners, CORNER_DECIMALS) + 0.0  # no -0
        return Boxes(corners, np.round(self.scores, SCORE_DECIMALS), self.classes, self.ignore).sorted()


def check_boxes(boxes: Boxes, classes: int, size: Size | None = None) -> Iterator[tuple[int, str]]:
    """Yields the place and fault of each box that is not one.

    Corners that are not finite or not in order (no area), that leave the frame by more than ``OUTSIDE``, a score
    outside 0 to 1, an unknown class, the same box with the same class and score twice.
    """
    seen: set[tuple[float, ...]] = set()
    for place, (corners, score, label) in enumerate(
        zip(boxes.corners.tolist(), boxes.scores.tolist(), boxes.classes.tolist(), strict=True)
    ):
        values = (*corners, score, label)
        if fault := box_fault(corners, score, size):
            yield place, fault
        elif not 0 <= label < classes:
            yield place, f"class {label} is not one of {classes}"
        elif values in seen:
            yield place, "is there twice with the same score; keep one of them"
        seen.add(values)


def box_fault(corners: Sequence[float], score: float, size: Size | None = None) -> str | None:
    """What is wrong with the numbers of a box, and the remedy; None if nothing is."""
    x_min, y_min, x_max, y_max = corners
    for name, value in zip((*CORNERS, "score"), (*corners, score), strict=True):
        if not np.isfinite(value):
            return f"{name} is {value:g}; every number must be finite"
    for name, low, high in (("x", x_min, x_max), ("y", y_min, y_max)):
        if high <= low:
            return f"{name}_max {number(high)} is not above {name}_min {number(low)}, so it has no area; leave it out"
    if not 0 <= score <= 1:
        return f"score {score:g} is not from 0 to 1; scale the scores"
    edges = (("x", x_min, x_max, size and size[1]), ("y", y_min, y_max, size and size[0]))
    for name, low, high, side in edges:
        if low < -OUTSIDE:
            return f"{name}_min {number(low)} is outside the image, which begins at 0; clip it"
        if side is not None and high > side + OUTSIDE:
            return f"{name}_max {number(high)} is outside the image, whose side is {side}; clip it"
    return None


def number(value: float, decimals: int = CORNER_DECIMALS) -> str:
    """A number as a CSV contains it.

    >>> number(12.0), number(0.5), number(1 / 3), number(-1e-9), number(0.25, 9)
    ('12', '0.5', '0.3333', '0', '0.25')
    """
    text = f"{value:.{decimals}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
