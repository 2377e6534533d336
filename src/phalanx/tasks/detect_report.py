"""What a trained detector writes about its fold: its objects as a CSV, its scores as JSON and as text."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..data.objects import Shape
from ..scoring.boxes import METRICS, BoxScore
from ..submission.boxes import CORNERS, number


def objects_csv(found: Mapping[str, Sequence[Shape]], classes: Sequence[str]) -> str:
    """A CSV of boxes, sorted by image; one without objects has a row without numbers."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image_name", "class", *CORNERS])
    for image in sorted(found):
        rows = sorted((classes[one.label], *map(number, one.box.tolist())) for one in found[image])
        table.writerows([image, *row] for row in rows or [("",) * 5])
    return text.getvalue()


def image_f1(score: BoxScore) -> dict[str, float]:
    """F1 of each image over its boxes of all classes; 1 if it has neither an object nor a box that counts."""
    t = int(np.abs(score.iou - score.at).argmin())
    found, boxes, objects = (np.zeros(len(score.images)) for _ in range(3))
    for one, threshold in zip(score.matches, score.thresholds, strict=True):
        counted = (one.scores >= threshold) & ~one.ignored[t]
        np.add.at(found, one.image[counted & one.found[t]], 1)
        np.add.at(boxes, one.image[counted], 1)
        objects += one.objects
    whole = boxes + objects
    values = np.where(whole > 0, 2 * found / np.maximum(whole, 1), 1.0)
    return dict(zip(score.images, values.tolist(), strict=True))


def score_json(score: BoxScore, threshold: float, value: float, metric: str) -> dict[str, Any]:
    """All figures for oof_score.json.

    Args:
        threshold: of scores, at which F1 is best on these images.
        value: of the metric.
    """
    return {
        "metric": metric,
        "value": value,
        "threshold": threshold,
        "iou": score.at,
        "metrics": {name: plain(score.value(name)) for name in METRICS},
        "classes": {
            label: {name: plain(score.figures[name][1 + c]) for name in METRICS}
            | {"objects": int(score.matches[c].objects.sum())}
            for c, label in enumerate(score.classes)
        },
        "confusion": score.confusion.tolist(),
        "per_image": image_f1(score),
    }


def plain(value: float) -> float | None:
    """A number for JSON; None if it is not defined."""
    return None if np.isnan(value) else float(value)


def score_text(score: BoxScore, threshold: float) -> str:
    """A table of classes for the terminal, and the figures of the whole."""
    width = max(map(len, ("class", *score.classes)))
    lines = [f"{'class':<{width}}  objects  {'  '.join(f'{name:>7}' for name in METRICS)}"]
    for c, label in enumerate(score.classes):
        values = (score.figures[name][1 + c] for name in METRICS)
        cells = "  ".join(f"{'-' if np.isnan(value) else f'{value:.4f}':>7}" for value in values)
        lines.append(f"{label:<{width}}  {int(score.matches[c].objects.sum()):>7}  {cells}")
    values = (score.value(name) for name in METRICS)
    cells = "  ".join(f"{'-' if np.isnan(value) else f'{value:.4f}':>7}" for value in values)
    lines.append(f"{'all':<{width}}  {sum(int(one.objects.sum()) for one in score.matches):>7}  {cells}")
    lines.append(
        f"F1 at an IoU of {score.at:g} and scores from {threshold:.4f}, the best threshold on these "
        f"{len(score.images)} images"
    )
    return "\n".join(lines)
