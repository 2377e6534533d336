"""What the log has of the pixels of a validation: IoU by class, and F1 at an IoU by the recipe's rule ``image_f1``."""

from collections.abc import Mapping, Sequence

import numpy as np

from ..config.f1_iou import F1AtIoU
from ..engine.task import of_class
from ..scoring.boxes import BoxScore
from ..scoring.f1_iou import F1IoU, f1_of_boxes, f1_of_masks
from ..scoring.mask_counts import MaskCounts

MEASURED = ("f1", "precision", "recall")


def logged(found: F1IoU) -> dict[str, float]:
    """Figures by their names in the log, such as ``image_f1``; without those that are not defined."""
    values = {f"image_{name}": found.value(name) for name in MEASURED}
    return {name: value for name, value in values.items() if not np.isnan(value)}


def logged_of_counts(
    rule: F1AtIoU | None, classes: Sequence[str], images: Sequence[str], parts: Sequence[Mapping[int, np.ndarray]]
) -> dict[str, float]:
    """The same of masks, and IoU over the pixels of all images, of each class that is there or predicted.

    Args:
        rule: None: without F1.
        images: names of all images.
        parts: int[3, C + 1] of images by their number, as ``mask_counts_torch`` counts them, of each process.
    """
    merged = {row: one for part in parts for row, one in part.items()}
    counts = MaskCounts(*np.stack([merged[row] for row in range(len(images))], axis=1).astype(float))
    pooled = counts.pooled_iou[: len(classes)].tolist()  # without background
    found = {of_class("iou", label): value for label, value in zip(classes, pooled, strict=True)}
    found = {name: value for name, value in found.items() if not np.isnan(value)}
    return found if rule is None else logged(f1_of_masks("the held-out images", rule, classes, images, counts)) | found


def f1_of_images(rule: F1AtIoU, score: BoxScore, threshold: float) -> F1IoU:
    """F1 at an IoU of the images of scored boxes.

    Args:
        threshold: boxes with a lower score do not count.
    """
    columns, patients = (score.classes, score.images, score.predicted, score.truth), score.patients
    return f1_of_boxes(score.name, rule, *columns, threshold=threshold, patients=patients if score.grouped else None)
