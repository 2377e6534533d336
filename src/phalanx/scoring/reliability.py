"""How far probabilities are from frequencies: reliability tables and the expected calibration error (ECE)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..config.classify_loss import Head
from .confusion import mean_defined, ratio

BINS = 15  # Guo et al., 2017, "On calibration of modern neural networks"


class Reliability(NamedTuple):
    """Bins of probabilities; those without any are left out.

    Attributes:
        low, high: float64[K], ends of the bins.
        predictions: int64[K], in each.
        confidence: float64[K], their mean probability.
        frequency: float64[K], the fraction of them that came true.
    """

    low: np.ndarray
    high: np.ndarray
    predictions: np.ndarray
    confidence: np.ndarray
    frequency: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error: mean distance of confidence and frequency over predictions; NaN without any."""
        return float(ratio((self.predictions * np.abs(self.confidence - self.frequency)).sum(), self.predictions.sum()))

    @property
    def largest_error(self) -> float:
        """The largest distance in any bin; NaN without any."""
        return float(np.abs(self.confidence - self.frequency).max()) if len(self.predictions) else np.nan


def reliability(
    confidence: np.ndarray, outcome: np.ndarray, bins: int = BINS, *, equal_mass: bool = False
) -> Reliability:
    """A table of predicted probabilities float[N] against whether they came true, bool[N].

    Args:
        bins: their number. By default all are equally wide, from 0 to 1; each has its lower end, the last also 1.
        equal_mass: the bins have as many predictions each instead. Equal ones are in one bin, so there may be fewer.
    """
    confidence, outcome = np.asarray(confidence, float), np.asarray(outcome, bool)
    if equal_mass:
        starts = np.arange(1, bins) * len(confidence) // bins if len(confidence) else np.zeros(0, int)
        edges = np.unique([0.0, *np.sort(confidence)[starts], 1.0])
    else:
        edges = np.linspace(0, 1, bins + 1)
    number = np.clip(np.searchsorted(edges, confidence, side="right") - 1, 0, len(edges) - 2)
    count = np.bincount(number, minlength=len(edges) - 1)
    sums = [np.bincount(number, weights=values, minlength=len(count)) for values in (confidence, outcome)]
    some = count > 0
    return Reliability(edges[:-1][some], edges[1:][some], count[some], *(ratio(s, count)[some] for s in sums))


def outcomes(probabilities: np.ndarray, labels: np.ndarray, head: Head) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities float64[K] and whether they came true, bool[K].

    Of a softmax it is the largest probability of each image, and whether that class is right. Of sigmoids it is every
    probability that has a label.

    Args:
        probabilities, labels: float[N, C]; NaN is a missing label.
    """
    if head == "sigmoid":
        known = ~np.isnan(labels)
        return probabilities[known], labels[known] == 1
    known = ~np.isnan(labels).any(axis=1)
    top = probabilities.argmax(axis=1)[:, None]
    taken = (np.take_along_axis(values, top, axis=1)[known, 0] for values in (probabilities, labels))
    confidence, right = taken
    return confidence, right == 1


def calibration_json(
    probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str], head: Head, bins: int = BINS
) -> dict[str, Any]:
    """Calibration errors as JSON types: by bins of equal width and of equal mass, and of each class with equal mass.

    The mean over classes is over those with a label (Kull et al., 2019, "Beyond temperature scaling").
    """
    pairs = outcomes(probabilities, labels, head)
    missing = np.isnan(labels) if head == "sigmoid" else np.isnan(labels).any(axis=1, keepdims=True)
    known = np.broadcast_to(~missing, labels.shape)
    by_class = np.array([
        reliability(probabilities[known[:, c], c], labels[known[:, c], c] == 1, bins, equal_mass=True).error
        for c in range(len(classes))
    ])  # fmt: skip
    wide, full = reliability(*pairs, bins), reliability(*pairs, bins, equal_mass=True)
    found = {
        "ece_equal_width": wide.error,
        "ece_equal_mass": full.error,
        "largest_error": wide.largest_error,
        "ece_of_classes": float(mean_defined(by_class)),
    }
    return {
        "bins": bins,
        **{name: _number(value) for name, value in found.items()},
        "classes": {name: _number(value) for name, value in zip(classes, by_class.tolist(), strict=True)},
        "table": [
            dict(zip(Reliability._fields, row, strict=True))
            for row in zip(*(column.tolist() for column in wide), strict=True)
        ],
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
