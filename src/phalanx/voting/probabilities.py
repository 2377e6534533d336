"""Votes over probabilities: the weighted mean, and hard votes per class or for one class of each image."""

from collections.abc import Sequence

import numpy as np

from ..errors import DataError
from ..runtime.sidecar import Size
from ..submission.matching import check_matching, known_sizes
from ..submission.probabilities import Probabilities

THRESHOLD = 0.5
_ROUNDING = 1e-9  # of sums of weights: a tie of three tenths and .1 + .2 is one


class Ballot:
    """Members of one vote, their rows and columns in the order of the first.

    Attributes:
        values: float64[M, N, C].
        weights: float64[M], adding up to 1.
        sizes: (height, width) of every image that any member knows.

    Raises:
        DataError: no members, or members that differ in images, classes, heads or sizes; weights that are not one
            positive number each.
    """

    def __init__(self, members: Sequence[Probabilities], weights: Sequence[float] | None = None):
        if not members:
            raise DataError("a vote needs at least one member")
        check_matching(members)
        first = members[0]
        for other in members[1:]:
            if first.head and other.head and first.head != other.head:
                raise DataError(
                    f"{first.name} and {other.name} differ in head: {first.head} and {other.head}. Vote tables of one "
                    "kind of network together"
                )
        given = np.ones(len(members)) if weights is None else np.asarray(weights, float)
        if given.shape != (len(members),) or not np.isfinite(given).all() or not (given > 0).all():
            raise DataError(f"weights={[*(weights or [])]}: {len(members)} members need one finite number above 0 each")
        self.images, self.classes, self.weights = first.images, first.classes, given / given.sum()
        self.head = next((member.head for member in members if member.head), None)
        self.sizes: dict[str, Size] = known_sizes(members)
        self.values = np.empty((len(members), *first.values.shape))  # filled in turn: tables may be large
        for values, member in zip(self.values, members, strict=True):
            same = member.classes == first.classes
            values[:] = member.values if same else member.reorder(first.classes).values

    def mean(self) -> np.ndarray:
        """The weighted mean of the probabilities, float64[N, C]."""
        return np.tensordot(self.weights, self.values, axes=1).clip(0, 1)

    def votes(self, thresholds: np.ndarray | None = None) -> np.ndarray:
        """The fraction of the votes that each class has, float64[N, C].

        A member votes for the class of its largest probability, of equals the first; of sigmoids, for each class that
        reaches its threshold.

        Args:
            thresholds: float[C] of sigmoids; 0.5 by default.

        Raises:
            DataError: thresholds of a softmax, or not one for each class; the head is not known.
        """
        limits = self._limits(thresholds)
        if self.head == "softmax":
            marks = np.arange(len(self.classes)) == self.values.argmax(axis=2)[:, :, None]
        else:
            marks = self.values >= limits
        return np.tensordot(self.weights, marks, axes=1).clip(0, 1)

    def hard(self, thresholds: np.ndarray | None = None) -> np.ndarray:
        """The decisions float64[N, C], 0 or 1, as :meth:`votes`.

        Of a softmax one class wins: that with the most votes, of equals the one with the largest weighted mean
        probability. Of sigmoids each class needs more than half of the votes; with exactly half, its weighted mean
        must reach the threshold.
        """
        fractions, mean = self.votes(thresholds), self.mean()
        if self.head == "softmax":
            most = fractions >= fractions.max(axis=1, keepdims=True) - _ROUNDING
            won = np.where(most, mean, -1).argmax(axis=1)
            return (np.arange(len(self.classes)) == won[:, None]).astype(float)
        tied = np.abs(fractions - 0.5) <= _ROUNDING
        return np.where(tied, mean >= self._limits(thresholds), fractions > 0.5).astype(float)

    def _limits(self, thresholds: np.ndarray | None) -> np.ndarray:
        if self.head is None:
            raise DataError("a hard vote needs to know the head, and no member's sidecar records it; give head=")
        if thresholds is None:
            return np.full(len(self.classes), THRESHOLD)
        limits = np.asarray(thresholds, float)
        if self.head == "softmax":
            raise DataError("thresholds are for head=sigmoid; of a softmax the class with the most votes wins")
        if limits.shape != (len(self.classes),) or not np.isfinite(limits).all():
            raise DataError(f"{limits.size} thresholds for {len(self.classes)} classes; give a number for each")
        return limits
