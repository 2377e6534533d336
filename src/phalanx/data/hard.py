"""The rule ``data.hard``: training on the images in which an earlier run took one class for another, out of fold."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from ..config import Hard
from ..errors import ConfigError
from .records import Record
from .selection import SelectionRow

Pair = tuple[str, str]


class NoFailures(ConfigError):
    """An earlier run has no failure to train on."""


class Mined(NamedTuple):
    """What an earlier run predicted for images that the predicting fold had not seen.

    Attributes:
        probabilities: float64[N, C].
        predicted: bool[N, C], the decisions.
        labels: float64[N, C] of 0, 1 and NaN (missing), as the run was trained on them.
    """

    run: str
    classes: tuple[str, ...]
    images: tuple[str, ...]
    probabilities: np.ndarray
    predicted: np.ndarray
    labels: np.ndarray


class Failure(NamedTuple):
    """An image that has class ``shown`` and not ``taken``, for which ``taken`` was predicted.

    ``missed``: ``shown`` was not predicted, so the one was taken for the other.
    """

    image: str
    shown: str
    taken: str
    probability: float  # of ``taken``
    missed: bool

    def reason(self, run: str) -> str:
        """Why the image is trained on.

        >>> Failure("a.png", "AC", "AFI", 0.912, True).reason("base")
        'AC taken for AFI with 0.91 out of fold by base'
        """
        what = f"{self.shown} taken for {self.taken}" if self.missed else f"{self.taken} added to {self.shown}"
        return f"{what} with {self.probability:.2f} out of fold by {run}"


def taken(mined: Mined) -> np.ndarray:
    """bool[N, C, C]: image n has class a and not b, and b was predicted."""
    has, lacks = mined.labels == 1, mined.labels == 0
    return has[:, :, None] & (lacks & mined.predicted)[:, None, :]


def confusions(mined: Mined) -> dict[Pair, int]:
    """Number of images in which either class of a pair was predicted for the other, for all pairs in class order."""
    wrong = taken(mined)
    return {
        (mined.classes[a], mined.classes[b]): int((wrong[:, a, b] | wrong[:, b, a]).sum())
        for a, b in combinations(range(len(mined.classes)), 2)
    }


def confused_pairs(mined: Mined) -> list[Pair]:
    """The pairs with at least as many confusions as the average pair has, the most confused first; maybe none."""
    counts = confusions(mined)
    average = sum(counts.values()) / max(1, len(counts))
    found = [pair for pair, count in counts.items() if count and count >= average]
    return sorted(found, key=lambda pair: -counts[pair])


def failures_on(mined: Mined, pairs: Sequence[Pair]) -> list[Failure]:
    """The images that fail on one of the pairs, in the order of ``images``: of several failures the likeliest one."""
    wrong, place = taken(mined), {name: c for c, name in enumerate(mined.classes)}
    ways = [(place[a], place[b]) for pair in pairs for a, b in (pair, pair[::-1])]
    found = []
    for n, image in enumerate(mined.images):
        here = [(a, b) for a, b in ways if wrong[n, a, b]]
        if here:
            a, b = max(here, key=lambda way: mined.probabilities[n, way[1]])
            p = float(mined.probabilities[n, b])
            found.append(Failure(image, mined.classes[a], mined.classes[b], p, not mined.predicted[n, a]))
    return found


def told_apart(mined: Mined, pairs: Sequence[Pair]) -> tuple[int, int]:
    """Of the images that have one class of a pair and not the other: in how many the one and not the other was
    predicted, and how many there are. An image counts once for each of its pairs.
    """
    place, right, count = {name: c for c, name in enumerate(mined.classes)}, 0, 0
    for a, b in [way for one, other in pairs for way in ((place[one], place[other]), (place[other], place[one]))]:
        here = (mined.labels[:, a] == 1) & (mined.labels[:, b] == 0)
        count += int(here.sum())
        right += int((here & mined.predicted[:, a] & ~mined.predicted[:, b]).sum())
    return right, count


def hard_rows(records: Sequence[Record], rule: Hard, mined: Mined, seed: int) -> dict[str, SelectionRow]:
    """Selection rows by name of the images that the rule decides about.

    Args:
        records: labelled images outside the quarantine, all of which ``mined`` has.
        seed: draws the right images that are trained on with the failures.

    Raises:
        NoFailures: no image fails on the pairs.
    """
    pairs = rule.pairs or confused_pairs(mined)
    names = {record.name for record in records}
    failures = {one.image: one for one in failures_on(mined, pairs) if one.image in names}
    if not failures:
        where = " or ".join("/".join(pair) for pair in pairs) or "any pair of classes"
        raise NoFailures(
            f"data.hard.run={rule.run}: no training image fails on {where} out of fold, so there is nothing to train "
            "on; name other pairs, or leave the rule out"
        )
    weight = rule.weight if rule.keep == "all" and rule.weight else 1.0
    rows = {
        image: SelectionRow(image, weight, rule="hard", reason=one.reason(rule.run)) for image, one in failures.items()
    }
    if rule.keep == "all":
        return rows
    rows |= _right_rows(names, rule, mined, failures, seed)
    others = "neither a failure nor drawn among the right images"
    return {name: rows.get(name) or SelectionRow(name, 0.0, rule="hard", reason=others) for name in names}


def _right_rows(
    names: set[str], rule: Hard, mined: Mined, failures: Mapping[str, Failure], seed: int
) -> dict[str, SelectionRow]:
    """Rows of right images, ``per_failure`` for each failure of the same class, drawn at random."""
    right = ((mined.predicted == mined.labels) | np.isnan(mined.labels)).all(axis=1)
    right &= np.array([image in names for image in mined.images], bool)
    counts, rows = Counter(one.shown for one in failures.values()), dict[str, SelectionRow]()
    for c, name in enumerate(mined.classes):
        wanted = int((rule.per_failure or 0) * counts[name] + 0.5)
        free = [n for n in np.flatnonzero(right & (mined.labels[:, c] == 1)) if mined.images[n] not in rows]
        drawn = np.random.default_rng([seed, c]).permutation(len(free))[:wanted]
        for n in sorted(free[k] for k in drawn):
            text = f"right about {name} with {mined.probabilities[n, c]:.2f} out of fold by {rule.run}"
            rows[mined.images[n]] = SelectionRow(mined.images[n], rule="hard", reason=text)
    return rows
