"""Charts of boxes: precision over recall, and F1 over the threshold of their scores."""

import numpy as np

from ..scoring.boxes import BoxScore
from ..scoring.confusion import ratio
from ..scoring.reliability import reliability
from .charts import Curves, Line, calibration, chosen_classes

THRESHOLDS = np.linspace(0.01, 0.99, 50)


def charts_of_boxes(score: BoxScore) -> list[Curves]:
    """Precision over recall and F1 over the threshold, at the IoU of the score, and calibration of the scores."""
    objects = np.array([one.objects.sum() for one in score.matches])
    ap = score.figures["map50"][1:]
    some, note = chosen_classes(ap, objects > 0)
    if not some:
        return []
    at = f"IoU {score.at:g}"
    curves = {c: score.matches[c].curve(score.matched_at) for c in some}
    lines = [
        Line(f"{score.classes[c]}, AP50 {ap[c]:.3f}", [0.0, *one.recall.tolist()], [1.0, *one.precision.tolist()],
             steps=True)
        for c, one in curves.items() if len(one.scores)
    ]  # fmt: skip
    charts = [Curves("Precision and recall", "recall", "precision", lines, unit=(0, 1), note=f"At {at}. {note}")]
    counts = np.array([_counts(score, c) for c in range(len(score.classes))])  # [C, T, 3]
    whole = counts.sum(axis=0)
    f1 = [Line("all boxes", THRESHOLDS.tolist(), _f1(whole).tolist())]
    f1 += [Line(score.classes[c], THRESHOLDS.tolist(), _f1(counts[c]).tolist()) for c in some]
    limits = sorted(set(score.thresholds.tolist()))
    used = f"{limits[0]:.4f}" if len(limits) == 1 else f"{limits[0]:.4f} to {limits[-1]:.4f}, by class"
    note = f"At {at}. A box counts from the threshold on; this report counts from {used}. {note}"
    charts.append(Curves("F1 over the threshold", "threshold of the score", "F1", f1, unit=(0, 1), note=note))
    t = score.matched_at
    kept = [~one.ignored[t] for one in score.matches]
    scores = np.concatenate([one.scores[k] for one, k in zip(score.matches, kept, strict=True)])
    found = np.concatenate([one.found[t][k] for one, k in zip(score.matches, kept, strict=True)])
    if len(scores):
        chart = calibration(
            reliability(scores, found), f"Score of each predicted box, and whether it finds an object at {at}"
        )
        charts.append(chart._replace(x_label="score of the box", y_label="fraction that finds an object"))
    return charts


def _counts(score: BoxScore, c: int) -> np.ndarray:
    """int64[T, 3]: true positives, false positives and misses of a class at each threshold."""
    one, t = score.matches[c], score.matched_at
    above = (one.scores[None] >= THRESHOLDS[:, None]) & ~one.ignored[t]
    tp = (above & one.found[t]).sum(axis=1)
    return np.stack([tp, above.sum(axis=1) - tp, one.objects.sum() - tp], axis=1)


def _f1(counts: np.ndarray) -> np.ndarray:
    tp, fp, fn = counts.T
    return ratio(2 * tp, 2 * tp + fp + fn)
