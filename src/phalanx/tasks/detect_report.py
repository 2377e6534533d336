"""What a detector reports of its fold besides boxes and scores: its objects, and a figure of each image."""

import csv
import io
from collections.abc import Mapping, Sequence

import numpy as np

from ..config import DetectConfig
from ..data.images import Grid, image_size
from ..data.objects import Shape, boxes_of
from ..data.records import Record
from ..models.anchors import anchors_text
from ..scoring.boxes import BoxScore
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


def measure_objects(
    records: Sequence[Record], shapes: Sequence[Sequence[Shape]], config: DetectConfig, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Widths and heights float64[N, 2] of the boxes of training images in pixels of the input, and float64[C], the
    objects of each class that an epoch shows.

    Args:
        weights: float64[N], mean appearances per epoch of the images; None: once each.
    """
    sides, objects = [np.empty((0, 2))], np.zeros(len(config.data.classes))
    for i, (record, each) in enumerate(zip(records, shapes, strict=True)):
        boxes, shown = boxes_of(each), 1.0 if weights is None else float(weights[i])
        if not len(each):
            continue
        scale = Grid(*image_size(record.image), config.data.size).scale
        sides.append((boxes.corners[:, 2:] - boxes.corners[:, :2]) * scale)
        np.add.at(objects, boxes.classes, shown)
    return np.concatenate(sides), objects


def about_objects(config: DetectConfig, objects: np.ndarray, anchors: np.ndarray) -> str:
    """What training prints about its objects: their number, and the anchors."""
    classes = config.data.classes
    lines = [f"{objects.sum():.0f} objects of {len(classes)} class(es) in the training images"]
    if absent := [name for name, count in zip(classes, objects, strict=True) if not count]:
        lines.append(f"note: none is of {', '.join(absent)}, which this fold does not learn")
    if config.model.architecture != "fcos":
        how = "fitted to them" if config.model.anchors == "fitted" else "of the recipe"
        shown = anchors_text(anchors, config.model.levels)
        lines.append(f"anchors {how}, width x height in pixels of the input: {shown}")
    return "\n".join(lines)
