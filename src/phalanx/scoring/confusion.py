"""Figures from integer confusion matrices. A ratio whose denominator is 0 is NaN, and a mean is over what is defined.

All functions take any leading axes, so that one formula serves the value and its resamples.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class BinaryCounts(NamedTuple):
    """Numbers of images, any shape: true and false positives, false and true negatives."""

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    tn: np.ndarray

    @property
    def accuracy(self) -> np.ndarray:
        """Fraction of the images that are right."""
        return ratio(self.tp + self.tn, self.tp + self.fp + self.fn + self.tn)

    @property
    def recall(self) -> np.ndarray:
        """Fraction of the positives that are found, the sensitivity; NaN without positives."""
        return ratio(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> np.ndarray:
        """Fraction of the negatives that are called so; NaN without negatives."""
        return ratio(self.tn, self.tn + self.fp)

    @property
    def precision(self) -> np.ndarray:
        """Fraction of the found that are positive; NaN if nothing is found."""
        return ratio(self.tp, self.tp + self.fp)

    @property
    def f1(self) -> np.ndarray:
        """2 TP / (2 TP + FP + FN), 0 if a class is missed or invented; NaN if it is neither present nor found."""
        return ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def balanced_accuracy(self) -> np.ndarray:
        """Mean of recall and specificity; NaN if one of them is."""
        return (self.recall + self.specificity) / 2


def ratio(part: ArrayLike, whole: ArrayLike) -> np.ndarray:
    """``part / whole`` float64; NaN where ``whole`` is 0."""
    top, bottom = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    return np.divide(top, bottom, out=np.full(bottom.shape, np.nan), where=bottom > 0)


def mean_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN; NaN if all is."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0).sum(axis=-1), defined.sum(axis=-1))


def one_against_rest(matrix: np.ndarray) -> BinaryCounts:
    """Each class against all others, [..., C] from a confusion matrix [..., C, C]."""
    tp = np.diagonal(matrix, axis1=-2, axis2=-1)
    fp, fn = matrix.sum(axis=-2) - tp, matrix.sum(axis=-1) - tp
    return BinaryCounts(tp, fp, fn, matrix.sum(axis=(-2, -1))[..., None] - tp - fp - fn)


def against_healthy(matrix: np.ndarray, healthy: int) -> BinaryCounts:
    """Any disease (positive) against healthy, [...] from a confusion matrix [..., C, C].

    A disease that is taken for another one counts as found.
    """
    tn, row, column = matrix[..., healthy, healthy], matrix[..., healthy, :], matrix[..., :, healthy]
    fp, fn = row.sum(axis=-1) - tn, column.sum(axis=-1) - tn
    return BinaryCounts(matrix.sum(axis=(-2, -1)) - tn - fp - fn, fp, fn, tn)


def predictive_values(recall: float, specificity: float, prevalence: float) -> tuple[float, float]:
    """Positive and negative predictive value at a prevalence, by Bayes' rule; NaN if undefined.

    >>> [round(value, 6) for value in predictive_values(0.9, 0.9, 0.1)]
    [0.5, 0.987805]
    """
    found, spared = recall * prevalence, specificity * (1 - prevalence)
    alarms, missed = (1 - specificity) * (1 - prevalence), (1 - recall) * prevalence
    return float(ratio(found, found + alarms)), float(ratio(spared, spared + missed))
