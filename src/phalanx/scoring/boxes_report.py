"""The scores of boxes as JSON and as tables for the terminal."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .boxes import METRICS, BoxScore
from .class_figures import ClassTable, class_rows
from .classify_report import number, text
from .confusion import BinaryCounts
from .f1_iou import F1IoU
from .folded import lowest
from .resampling import RESAMPLES, over

SHOWN = ("map", "map50", "f1")  # with an interval
MATRIX = 12  # classes of a confusion matrix that is printed whole
CONFUSIONS = 10  # lines of a larger one
POINTS = 101  # of a curve in JSON


def score_json(score: BoxScore, f1: Sequence[F1IoU] = (), pairs: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
    """All figures as JSON types; those that are not defined are null.

    Args:
        f1: at an IoU, of images.
        pairs: classes of the left and right side.
    """
    spans = {name: score.intervals(name) for name in SHOWN}
    best = score.best_threshold()
    return {
        "name": score.name,
        "images": len(score.images),
        "patients": len(set(score.patients)) if score.grouped else None,
        "resamples": RESAMPLES,
        "iou": score.at,
        "metrics": {
            name: {"value": number(score.value(name))} | ({"interval": spans[name][0]} if name in spans else {})
            for name in METRICS
        },
        "best_threshold": best._asdict(),
        "classes": {
            label: {
                **{name: number(score.figures[name][1 + c]) for name in METRICS},
                "intervals": {name: spans[name][1 + c] for name in SHOWN},
                "objects": int(score.matches[c].objects.sum()),
                "threshold": float(score.thresholds[c]),
                **{name: int(score.counts._asdict()[name][c]) for name in ("tp", "fp", "fn")},
                # of these counts; ``recall`` above is COCO's average recall
                "precision": number(float(score.counts.precision[c])),
                "found": number(float(score.counts.recall[c])),
                "best_threshold": score.best_threshold(label)._asdict(),
                "curve": _curve(score, label),
            }
            for c, label in enumerate(score.classes)
        },
        "confusion": score.confusion.tolist(),
        "exchanged_sides": score.exchanged(dict(pairs)) if pairs else None,
        "f1_iou": [one.to_json() for one in f1],
    }


def class_table(score: BoxScore) -> ClassTable:
    """Average precision, false positives and false negatives of each class, in boxes; of what counts for F1."""
    present = np.array([int((one.objects > 0).sum()) for one in score.matches])
    return ClassTable(
        score.name, "map", "boxes", class_rows(score.classes, score.figures["map"][1:], present, score.counts)
    )


def _curve(score: BoxScore, label: str) -> dict[str, list[float | None]]:
    """Precision, recall and F1 at scores from the highest to the lowest; of many, some."""
    curve = score.curve(label)
    chosen = np.unique(np.linspace(0, len(curve.scores) - 1, min(POINTS, len(curve.scores))).astype(int))
    columns = {"score": curve.scores, "precision": curve.precision, "recall": curve.recall, "f1": curve.f1}
    return {name: [number(float(value)) for value in values[chosen]] for name, values in columns.items()}


def score_text(
    score: BoxScore, f1: Sequence[F1IoU] = (), pairs: Sequence[tuple[str, str]] = (), *, most: int | None = None,
    file: str = "", order: Sequence[int] | None = None,
) -> str:  # fmt: skip
    """Tables for the terminal: classes, what is taken for what, the figures of the whole.

    Args:
        most: so many of the classes, those with the lowest mean average precision; None: all.
        file: that has the others.
        order: numbers of the classes, if all are shown in another order.
    """
    width = max(map(len, ("class", *score.classes)))
    heads = [*METRICS[:3], "AR", "F1", "precision", "recall"]
    lines = [f"{'class':<{width}}  objects     FP     FN  {'  '.join(f'{head:>9}' for head in heads)}"]
    whole = BinaryCounts(*(np.asarray(side.sum()) for side in score.counts))
    chosen, rest = lowest(score.figures["map"][1:], most, file)
    chosen = chosen if order is None else [*order]
    rows = [(score.classes[c], c, score.matches[c].objects.sum()) for c in chosen]
    rows.append(("all", -1, sum(one.objects.sum() for one in score.matches)))
    for label, c, objects in rows:
        values = [float(score.figures[name][1 + c]) for name in METRICS]
        own = whole if c < 0 else BinaryCounts(*(side[c] for side in score.counts))
        values += float(own.precision), float(own.recall)
        errors = f"{int(own.fp):>5}  {int(own.fn):>5}"
        lines.append(f"{label:<{width}}  {objects:>7}  {errors}  {'  '.join(f'{text(value):>9}' for value in values)}")
    lines += [*rest, "", *_confusion_text(score), ""]
    if pairs:
        lines.append(f"objects found under the name of the other side: {score.exchanged(dict(pairs))}")
    lines.append(f"FP, FN, F1, precision and recall are at IoU {score.at:g} and scores from {_limits(score)}")
    best = score.best_threshold()
    lines.append(f"best on these images: F1 {best.f1:.4f} at scores from {best.score:.4f}; choose it out of fold")
    for metric in SHOWN:
        span = score.intervals(metric)[0]
        shown = "-" if span is None else f"{span[0]:.4f} to {span[1]:.4f}"
        lines.append(f"{metric:<6} {text(score.value(metric))}, 95% interval {shown} {over(score.grouped)}")
    for one in f1:
        lines += ["", one.to_text()]
    boxes = sum(len(each.scores) for each in score.predicted)
    lines.append(f"{score.name}: {boxes} boxes in {len(score.images)} images")
    return "\n".join(lines)


def _limits(score: BoxScore) -> str:
    low, high = score.thresholds.min(), score.thresholds.max()
    return f"{low:g}" if low == high else f"{low:g} to {high:g}, by class"


def _confusion_text(score: BoxScore) -> list[str]:
    """The confusion matrix, or of many classes the most frequent confusions."""
    labels, matrix = [*score.classes, "nothing"], score.confusion
    if len(score.classes) <= MATRIX:
        width = max(20, *map(len, labels))
        head = f"{'true, then found as':<{width}}  {'  '.join(f'{label[:9]:>9}' for label in labels)}"
        rows = zip(labels, matrix.tolist(), strict=True)
        return [head, *(f"{label:<{width}}  {'  '.join(f'{count:>9}' for count in row)}" for label, row in rows)]
    count = len(score.classes)
    wrong = matrix[:count, :count] * (1 - np.eye(count, dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]
    places = [divmod(int(place), count) for place in order if wrong.ravel()[place]]
    lines = [f"  {wrong[a, b]:>6}  {labels[a]} found as {labels[b]}" for a, b in places]
    return [
        f"{int(wrong.sum())} objects are found as another class, {int(matrix[:count, count].sum())} not at all; "
        f"{int(matrix[count].sum())} boxes are of no object",
        *lines,
    ]
