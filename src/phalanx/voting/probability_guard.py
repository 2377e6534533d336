"""How the members of a vote over probabilities agree, and which of them are misaligned."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from ..submission.matching import check_matching
from ..submission.probabilities import Probabilities
from .agreement_pairs import pairs_json, pairs_table
from .guard import judge
from .probability_faults import RankedPair, correlations, faults, scaled, stored_ranks

MIN_OTHERS = 0.8  # mean rank correlation of the others with each other, to report that a member agrees with none
CHANCE = 2.0  # standard errors: a correlation below is that of shuffled rows
MIN_SHUFFLED = 50  # images, to know that


class ProbabilityAgreement:
    """Rank correlation of every pair of members and class, and what is misaligned.

    Made by :func:`measure_probability_agreement`.

    Attributes:
        correlation: float64[M, M, C] (Spearman); NaN if a member has one value for all images.
        misaligned: one text per misaligned member: which it is, and how.
        notes: what is odd in few images, and may be an honest mistake.
    """

    def __init__(self, names: Sequence[str], images: Sequence[str], classes: Sequence[str], values: np.ndarray):
        self.names, self.images, self.classes = list(names), tuple(images), tuple(classes)
        self._values = values
        self._stored = [stored_ranks(member) for member in values]
        count = len(names)
        self.correlation = np.full((count, count, len(classes)), np.nan)
        for a in range(count):
            for b in range(count):
                self.correlation[a, b] = correlations(self._ranks(a), self._ranks(b)).diagonal()
        self.misaligned, self.notes = self._verdict()

    def _ranks(self, member: int) -> np.ndarray:
        """float64[N, C] of a member."""
        return scaled(self._stored[member])

    @property
    def mean(self) -> np.ndarray:
        """float64[M, M]: mean of ``correlation`` over the classes that have one; 0 if none has."""
        some = ~np.isnan(self.correlation)
        return np.nan_to_num(self.correlation).sum(axis=2) / np.maximum(some.sum(axis=2), 1)

    def identical(self) -> list[tuple[str, str]]:
        """Names of the pairs whose probabilities are all the same."""
        pairs = combinations(range(len(self.names)), 2)
        same = [(a, b) for a, b in pairs if np.array_equal(self._values[a], self._values[b])]
        return [(self.names[a], self.names[b]) for a, b in same]

    def _faults(self, a: int, b: int) -> tuple[list[str], list[str]]:
        names = (self.names[a], self.names[b])
        return faults(RankedPair(names, self.images, self.classes, self._ranks(a), self._ranks(b)))

    def _verdict(self) -> tuple[list[str], list[str]]:
        texts, wrong, noted = judge(self.names, self.mean, self._faults)
        noted += [f"{self.names[m]} has the same probabilities for all images" for m in np.flatnonzero(self._constant)]
        return texts + self._alone(wrong), noted

    @property
    def _constant(self) -> np.ndarray:
        """bool[M]: members whose probabilities do not depend on the image."""
        return np.asarray((self._values == self._values[:, :1]).all(axis=(1, 2)))

    def _alone(self, wrong: set[int]) -> list[str]:
        """Members that order the images as shuffled rows would, though the others agree with each other."""
        texts, mean = [], self.mean
        limit = CHANCE / np.sqrt(max(len(self.images) - 1, 1))
        for member in sorted(set(np.flatnonzero(~self._constant).tolist()) - wrong):
            rest = [other for other in range(len(self.names)) if other not in wrong | {member}]
            if len(rest) < 2 or len(self.images) < MIN_SHUFFLED:
                continue
            own, usual = (float(np.median(v)) for v in (mean[member, rest], [mean[p] for p in combinations(rest, 2)]))
            if own < limit and usual >= MIN_OTHERS:
                texts.append(
                    f"{self.names[member]} is misaligned: it fits the others no better than with shuffled rows (rank "
                    f"correlation {own:.2f}; the others have {usual:.2f} with each other)"
                )
        return texts

    def to_json(self) -> dict[str, Any]:
        """Rank correlation of each pair, by class in their order; members by number, from 1; which are misaligned."""
        return {
            "images": len(self.images),
            "pairs": pairs_json("rank_correlation", self.mean, self.correlation),
            "misaligned": self.misaligned,
        }

    def to_text(self) -> str:
        """A table with one row per class and one column per pair; for five members or more, one column per member."""
        title = f"agreement (rank correlation) over {len(self.images)} images"
        return pairs_table(title, self.names, self.classes, self.mean, self.correlation, last="mean")


def measure_probability_agreement(members: Sequence[Probabilities]) -> ProbabilityAgreement:
    """The agreement of tables of probabilities, over all their images.

    Raises:
        DataError: members that differ in images, classes or sizes.
    """
    check_matching(members)
    first = members[0]
    values = np.stack([member.reorder(first.classes).values for member in members])
    return ProbabilityAgreement([member.name for member in members], first.images, first.classes, values)
