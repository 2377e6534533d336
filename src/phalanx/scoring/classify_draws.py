"""Figures of a classification in draws of patients: sums by patient, and the order of the images by their scores."""

from collections.abc import Callable, Sequence

import numpy as np

from ..config.classify_loss import Head
from .confusion import BinaryCounts, against_healthy, mean_defined, one_against_rest
from .ranking import Ranking

RANKED = ("auc", "ap")  # figures that follow from the order of the probabilities, not from counts


class GroupedFigures:
    """What each patient adds to the figures. A draw says how often each patient is in it.

    Args:
        probabilities: float64[L, C] of the labelled images alone, as all that follow.
        labels: float64[L, C]: 0, 1 or NaN; with a softmax no NaN.
        predicted: bool[L, C].
        patients: of each image.
        healthy: index of the class that is no disease.

    Attributes:
        groups: number of patients.
    """

    def __init__(
        self,
        probabilities: np.ndarray,
        labels: np.ndarray,
        predicted: np.ndarray,
        patients: np.ndarray,
        head: Head,
        healthy: int | None,
    ):
        self.probabilities, self.labels, self.head, self.healthy = probabilities, labels, head, healthy
        names, self._of_image = np.unique(patients, return_inverse=True)
        self.groups, classes = len(names), labels.shape[1]
        if head == "softmax":
            self._confusion = np.zeros((self.groups, classes, classes), np.int64)
            places = (labels.argmax(axis=1), predicted.argmax(axis=1)) if len(labels) else ([], [])
            np.add.at(self._confusion, (self._of_image, *places), 1)
        else:
            cells = [(labels == a) & (predicted == b) for a, b in ((1, 1), (0, 1), (1, 0), (0, 0))]
            self._cells = self._sum(np.stack(cells, axis=2))
        right = ((labels == predicted) | np.isnan(labels)).all(axis=1)
        self._right = self._sum(np.stack([right, ~right], axis=1))

    def _sum(self, values: np.ndarray) -> np.ndarray:
        """int64[G, ...]: sums over the images of each patient of bool[L, ...]."""
        sums = np.zeros((self.groups, *values.shape[1:]), np.int64)
        np.add.at(sums, self._of_image, values)
        return sums

    @property
    def whole(self) -> np.ndarray:
        """int64[1, G]: the draw that has each patient once."""
        return np.ones((1, self.groups), np.int64)

    def matrices(self, drawn: np.ndarray) -> np.ndarray:
        """[R, C, C]: confusion matrices of a softmax in draws [R, G]."""
        return np.tensordot(drawn, self._confusion, axes=1)

    def counts(self, drawn: np.ndarray) -> BinaryCounts:
        """[R, C]: each class against all others in draws [R, G]."""
        if self.head == "softmax":
            return one_against_rest(self.matrices(drawn))
        return BinaryCounts(*np.moveaxis(np.tensordot(drawn, self._cells, axes=1), -1, 0))

    def scored(self, c: int) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities float64[K] and labels bool[K] of the images that have a label of a class."""
        known = ~np.isnan(self.labels[:, c])
        return self.probabilities[known, c], self.labels[known, c] == 1

    def diseased(self) -> tuple[np.ndarray, np.ndarray]:
        """Probability of any disease float64[L], and whether there is one, bool[L]."""
        assert self.healthy is not None
        return 1 - self.probabilities[:, self.healthy], self.labels[:, self.healthy] == 0

    def function(self, metric: str) -> Callable[[np.ndarray], np.ndarray]:
        """A figure of the whole, float64[R], as a function of draws [R, G]."""
        kind, _, name = metric.partition("_")
        if name not in RANKED:
            return lambda drawn: self._of_counts(metric, drawn)
        rankings = [(Ranking(*self.diseased()), self._of_image)] if kind == "disease" else self._rankings()
        return lambda drawn: mean_defined(_in_draws(name, rankings, drawn))

    def of_classes(self, name: str, drawn: np.ndarray) -> np.ndarray:
        """float64[R, C]: a figure of each class against all others in draws [R, G]."""
        if name not in RANKED:
            return np.asarray(getattr(self.counts(drawn), name))
        return _in_draws(name, self._rankings(), drawn)

    def _rankings(self) -> list[tuple[Ranking, np.ndarray]]:
        """Of each class: its images by their probability, and the patient of each."""
        classes = range(self.labels.shape[1])
        return [(Ranking(*self.scored(c)), self._of_image[~np.isnan(self.labels[:, c])]) for c in classes]

    def _of_counts(self, metric: str, drawn: np.ndarray) -> np.ndarray:
        """float64[R]: a figure that follows from counts."""
        kind, _, name = metric.partition("_")
        if kind == "disease":
            assert self.healthy is not None
            return np.asarray(getattr(against_healthy(self.matrices(drawn), self.healthy), name))
        if metric == "subset_accuracy" or (metric == "accuracy" and self.head == "softmax"):
            right, wrong = (drawn @ self._right).T
            return BinaryCounts(right, wrong, *np.zeros((2, len(drawn)))).accuracy
        counts = self.counts(drawn)
        if metric == "accuracy":  # of all labels of sigmoids
            return BinaryCounts(*(side.sum(axis=1) for side in counts)).accuracy
        if metric == "balanced_accuracy":
            return mean_defined(counts.recall if self.head == "softmax" else counts.balanced_accuracy)
        return mean_defined(getattr(counts, name))  # macro


def _in_draws(name: str, rankings: Sequence[tuple[Ranking, np.ndarray]], drawn: np.ndarray) -> np.ndarray:
    """float64[R, K]: a figure of each of K rankings in draws [R, G]."""
    return np.stack([getattr(ranking, name)(drawn[:, whose]) for ranking, whose in rankings], axis=1)
