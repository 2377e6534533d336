"""Draws predictions, ground truth and errors over images."""

from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
from pydantic import Field

from ..config import Strict
from ..data.images import read_grey
from ..data.records import Record, scan
from ..errors import DataError
from ..scoring.score import score
from ..submission.table import Submission
from .palette import colours
from .png import write_png

PANEL = 512  # pixels of a panel's long side
CAPTION = 34  # pixels of a caption's height


class PictureOptions(Strict):
    """Options of ``picture``."""

    out: Path
    rows: Annotated[int, Field(ge=1, le=1000)] = 4


def draw(submission: Submission, truth: Submission, images: Path, out: Path, *, rows: int = 4) -> None:
    """Writes a PNG with one row per image: the image, the ground truth, the prediction, and their differences.

    The rows are the worst image, the best, and images of evenly spaced ranks between.

    Args:
        images: folder that contains the images, at any depth.
        rows: at most.

    Raises:
        DataError: an image of the ground truth is not in the folder.
        OutputError: as :func:`write_png`.
    """
    records = {record.name: record for record in scan(images)}
    missing = [name for name in truth.images if name not in records]
    if missing:
        raise DataError(f"{images}: does not contain {missing[0]} ({len(missing)} images missing)")
    dice = dict(zip(truth.images, score(submission, truth).per_image.tolist(), strict=True))
    ranked = sorted(dice, key=lambda name: dice[name])
    picked = np.unique(np.linspace(0, len(ranked) - 1, min(rows, len(ranked))).round().astype(int))
    drawn = [_row(records[ranked[i]], submission, truth, dice[ranked[i]]) for i in picked]
    write_png(out, cv2.cvtColor(np.concatenate(drawn), cv2.COLOR_BGR2RGB))


def _row(record: Record, submission: Submission, truth: Submission, dice: float) -> np.ndarray:
    image = read_grey(record.image)
    classes = list(truth.classes)
    masks = [_masks(source, record.name, classes, image.shape) for source in (truth, submission)]
    panels = [cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), *[overlay(image, one) for one in masks], _errors(image, *masks)]
    scale = PANEL / max(image.shape)
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    row = np.concatenate([cv2.resize(panel, size, interpolation=cv2.INTER_AREA) for panel in panels], axis=1)
    caption = np.zeros((CAPTION, row.shape[1], 3), np.uint8)
    captions = (record.name, "ground truth", f"prediction, Dice {dice:.4f}", "missed (blue), false (red)")
    for number, text in enumerate(captions):
        cv2.putText(
            caption, text, (number * size[0] + 8, 23), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 1, cv2.LINE_AA
        )
    return np.concatenate([caption, row])


def _masks(source: Submission, name: str, classes: list[str], shape: tuple[int, ...]) -> np.ndarray:
    size = shape[0], shape[1]
    return source.reorder(classes).stack(name, size).masks(size)


def overlay(image: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Returns masks bool[C, H, W] over an image uint8[H, W], overlaps mixed, outlines drawn: BGR uint8[H, W, 3]."""
    hues = palette(len(masks))
    total = np.zeros((*image.shape, 3), np.float32)
    count = np.zeros(image.shape, np.float32)
    for mask, colour in zip(masks, hues, strict=True):
        total[mask] += colour
        count[mask] += 1
    base = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR).astype(np.float32)
    inside = count > 0
    base[inside] = 0.55 * base[inside] + 0.45 * total[inside] / count[inside][:, None]
    result = base.astype(np.uint8)
    for mask, colour in zip(masks, hues, strict=True):
        outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(
            result, outlines, -1, tuple(float(v) for v in colour), max(1, image.shape[0] // 512), cv2.LINE_AA
        )
    return result


def _errors(image: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Returns the image with false negatives of any class in blue, false positives in red: BGR uint8[H, W, 3]."""
    base = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    base[(truth & ~prediction).any(0)] = (255, 120, 40)
    base[(prediction & ~truth).any(0)] = (60, 60, 255)
    return base


def palette(classes: int) -> np.ndarray:
    """Colours of classes as OpenCV has them, BGR float32[classes, 3]; see :mod:`.palette`."""
    return np.array(colours(classes), np.float32).reshape(-1, 3)[:, ::-1]
