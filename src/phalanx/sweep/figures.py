"""Further figures of the masks of a sweep's row, beside Dice: numbers by name, from a submission and its ground truth.

A figure of another kind is one more entry of FIGURES, which a table of configs/sweep/ names in ``figures``.
"""

from collections.abc import Callable, Sequence

from ..scoring.iou import pooled_iou
from ..submission.table import Submission

FIGURES: dict[str, Callable[[Submission, Submission], dict[str, float]]] = {
    "iou": lambda submission, truth: {f"IoU {name}": value for name, value in pooled_iou(submission, truth).items()},
}


def figures_of(names: Sequence[str], submission: Submission, truth: Submission) -> dict[str, float]:
    """All figures by name, rounded as results are stored.

    Args:
        names: of FIGURES.
    """
    found: dict[str, float] = {}
    for name in names:
        found |= FIGURES[name](submission, truth)
    return {name: round(value, 5) for name, value in found.items()}
