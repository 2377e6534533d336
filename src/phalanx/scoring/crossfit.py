"""Choices fitted on all folds but one and scored on that one, so that none is scored on what it was fitted on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import gcd

import numpy as np

from .compare import Comparison

MIN_GAIN = 0.0001  # mean Dice: a smaller gain is not worth a rule, however significant
# Standard errors over patients that a candidate must gain on the images it is fitted on: the best of dozens often
# gains 2 by chance.
MIN_GAIN_SE = 3.0
MAX_WEIGHTINGS = 256  # of few members that are tried
MAX_EXHAUSTIVE_MEMBERS = 8  # of so many members, every choice is among the weightings tried

Votes = tuple[int, ...]  # of each member
Fit = Callable[[np.ndarray, np.ndarray], np.ndarray]  # Dice float[N, C, K], patients int[N] -> candidate int[C]


@dataclass(frozen=True)
class CrossFit:
    """A choice as cross-fitting finds it.

    Attributes:
        comparison: the default, and the choice as fitted without the image's own fold.
        in_sample: mean Dice of the choice fitted on all images and scored on the same: optimistic.
        chosen: the candidate of each class, int[C], fitted on all images; used if the choice is adopted.
        by_fold: the same, fitted without that fold.
    """

    choice: str
    comparison: Comparison
    in_sample: float
    chosen: np.ndarray
    by_fold: dict[int, np.ndarray]

    @property
    def adopted(self) -> bool:
        """The choice is better by enough to use it."""
        return is_worthwhile(self.comparison)


def is_worthwhile(comparison: Comparison) -> bool:
    """Whether the second of two is significantly better (95% interval over patients), and by enough to matter."""
    return comparison.interval is not None and comparison.interval[0] > 0 and comparison.difference >= MIN_GAIN


def cross_fit(
    choice: str, dice: np.ndarray, *, default: int, fit: Fit, folds: np.ndarray, images: Sequence[str],
    patients: Sequence[str], classes: Sequence[str],
) -> CrossFit:  # fmt: skip
    """Fits a choice without each fold in turn and scores it on that fold.

    Args:
        dice: float[I, C, K], of every image, class and candidate.
        default: the candidate it is compared with, the same for all classes.
        folds: int[I]; the images of a patient are in one.
    """
    number, labels = np.unique(patients, return_inverse=True)[1], np.arange(dice.shape[1])
    scored, by_fold = np.empty(dice.shape[:2]), {}
    for fold in np.unique(folds).tolist():
        held = folds == fold
        by_fold[fold] = fit(dice[~held], number[~held])
        scored[held] = dice[held][:, labels, by_fold[fold]]
    chosen = fit(dice, number)
    pair = np.stack([dice[:, :, default].astype(float), scored])
    compared = Comparison(("default", choice), tuple(images), tuple(patients), tuple(classes), pair)
    return CrossFit(choice, compared, float(dice[:, labels, chosen].mean()), chosen, by_fold)


def per_class(default: int) -> Fit:
    """Each class takes its best candidate, of equals the nearest to the default, if the gain is significant."""

    def fit(dice: np.ndarray, patients: np.ndarray) -> np.ndarray:
        means = dice.mean(0, dtype=float)  # (C, K)
        near = np.argsort(abs(np.arange(means.shape[1]) - default), kind="stable")
        best = near[_first_best(means[:, near])]
        gaps = dice[:, np.arange(len(best)), best].astype(float) - dice[:, :, default]
        return np.where(is_significant(gaps, patients), best, default)

    return fit


def for_all(default: int) -> Fit:
    """All classes take the one candidate that is best in the mean, if the gain is significant."""

    def fit(dice: np.ndarray, patients: np.ndarray) -> np.ndarray:
        means = dice.mean((0, 1), dtype=float)
        return _best_if_significant(dice, patients, int(_first_best(means[None])[0]), default)

    return fit


def forward(weightings: np.ndarray, *, repeat: bool = False) -> Fit:
    """Greedy forward selection (Caruana et al., 2004): the best member, then the one that helps most, until none does.

    All members are taken if the gain over them is not significant.

    Args:
        weightings: int[K, M], all that the selection visits.
        repeat: a member may be taken again, up to as many votes as there are members: selection with replacement.
    """
    index = {tuple(row): k for k, row in enumerate(weightings.tolist())}
    members = weightings.shape[1]

    def fit(dice: np.ndarray, patients: np.ndarray) -> np.ndarray:
        found, missing = _greedy(dice.mean((0, 1), dtype=float), index, members, repeat)
        if missing:
            raise KeyError(missing[0])
        return _best_if_significant(dice, patients, index[found], index[(1,) * members])

    return fit


def _greedy(means: np.ndarray, index: Mapping[Votes, int], members: int, repeat: bool) -> tuple[Votes, list[Votes]]:
    """Where greedy selection ends by mean Dice float[K] of the votes in ``index``, or the votes it needs to go on."""
    taken, best = (0,) * members, -np.inf
    for _ in range(members):
        grown = [(*taken[:m], taken[m] + 1, *taken[m + 1 :]) for m in range(members) if repeat or not taken[m]]
        fractions = [tuple(votes // gcd(*row) for votes in row) for row in grown]
        missing = [one for one in fractions if one not in index]
        if missing:
            return taken, missing
        reached = [means[index[one]] for one in fractions]
        top = int(np.argmax(reached))
        if reached[top] <= best:
            break
        taken, best = grown[top], reached[top]
    return tuple(votes // gcd(*taken) for votes in taken), []


def explore_weightings(
    measure: Callable[[np.ndarray], np.ndarray], members: int, folds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Votes int[K, M] and their Dice float[I, C, K]: all that greedy selection visits, for too many members to try all.

    Selection is with and without replacement, without each fold and on all images.

    Args:
        measure: Dice of votes int[k, M]; called once per selected member.
    """
    rows: list[Votes] = [(1,) * members, *map(tuple, np.eye(members, dtype=int).tolist())]
    dice = measure(np.array(rows))
    while True:
        index = {row: k for k, row in enumerate(rows)}
        means = [dice[folds != fold].mean((0, 1), dtype=float) for fold in [-1, *np.unique(folds).tolist()]]
        missing = {
            row for mean in means for repeat in (False, True) for row in _greedy(mean, index, members, repeat)[1]
        }
        if not missing:
            return np.array(rows), dice
        rows += sorted(missing)
        dice = np.concatenate([dice, measure(np.array(rows[-len(missing) :]))], axis=2)


def weightings(members: int) -> np.ndarray:
    """Votes int[K, M] to try, each proportion once: as fine a grid of whole numbers as ``MAX_WEIGHTINGS`` allows.

    Args:
        members: 2 to ``MAX_EXHAUSTIVE_MEMBERS``.

    >>> weightings(2).tolist()[:4]
    [[0, 1], [1, 0], [1, 1], [1, 2]]
    """
    top = next(top for top in (4, 3, 2, 1) if (top + 1) ** members <= MAX_WEIGHTINGS)
    rows = [row for row in product(range(top + 1), repeat=members) if gcd(*row) == 1]
    return np.array(rows)


def is_significant(gaps: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Whether means over images of float[N, ...] are ``MIN_GAIN_SE`` standard errors above 0, clustered by patient."""
    names, index = np.unique(patients, return_inverse=True)
    if len(names) < 2:
        return np.zeros(gaps.shape[1:], bool)
    mean = gaps.mean(0)
    sums = np.zeros((len(names), *gaps.shape[1:]))
    np.add.at(sums, index, gaps - mean)
    error = np.sqrt((sums**2).sum(0) * len(names) / (len(names) - 1)) / len(gaps)
    return (mean > 1e-9) & (mean > MIN_GAIN_SE * error)


def _best_if_significant(dice: np.ndarray, patients: np.ndarray, best: int, default: int) -> np.ndarray:
    gaps = dice[:, :, best].mean(1, dtype=float) - dice[:, :, default].mean(1, dtype=float)
    return np.full(dice.shape[1], best if is_significant(gaps, patients) else default)


def _first_best(means: np.ndarray) -> np.ndarray:
    """The first column of each row that is best within rounding."""
    return (means >= means.max(1, keepdims=True) - 1e-9).argmax(1)
