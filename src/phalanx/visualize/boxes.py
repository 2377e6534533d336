"""Draws predicted boxes and those of the ground truth over images."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ..data.images import read_grey
from ..data.records import Record, scan
from ..errors import DataError
from ..scoring.box_thresholds import f1_by_image
from ..scoring.boxes import BoxScore, pair_boxes
from ..submission.boxes import Boxes
from .overlay import CAPTION, PANEL
from .palette import colours
from .png import write_png

WHITE, RED = (255.0, 255.0, 255.0), (60.0, 60.0, 255.0)  # BGR
DASH = 6  # pixels


def draw_boxes(score: BoxScore, images: Path, out: Path, *, rows: int = 4) -> None:
    """Writes a PNG with one row per image: the image, its objects, and the predicted boxes.

    The rows are the image with the worst F1, the best, and images of evenly spaced ranks between; of equals those with
    a rare class come first. Of the predicted boxes those that count are drawn: right ones in the colour of their class,
    wrong ones in red with a cross, and objects that none finds in dashed white.

    Args:
        images: folder that contains the images, at any depth.
        rows: at most.

    Raises:
        DataError: an image of the ground truth is not in the folder. OutputError: as `overlay.write_png`.
    """
    records = {record.name: record for record in scan(images)}
    if missing := [name for name in score.images if name not in records]:
        raise DataError(f"{images}: does not contain {missing[0]} ({len(missing)} images missing)")
    f1 = f1_by_image(score, score.thresholds)
    objects = np.stack([one.objects for one in score.matches], axis=1)
    rarest = np.where(objects > 0, objects.sum(axis=0), np.inf).min(axis=1)
    ranked = np.lexsort((rarest, f1))
    picked = np.unique(np.linspace(0, len(ranked) - 1, min(rows, len(ranked))).round().astype(int))
    drawn = [_row(records[score.images[i]], score, int(i), float(f1[i])) for i in ranked[picked]]
    widest = max(row.shape[1] for row in drawn)
    drawn = [cv2.copyMakeBorder(row, 0, 0, 0, widest - row.shape[1], cv2.BORDER_CONSTANT) for row in drawn]
    write_png(out, cv2.cvtColor(np.concatenate(drawn), cv2.COLOR_BGR2RGB))


def _row(record: Record, score: BoxScore, number: int, f1: float) -> np.ndarray:
    image = read_grey(record.image)
    scale = PANEL / max(image.shape)
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    plain = cv2.cvtColor(cv2.resize(image, size, interpolation=method), cv2.COLOR_GRAY2BGR)
    hues = colours(len(score.classes), avoid=(255, 60, 60))  # red boxes are wrong ones
    shades = [(float(blue), float(green), float(red)) for red, green, blue in hues]
    truth, boxes = score.truth[number], score.predicted[number]
    boxes = boxes.above(score.thresholds).sorted()
    objects, found = plain.copy(), plain.copy()
    _draw(objects, truth, scale, [score.classes[c] for c in truth.classes], [shades[c] for c in truth.classes])
    right, missed = pair_boxes(boxes, truth, score.at)
    names = [f"{score.classes[c]} {at:.2f}" for c, at in zip(boxes.classes, boxes.scores, strict=True)]
    drawn = [shades[c] if good else RED for c, good in zip(boxes.classes, right, strict=True)]
    _draw(found, boxes, scale, names, drawn, crossed=~right)
    for corners in truth.corners[missed] * scale:
        _dashed(found, corners)
    row = np.concatenate([plain, objects, found], axis=1)
    caption = np.zeros((CAPTION, row.shape[1], 3), np.uint8)
    captions = (record.name, "ground truth", f"prediction, F1 {f1:.4f} at IoU {score.at:g}")
    for place, text in enumerate(captions):
        cv2.putText(caption, text, (place * size[0] + 8, 23), cv2.FONT_HERSHEY_SIMPLEX, 0.6, WHITE, 1, cv2.LINE_AA)
    return np.concatenate([caption, row])


def _draw(
    panel: np.ndarray, boxes: Boxes, scale: float, names: Sequence[str], colours: Sequence[tuple[float, ...]],
    crossed: np.ndarray | None = None,
) -> None:  # fmt: skip
    """Draws boxes with their names, which stay within the panel."""
    for k, (corners, name, colour) in enumerate(zip(boxes.corners * scale, names, colours, strict=True)):
        x0, y0, x1, y1 = (round(value) for value in corners.tolist())
        cv2.rectangle(panel, (x0, y0), (x1, y1), colour, 2, cv2.LINE_AA)
        if crossed is not None and crossed[k]:
            cv2.line(panel, (x0, y0), (x1, y1), colour, 1, cv2.LINE_AA)
            cv2.line(panel, (x0, y1), (x1, y0), colour, 1, cv2.LINE_AA)
        (width, height), _ = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
        left = min(max(0, x0), max(0, panel.shape[1] - width))
        top = y0 - 6 if y0 - 6 >= height else min(y1 + height + 6, panel.shape[0] - 3)
        cv2.rectangle(panel, (left, top - height - 2), (left + width, top + 4), (0, 0, 0), cv2.FILLED)
        cv2.putText(panel, name, (left, top), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)


def _dashed(panel: np.ndarray, corners: np.ndarray) -> None:
    """Draws the edges of a box as dashes."""
    x0, y0, x1, y1 = (round(value) for value in corners.tolist())
    for x in range(x0, x1, 2 * DASH):
        for y in (y0, y1):
            cv2.line(panel, (x, y), (min(x + DASH, x1), y), WHITE, 2)
    for y in range(y0, y1, 2 * DASH):
        for x in (x0, x1):
            cv2.line(panel, (x, y), (x, min(y + DASH, y1)), WHITE, 2)
