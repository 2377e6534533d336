"""Pixels of masks of classes that exclude each other: shared, true and predicted, of label maps or of submissions."""

from typing import NamedTuple

import numpy as np

from ..errors import DataError
from ..masks import rle
from ..masks.stack import Stack, any_class, shared_areas
from .confusion import ratio


class MaskCounts(NamedTuple):
    """Pixels of one image or, with a leading axis, of several: of each class, then of the background."""

    shared: np.ndarray  # float64[..., C + 1]: in the ground truth and the prediction
    truth: np.ndarray  # float64[..., C + 1]
    predicted: np.ndarray  # float64[..., C + 1]; the background of an image of unknown size is NaN, in all three

    @property
    def iou(self) -> np.ndarray:
        """float64[..., C + 1]; NaN if neither has the class."""
        return ratio(self.shared, self.either)

    @property
    def either(self) -> np.ndarray:
        """float64[..., C + 1]: in the ground truth or the prediction."""
        return self.truth + self.predicted - self.shared

    @property
    def pooled_iou(self) -> np.ndarray:
        """float64[C + 1]: of the pixels of all images together; NaN if none has the class."""
        return ratio(self.shared.sum(axis=0), self.either.sum(axis=0))


def counts_of_maps(truth: np.ndarray, predicted: np.ndarray, classes: int) -> MaskCounts:
    """Counts of two label maps int[H, W], in which 0 is background and k is class k - 1.

    >>> counts_of_maps(np.array([[0, 1, 2]]), np.array([[0, 2, 2]]), 2).iou.tolist()
    [0.0, 0.5, 1.0]

    Raises:
        DataError: shapes that differ, a label that is not from 0 to ``classes``.
    """
    if truth.shape != predicted.shape:
        raise DataError(f"label maps are {list(truth.shape)} and {list(predicted.shape)}; they need one size")
    for labels in (truth, predicted):
        if labels.size and not 0 <= labels.min() <= labels.max() <= classes:
            raise DataError(f"a label map has labels {labels.min()} to {labels.max()}; they are 0 to {classes}")
    size = classes + 1
    flat = truth.astype(np.int64).ravel() * size + predicted.astype(np.int64).ravel()
    matrix = np.bincount(flat, minlength=size * size).reshape(size, size).astype(float)
    order = [*range(1, size), 0]
    sides = (matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0))
    return MaskCounts(*(side[order] for side in sides))


def counts_of_stacks(truth: Stack, predicted: Stack, pixels: int | None) -> MaskCounts:
    """Counts of the masks of two submissions. ``pixels``: of the image; None: its background is not known."""
    shared = shared_areas(truth, predicted)
    wholes = any_class(truth), any_class(predicted)
    covered = [rle.area(runs) for runs in (*wholes, rle.union(*wholes))]  # of the truth, the prediction, either
    rest = [np.nan if pixels is None else pixels - area for area in covered]
    sides = ([*shared, rest[2]], [*truth.areas, rest[0]], [*predicted.areas, rest[1]])
    return MaskCounts(*(np.array(side, float) for side in sides))
