"""Further figures of the masks of a sweep's row, beside Dice: numbers by name, from a submission and its ground truth.

A figure of another kind is one more entry of FIGURES, which a table of configs/sweep/ names in ``figures``. F1 at an
IoU is named by its rule, as in ``{positive: diseased, negative: normal, iou: 0.5}``.
"""

import math
from collections.abc import Callable, Sequence

from ..config.f1_iou import F1AtIoU
from ..scoring.f1_submission import f1_of_submissions
from ..scoring.iou import pooled_iou
from ..submission.table import Submission

Figure = str | F1AtIoU

FIGURES: dict[str, Callable[[Submission, Submission], dict[str, float]]] = {
    "iou": lambda submission, truth: {f"IoU {name}": value for name, value in pooled_iou(submission, truth).items()},
}


def figures_of(figures: Sequence[Figure], submission: Submission, truth: Submission) -> dict[str, float]:
    """All figures by name, rounded as results are stored.

    Args:
        figures: of FIGURES, or rules of F1 at an IoU, which is 0 if there is neither a disease nor one predicted.
    """
    found: dict[str, float] = {}
    for one in figures:
        if isinstance(one, str):
            found |= FIGURES[one](submission, truth)
    rules = [one for one in figures if isinstance(one, F1AtIoU)]
    for rule, score in zip(rules, f1_of_submissions(submission, truth, rules), strict=True):
        value = score.value("f1")
        found[f1_name(rule)] = 0.0 if math.isnan(value) else value
    return {name: round(value, 5) for name, value in found.items()}


def f1_name(rule: F1AtIoU) -> str:
    """Name of F1 at an IoU in results: its threshold and class, and what is not the default of the rule.

    >>> f1_name(F1AtIoU(positive="diseased", negative="normal", both="larger_area"))
    'F1@0.5 diseased, larger_area'
    """
    other = [value for value, usual in ((rule.both, "any"), (rule.below, "fn")) if value != usual]
    return ", ".join([f"F1@{rule.iou:g} {rule.positive}", *other])


def has_figures(found: dict[str, float] | None, figures: Sequence[Figure]) -> bool:
    """Whether results have all figures that a table asks for."""
    names = found or {}
    return all(f1_name(one) in names if isinstance(one, F1AtIoU) else bool(names) for one in figures)
