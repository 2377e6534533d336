"""Geometry of boxes float64[N, 4]: x_min, y_min, x_max, y_max on pixel edges of a frame (height, width)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


def pairwise_iou(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """float64[N, M]: intersection over union of each box [N, 4] with each of [M, 4]; 0 for two boxes without area.

    >>> pairwise_iou(np.array([[0, 0, 2, 2.0]]), np.array([[1, 0, 3, 2.0], [5, 5, 6, 6]])).round(4).tolist()
    [[0.3333, 0.0]]
    """
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    whole = box_areas(one)[:, None] + box_areas(other)[None] - shared
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)


def box_areas(corners: np.ndarray) -> np.ndarray:
    """float64[N]: pixels; 0 if the corners are not in order."""
    return np.asarray(np.clip(corners[:, 2:] - corners[:, :2], 0, None).prod(axis=1))


class BoxView(NamedTuple):
    """A view of test-time augmentation: mirrored left to right, upside down, then turned counterclockwise by quarters.

    As ``predict.views.View`` shows an image, whose boxes :meth:`invert` maps back.
    """

    hflip: bool = False
    vflip: bool = False
    turns: int = 0

    @property
    def mirrored(self) -> bool:
        """Left and right change places."""
        return self.hflip != self.vflip

    def apply(self, corners: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Boxes [N, 4] of the image of ``size`` (height, width) as this view shows them."""
        height, width = size
        found = _mirrored(corners, 0, width) if self.hflip else corners
        found = _mirrored(found, 1, height) if self.vflip else found
        for _ in range(self.turns % 4):
            found, height, width = _turned(found, width), width, height
        return found

    def invert(self, corners: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Boxes [N, 4] of this view in the image again, whose ``size`` is (height, width)."""
        height, width = size[::-1] if self.turns % 2 else size
        found = corners
        for _ in range(-self.turns % 4):
            found, height, width = _turned(found, width), width, height
        found = _mirrored(found, 1, height) if self.vflip else found
        return _mirrored(found, 0, width) if self.hflip else found

    def invert_classes(self, classes: np.ndarray, mirror: Sequence[int]) -> np.ndarray:
        """Classes int64[N] of a view in the image again.

        Args:
            mirror: the class that each one becomes in a mirrored image, as ``data.classes.mirrored`` lists them.
        """
        return np.asarray(mirror, np.int64)[classes] if self.mirrored and len(mirror) else classes


def _mirrored(corners: np.ndarray, axis: int, side: float) -> np.ndarray:
    """Boxes mirrored in x (axis 0) or y (axis 1) of a frame with that side."""
    found = np.array(corners, float)
    found[:, [axis, axis + 2]] = side - corners[:, [axis + 2, axis]]
    return found


def _turned(corners: np.ndarray, width: float) -> np.ndarray:
    """Boxes of a frame turned by 90 degrees counterclockwise, as ``numpy.rot90`` turns its pixels."""
    x_min, y_min, x_max, y_max = corners.T
    return np.stack([y_min, width - x_max, y_max, width - x_min], axis=1)
