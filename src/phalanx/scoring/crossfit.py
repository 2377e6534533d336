"""Choices fitted on all folds but one and scored on that one, so that none is judged by what it was fitted on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import gcd

import numpy as np

from .compare import Comparison

LEAST = 0.0001  # mean Dice: a smaller gain is not worth a rule, however sure
SURE = (
    3.0  # standard errors over patients that a candidate must gain where it is fitted: the best of dozens has 2 often
)
CANDIDATES = 256  # weightings of few members that are tried at most
EVERY = 8  # members of which every choice is among them

Votes = tuple[int, ...]  # of each member
Fit = Callable[[np.ndarray, np.ndarray], np.ndarray]  # Dice float[N, C, K], patients int[N] -> candidate int[C]


@dataclass(frozen=True)
class Verdict:
    """What cross-fitting says of a choice.

    Attributes:
        comparison: the default, and the choice as fitted without the image's own fold.
        in_sample: mean Dice of the choice fitted on all images and scored on the same: optimistic.
        chosen: the candidate of each class, int[C], fitted on all images; what is used where the choice is kept.
        by_fold: the same, fitted without that fold.
    """

    choice: str
    comparison: Comparison
    in_sample: float
    chosen: np.ndarray
    by_fold: dict[int, np.ndarray]

    @property
    def kept(self) -> bool:
        return worth(self.comparison)


def worth(comparison: Comparison) -> bool:
    """Whether the second of two is better for sure (95% interval over patients) and by enough to matter."""
    return comparison.interval is not None and comparison.interval[0] > 0 and comparison.difference >= LEAST


def cross_fit(
    choice: str, dice: np.ndarray, *, default: int, fit: Fit, folds: np.ndarray, images: Sequence[str],
    patients: Sequence[str], classes: Sequence[str],
) -> Verdict:  # fmt: skip
    """Fits a choice without each fold in turn and scores it on that fold.

    Args:
        dice: float[I, C, K], of every image, class and candidate.
        default: the candidate it is compared with, the same for all classes.
        folds: int[I]; the images of a patient lie in one.
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
    return Verdict(choice, compared, float(dice[:, labels, chosen].mean()), chosen, by_fold)


def per_class(default: int) -> Fit:
    """Each class takes its best candidate, the nearest to the default among equals, where the gain is sure."""

    def fit(dice: np.ndarray, patients: np.ndarray) -> np.ndarray:
        means = dice.mean(0, dtype=float)  # (C, K)
        near = np.argsort(abs(np.arange(means.shape[1]) - default), kind="stable")
        best = near[_first_best(means[:, near])]
        gaps = dice[:, np.arange(len(best)), best].astype(float) - dice[:, :, default]
        return np.where(sure(gaps, patients), best, default)

    return fit


def for_all(default: int) -> Fit:
    """All classes take the one candidate that is best in the mean, where the gain is sure."""

    def fit(dice: np.ndarray, patients: np.ndarray) -> np.ndarray:
        means = dice.mean((0, 1), dtype=float)
        return _settled(dice, patients, int(_first_best(means[None])[0]), default)

    return fit


def forward(weightings: np.ndarray, *, repeat: bool = False) -> Fit:
    """Greedy forward selection (Caruana et al., 2004): the best member, then again and again the one that helps most,
    until none does; all members where the gain over them is not sure.

    Args:
        weightings: int[K, M], all that the selection comes by.
        repeat: a member may be taken again, up to as many votes as there are members: selection with replacement.
    """
    index = {tuple(row): k for k, row in enumerate(weightings.tolist())}
    members = weightings.shape[1]

    def fit(dice: np.ndarray, patients: np.ndarray) -> np.ndarray:
        found, missing = _climbed(dice.mean((0, 1), dtype=float), index, members, repeat)
        if missing:
            raise KeyError(missing[0])
        return _settled(dice, patients, index[found], index[(1,) * members])

    return fit


def _climbed(means: np.ndarray, index: Mapping[Votes, int], members: int, repeat: bool) -> tuple[Votes, list[Votes]]:
    """Where greedy selection ends by mean Dice float[K] of the votes in ``index``; or what it lacks to go on."""
    taken, best = (0,) * members, -np.inf
    for _ in range(members):
        grown = [(*taken[:m], taken[m] + 1, *taken[m + 1 :]) for m in range(members) if repeat or not taken[m]]
        shares = [tuple(votes // gcd(*row) for votes in row) for row in grown]
        missing = [share for share in shares if share not in index]
        if missing:
            return taken, missing
        reached = [means[index[share]] for share in shares]
        top = int(np.argmax(reached))
        if reached[top] <= best:
            break
        taken, best = grown[top], reached[top]
    return tuple(votes // gcd(*taken) for votes in taken), []


def explored(
    measure: Callable[[np.ndarray], np.ndarray], members: int, folds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Votes int[K, M] and their Dice float[I, C, K]: all that greedy selection, with and without replacement, comes by
    without each fold and on all images. For members too many to try every choice.

    Args:
        measure: Dice of votes int[k, M]; asked once a member selected.
    """
    rows: list[Votes] = [(1,) * members, *map(tuple, np.eye(members, dtype=int).tolist())]
    dice = measure(np.array(rows))
    while True:
        index = {row: k for k, row in enumerate(rows)}
        means = [dice[folds != fold].mean((0, 1), dtype=float) for fold in [-1, *np.unique(folds).tolist()]]
        missing = {
            row for mean in means for repeat in (False, True) for row in _climbed(mean, index, members, repeat)[1]
        }
        if not missing:
            return np.array(rows), dice
        rows += sorted(missing)
        dice = np.concatenate([dice, measure(np.array(rows[-len(missing) :]))], axis=2)


def weightings(members: int) -> np.ndarray:
    """Votes int[K, M] worth trying, each proportion once: as fine a grid of whole numbers as ``CANDIDATES`` allows for
    2 to ``EVERY`` members.

    >>> weightings(2).tolist()[:4]
    [[0, 1], [1, 0], [1, 1], [1, 2]]
    """
    top = next(top for top in (4, 3, 2, 1) if (top + 1) ** members <= CANDIDATES)
    rows = [row for row in product(range(top + 1), repeat=members) if gcd(*row) == 1]
    return np.array(rows)


def sure(gaps: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Whether means over images of float[N, ...] lie ``SURE`` standard errors above 0; a patient's images are alike."""
    names, index = np.unique(patients, return_inverse=True)
    if len(names) < 2:
        return np.zeros(gaps.shape[1:], bool)
    mean = gaps.mean(0)
    sums = np.zeros((len(names), *gaps.shape[1:]))
    np.add.at(sums, index, gaps - mean)
    error = np.sqrt((sums**2).sum(0) * len(names) / (len(names) - 1)) / len(gaps)
    return (mean > 1e-9) & (mean > SURE * error)


def _settled(dice: np.ndarray, patients: np.ndarray, best: int, default: int) -> np.ndarray:
    gaps = dice[:, :, best].mean(1, dtype=float) - dice[:, :, default].mean(1, dtype=float)
    return np.full(dice.shape[1], best if sure(gaps, patients) else default)


def _first_best(means: np.ndarray) -> np.ndarray:
    """The first column of each row that is best within rounding."""
    return (means >= means.max(1, keepdims=True) - 1e-9).argmax(1)
