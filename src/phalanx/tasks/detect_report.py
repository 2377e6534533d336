"""What a detector writes about its fold besides boxes and scores: the objects as a CSV, and a figure of each image."""

import csv
import io
from collections.abc import Mapping, Sequence

import numpy as np

from ..data.objects import Shape
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
