"""Charts of probabilities of labels: ROC, precision and recall, thresholds, calibration."""

import numpy as np

from ..scoring.classify import ClassifyScore
from ..scoring.confusion import BinaryCounts, mean_defined
from ..scoring.reliability import outcomes, reliability
from .charts import Curves, Line, calibration, chosen_classes

THRESHOLDS = np.linspace(0.02, 0.98, 49)


def charts_of_labels(score: ClassifyScore) -> list[Curves]:
    """ROC, precision over recall, F1 over the threshold (of a softmax: accuracy over confidence), calibration."""
    known = ~np.isnan(score.labels)
    if score.head == "softmax":
        known &= known.all(axis=1, keepdims=True)
    positive = score.labels == 1
    both = ((positive & known).any(axis=0)) & ((~positive & known).any(axis=0))
    auc = score.per_class("auc")
    some, note = chosen_classes(auc, both)
    charts = []
    if some:
        sides = [_rates(score.probabilities[known[:, c], c], positive[known[:, c], c]) for c in some]
        names = [f"{score.classes[c]}, AUC {auc[c]:.3f}" for c in some]
        roc = [Line(name, side[0], side[1], steps=True) for name, side in zip(names, sides, strict=True)]
        charts.append(Curves(
            "ROC", "1 − specificity", "sensitivity", roc, square=True, note=f"Each class against all others. {note}"
        ))  # fmt: skip
        ap = score.per_class("ap")
        pr = [
            Line(f"{score.classes[c]}, AP {ap[c]:.3f}", side[1], side[2], steps=True)
            for c, side in zip(some, sides, strict=True)
        ]
        charts.append(Curves("Precision and recall", "recall", "precision", pr, unit=(0, 1), note=note))
    if score.head == "softmax":
        charts.append(_by_confidence(score))
    elif some:
        charts.append(_by_threshold(score, positive, known, some, note))
    confidence, right = outcomes(score.probabilities, score.labels, score.head)
    what = "Largest probability of each image" if score.head == "softmax" else "Probability of each image and class"
    if len(confidence):
        charts.append(calibration(reliability(confidence, right), what))
    return charts


def _rates(scores: np.ndarray, positive: np.ndarray) -> tuple[list[float], list[float], list[float]]:
    """False positive rate, recall and precision at each different score, from none to all."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)
    tp = np.append(0, positive[order].cumsum()[last])
    fp = np.append(0, (~positive[order]).cumsum()[last])
    precision = tp / np.maximum(tp + fp, 1)
    precision[0] = precision[1]
    return (fp / (~positive).sum()).tolist(), (tp / positive.sum()).tolist(), precision.tolist()


def _by_threshold(score: ClassifyScore, positive: np.ndarray, known: np.ndarray, some: list[int], note: str) -> Curves:
    called = score.probabilities[None] >= THRESHOLDS[:, None, None]
    cells = [(positive, called), (~positive, called), (positive, ~called), (~positive, ~called)]
    f1 = BinaryCounts(*((known & a & b).sum(axis=1) for a, b in cells)).f1  # [T, C]
    lines = [Line("mean of all classes", THRESHOLDS.tolist(), mean_defined(f1).tolist())]
    lines += [Line(score.classes[c], THRESHOLDS.tolist(), f1[:, c].tolist()) for c in some]
    note = f"A class is called from the threshold on. {note}"
    return Curves("F1 over the threshold", "threshold of the probability", "F1", lines, unit=(0, 1), note=note)


def _by_confidence(score: ClassifyScore) -> Curves:
    confidence, right = outcomes(score.probabilities, score.labels, "softmax")
    kept = confidence[None] >= THRESHOLDS[:, None]
    with np.errstate(invalid="ignore"):
        accuracy = np.where(kept.any(axis=1), (kept & right).sum(axis=1) / kept.sum(axis=1), np.nan)
    lines = [
        Line("accuracy of the images that remain", THRESHOLDS.tolist(), accuracy.tolist()),
        Line("fraction that remains", THRESHOLDS.tolist(), kept.mean(axis=1).tolist()),
    ]
    note = "What leaving doubtful images to a reader would bring: images with a lower largest probability are left out."
    return Curves("Accuracy over confidence", "least confidence", "fraction", lines, unit=(0, 1), note=note)
