"""Held-out images as a validation saw them, drawn: what the tasks' ``panels`` have in common."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..engine.task import PanelRow, Task

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
