"""The scores of a classification as JSON and as tables for the terminal."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .class_figures import ClassTable, class_rows
from .classify import PER_CLASS, ClassifyScore
from .folded import lowest


def score_json(score: ClassifyScore, intervals: Sequence[str] = ()) -> dict[str, Any]:
    """All figures as JSON types; those that are not defined are null.

    Args:
        intervals: figures that get an interval, which takes up to seconds each.
    """
    metrics = dict[str, dict[str, Any]]()
    for name in score.metrics:
        metrics[name] = {"value": number(score.value(name))}
        if name in intervals:
            metrics[name]["interval"] = score.interval(name)
    columns, ap = {name: score.per_class(name) for name in PER_CLASS}, score.precision_at_prevalence()
    return {
        "name": score.name,
        "head": score.head,
        "images": len(score.images),
        "labelled": int(score.labelled.sum()),
        "patients": len(set(score.patients)) if score.grouped else None,
        "metrics": metrics,
        "classes": {
            label: {name: number(values[c]) for name, values in columns.items()}
            | {name: int(side[c]) for name, side in score.counts._asdict().items()}
            | ({} if score.thresholds is None else {"threshold": float(score.thresholds[c])})
            for c, label in enumerate(score.classes)
        },
        "confusion": score.confusion.tolist() if score.head == "softmax" else None,
        "disease": None
        if score.disease is None
        else {"healthy": score.healthy, **{name: int(side) for name, side in score.disease._asdict().items()}},
        "predictive_values": {
            name: {
                f"{prevalence:g}": {"ppv": number(ppv), "npv": number(npv), "ap": number(ap[name][prevalence])}
                for prevalence, (ppv, npv) in of.items()
            }
            for name, of in score.predictive_values().items()
        },
    }


def class_table(score: ClassifyScore, figure: str = "f1") -> ClassTable:
    """A figure of ``PER_CLASS``, false positives and false negatives of each class, in images."""
    present = score.counts.tp + score.counts.fn
    return ClassTable(
        score.name, figure, "images", class_rows(score.classes, score.per_class(figure), present, score.counts)
    )


def score_text(
    score: ClassifyScore, intervals: Sequence[str] = (), *, most: int | None = None, file: str = "",
    order: Sequence[int] | None = None,
) -> str:  # fmt: skip
    """Tables for the terminal: classes, the confusion matrix of a softmax, the figures of the whole.

    Args:
        most: so many of the classes, those with the lowest F1, and no larger matrix; None: all.
        file: that has the others.
        order: numbers of the classes, if all are shown in another order.
    """
    width = max(map(len, ("class", *score.classes)))
    lines = [f"{'class':<{width}}  images     FP     FN  {'  '.join(f'{name:>11}' for name in PER_CLASS)}"]
    columns = [score.per_class(name) for name in PER_CLASS]
    present = score.counts.tp + score.counts.fn
    chosen, rest = lowest(score.per_class("f1"), most, file)
    for c in chosen if order is None else order:
        cells = "  ".join(f"{text(values[c]):>11}" for values in columns)
        errors = f"{score.counts.fp[c]:>5}  {score.counts.fn[c]:>5}"
        lines.append(f"{score.classes[c]:<{width}}  {present[c]:>6}  {errors}  {cells}")
    lines += rest
    if score.thresholds is not None:
        low, high = score.thresholds.min(), score.thresholds.max()
        limits = f"{low:g}" if low == high else f"{low:g} to {high:g}, by class"
        lines.append(f"FP, FN, precision, recall, specificity and f1 are at probabilities from {limits}")
    if score.head == "softmax" and not rest:
        short = [label[:9] for label in score.classes]
        lines += ["", f"{'true, then predicted':<{width}}  {'  '.join(f'{label:>9}' for label in short)}"]
        lines += [
            f"{label:<{max(width, 20)}}  {'  '.join(f'{count:>9}' for count in row)}"
            for label, row in zip(score.classes, score.confusion.tolist(), strict=True)
        ]
    lines.append("")
    for metric in score.metrics:
        span = score.interval(metric) if metric in intervals else None
        shown = f", 95% interval {span[0]:.4f} to {span[1]:.4f}" if span else ""
        lines.append(f"{metric:<20} {text(score.value(metric))}{shown}")
    ap = score.precision_at_prevalence()
    for name, of in score.predictive_values().items():
        for prevalence, (ppv, npv) in of.items():
            shown = f"PPV {text(ppv)}, NPV {text(npv)}, average precision {text(ap[name][prevalence])}"
            lines.append(f"{name} at prevalence {prevalence:g}: {shown}")
    lines.append(f"{score.name}: {int(score.labelled.sum())} of {len(score.images)} images have labels")
    return "\n".join(lines)


def number(value: float) -> float | None:
    """A number for JSON; None if it is not defined."""
    return None if np.isnan(value) else float(value)


def text(value: float) -> str:
    """A figure as it is printed; '-' if it is not defined."""
    return "-" if np.isnan(value) else f"{value:.4f}"
