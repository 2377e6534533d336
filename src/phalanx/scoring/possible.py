"""Whether published binary figures can all come from one integer confusion matrix."""

from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from .confusion import BinaryCounts

FIGURES = ("accuracy", "recall", "specificity", "precision", "f1")
MAX_CANDIDATES = 50_000_000  # matrices that are tried
_ROUNDING = 1e-9  # of a published digit: 0.98765 is published as 0.9876 or 0.9877


class Possible(NamedTuple):
    """Whether there is such a matrix.

    Attributes:
        matrix: one of those that have the figures; None if there is none.
        reason: which of the figures exclude each other; empty if there is a matrix.
    """

    matrix: BinaryCounts | None
    reason: str

    @property
    def possible(self) -> bool:
        """There is a matrix, or nothing is known that excludes one."""
        return not self.reason


def possible_row(
    row: Mapping[str, float], positives: int | None = None, negatives: int | None = None, decimals: int = 4
) -> Possible:
    """Whether rounded figures of a binary test can come from one integer confusion matrix.

    F1 is the harmonic mean of precision and recall, and no precision exceeds 1. So F1 is at most 2 R / (1 + R) for any
    sizes.

    Args:
        row: figures from 0 to 1 by name, of ``FIGURES``.
        positives, negatives: images of each kind. Without both, only the bound of F1 is tried.
        decimals: to which the figures are rounded.

    Raises:
        DataError: an unknown figure, one outside 0 to 1, no figure, or sizes with too many matrices to try.
    """
    for name, value in row.items():
        if name not in FIGURES:
            raise DataError(f"{name}: is not a figure of a binary confusion matrix; known: {', '.join(FIGURES)}")
        if not 0 <= value <= 1:
            raise DataError(f"{name}={value}: is not a fraction from 0 to 1; divide percentages by 100")
    if not row:
        raise DataError(f"a row has no figure of a binary confusion matrix; known: {', '.join(FIGURES)}")
    half = 10.0**-decimals * (0.5 + _ROUNDING)
    if "recall" in row and "f1" in row:
        recall = min(1.0, row["recall"] + half)
        if row["f1"] - half > 2 * recall / (1 + recall):
            bound = 2 * row["recall"] / (1 + row["recall"])
            return Possible(
                None,
                f"f1 {row['f1']:.{decimals}f} exceeds 2R/(1+R) = {bound:.{decimals}f} for recall "
                f"{row['recall']:.{decimals}f}",
            )
    if positives is None or negatives is None:
        return Possible(None, "")
    found = _matching(row, positives, negatives, half)
    if len(found.tp):
        return Possible(BinaryCounts(*(side[0] for side in found)), "")
    for size in range(1, len(row) + 1):
        for names in combinations([name for name in FIGURES if name in row], size):
            if not len(_matching({name: row[name] for name in names}, positives, negatives, half).tp):
                figures = " and ".join(f"{name} {row[name]:.{decimals}f}" for name in names)
                together = "cannot be" if size == 1 else "do not fit together"
                return Possible(None, f"{figures} {together} with {positives} positives and {negatives} negatives")
    raise AssertionError("all figures together have no matrix, so some of them have none")


def _matching(row: Mapping[str, float], positives: int, negatives: int, half: float) -> BinaryCounts:
    """The matrices int64[K] whose figures are those of the row within ``half``."""
    hits = _near(row.get("recall"), positives, half)
    spared = _near(row.get("specificity"), negatives, half)
    if len(hits) * len(spared) > MAX_CANDIDATES:
        raise DataError(
            f"{positives} positives and {negatives} negatives: more than {MAX_CANDIDATES} matrices to try; give recall "
            "or specificity, too"
        )
    tp, tn = (side.ravel() for side in np.meshgrid(hits, spared, indexing="ij"))
    counts = BinaryCounts(tp, negatives - tn, positives - tp, tn)
    good = np.ones(len(tp), bool)
    for name, value in row.items():
        figure = getattr(counts, name)
        good &= np.abs(np.nan_to_num(figure, nan=2.0) - value) <= half
    return BinaryCounts(*(side[good] for side in counts))


def _near(figure: float | None, images: int, half: float) -> np.ndarray:
    """Numbers out of ``images`` whose fraction is a figure within ``half``; all if it is not known."""
    counts = np.arange(images + 1)
    return counts if figure is None else counts[np.abs(counts - figure * images) <= half * images + 1e-9]
