"""Votes over probabilities: the weighted mean, and hard votes per class or for one class of each image."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

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
        self.values = _together(members)

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


def gathered(members: Iterable[Probabilities], count: int) -> list[Probabilities]:
    """Members whose values are parts of one array, if they have the images and classes of the first: of large tables,
    each is in memory once.

    Args:
        members: may be a generator that reads them one by one.
        count: of the members.
    """
    found, whole = list[Probabilities](), np.zeros((0, 0, 0))
    for number, member in enumerate(members):
        if not found:
            whole = np.empty((count, *member.values.shape))
        same = member.classes == (found[0] if found else member).classes and member.values.shape == whole.shape[1:]
        if same:
            whole[number] = member.values
            member = replace(member, values=whole[number])
        found.append(member)
    return found


def _together(members: Sequence[Probabilities]) -> np.ndarray:
    """float64[M, N, C] in the classes' order of the first; not copied of members that were :func:`gathered`."""
    first = members[0]
    whole = first.values.base
    if isinstance(whole, np.ndarray) and whole.shape == (len(members), *first.values.shape):
        same = all(member.classes == first.classes for member in members)
        if same and all(_is_part(member.values, part) for member, part in zip(members, whole, strict=True)):
            return whole
    values = np.empty((len(members), *first.values.shape))  # filled in turn
    for part, member in zip(values, members, strict=True):
        part[:] = member.values if member.classes == first.classes else member.reorder(first.classes).values
    return values


def _is_part(values: np.ndarray, part: np.ndarray) -> bool:
    """Whether two arrays are the same memory in the same order."""
    one, other = (array.__array_interface__ for array in (values, part))
    return all(one[key] == other[key] for key in ("data", "strides", "shape", "typestr"))
