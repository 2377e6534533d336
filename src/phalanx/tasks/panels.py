"""Held-out images as a validation saw them, drawn: what the tasks' ``panels`` have in common."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..config import ClassifyConfig, DetectConfig, SegmentConfig
from ..data.records import Record
from ..engine.task import PanelRow, Task
from ..masks.stack import Stack
from ..scoring.boxes import pair_boxes
from ..scoring.classify import truth_probability
from ..submission.boxes import Boxes

if TYPE_CHECKING:
    from ..visualize.scene import Scene

KINDS = ("truth", "prediction", "errors")


def worst_first(values: np.ndarray, count: int, first: Sequence[int] = ()) -> list[int]:
    """Numbers of up to ``count`` images: the worst of ``first``, then the worst of all.

    Args:
        values: float64[N], higher is better; NaN is not shown.
        first: images with something in common, such as a rotated hand.
    """
    order = [int(k) for k in np.argsort(values, kind="stable") if not np.isnan(values[k])]
    chosen = [k for k in order if k in set(first)][:1]
    return [*chosen, *(k for k in order if k not in chosen)][:count]


def held_out_batches(task: Task, rows: Sequence[int], batch: int, device: torch.device) -> Iterator[Any]:
    """Batches of held-out images by number, as a validation has them."""
    examined = task.evaluated["held_out"]
    for first in range(0, len(rows), batch):
        found = examined.collate([examined[(0, row)] for row in rows[first : first + batch]])
        if isinstance(found, Exception):
            raise found
        yield found.to(device)


def grey_of(image: Tensor) -> np.ndarray:
    """uint8[S, S] of an image uint8[1 or 3, S, S]."""
    return image.float().mean(0).round().to(torch.uint8).cpu().numpy()


def drawn(
    name: str, text: str, scene: "Scene", classes: Sequence[str], side: int, image: np.ndarray | None = None
) -> PanelRow:
    """A scene as a row of panels. ``image``: the pixels of the scene, if its file has others."""
    from ..visualize.scene import BoxScene, MaskScene
    from ..visualize.scene_panels import panels

    found = [(one.title, one.pixels) for one in panels(scene, classes, side, kinds=KINDS, image=image)]
    signs = "masks" if isinstance(scene, MaskScene) else "boxes" if isinstance(scene, BoxScene) else ""
    return PanelRow(name, text, found, signs)


def masks_of(logits: Tensor, config: SegmentConfig) -> np.ndarray:
    """Masks bool[B, C, H, W] of final logits float[B, C or 1 + C, H, W]."""
    if config.model.head == "softmax":
        classes = torch.arange(1, logits.shape[1], device=logits.device)
        return (logits.argmax(1, keepdim=True) == classes[:, None, None]).cpu().numpy()
    return (logits >= math.log(config.predict.threshold / (1 - config.predict.threshold))).cpu().numpy()


def mask_row(
    record: Record, text: str, image: Tensor, planes: Tensor, masks: np.ndarray, config: SegmentConfig, side: int
) -> PanelRow:
    """Panels of masks on the input size.

    Args:
        image: uint8[1, S, S].
        planes: truth as bit-planes uint8[P, S, S].
        masks: predicted, bool[C, S, S].
    """
    from ..visualize.scene import MaskScene

    classes, grey = config.data.classes, grey_of(image)
    truth = Stack.of_planes(np.ascontiguousarray(planes.permute(1, 2, 0).cpu().numpy()), len(classes))
    scene = MaskScene(record.image, grey.shape, truth, Stack.of_masks(list(masks)))
    return drawn(record.name, text, scene, classes, side, grey)


def label_row(
    record: Record, image: Tensor, labels: np.ndarray, values: np.ndarray, config: ClassifyConfig, side: int
) -> PanelRow:
    """Panels of labels on the input size.

    Args:
        image: uint8[1 or 3, S, S].
        labels: float[C] of 0 to 1 and NaN (missing).
        values: probabilities float[C].
    """
    from ..visualize.scene import LabelScene

    head, grey = config.model.head, grey_of(image)
    known = np.where(np.isnan(labels), np.nan, labels > 0)
    called = np.arange(len(values)) == values.argmax() if head == "softmax" else values >= config.predict.threshold
    scene = LabelScene(record.image, grey.shape, known, values, called)
    text = f"probability of the truth {float(truth_probability(values, known, head)):.4f}"
    return drawn(record.name, text, scene, config.data.classes, side, grey)


def box_row(
    record: Record, size: tuple[int, int], objects: Boxes, counted: Boxes, config: DetectConfig, side: int
) -> PanelRow:
    """Panels of boxes on the image's own pixels.

    Args:
        size: (height, width).
        counted: predicted boxes that count, from the highest score to the lowest.
    """
    from ..visualize.scene import BoxScene

    right, missed = pair_boxes(counted, objects, config.f1_iou)
    scene = BoxScene(record.image, size, objects, counted, right, missed, len(config.data.classes))
    text = f"{int(right.sum())} right, {int((~right).sum())} false, {int(missed.sum())} missed"
    return drawn(record.name, text, scene, config.data.classes, side)
