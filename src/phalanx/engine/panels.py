"""Validation panels: some held-out images, the same ones throughout, as each validation sees them.

``panels/epoch<k>.jpg`` is one picture per validation; ``panels/panels.json`` lists them and where each panel is, by
which ``phalanx panels`` puts epochs side by side.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from ..runs.panels import FOLDER, MAX_KEPT, PanelIndex, Place, epoch_file, to_drop
from ..runtime.device import Device
from ..runtime.files import delete, write_bytes
from ..tracking.logger import Logger
from .state import State
from .task import PanelRow, Task

SIDE = 224  # pixels of a panel
EDGE, GAP, LINE = 10, 8, 18  # pixels: around the picture, between panels, of a line of text
QUALITY = 88  # of JPEG: a picture of four images is under 150 kB


class ValidationPanels:
    """Draws the panels of one training.

    Args:
        count: images to follow; 0: none.
    """

    def __init__(self, folder: Path, task: Task, count: int):
        self.folder, self.task, self.count = folder / FOLDER, task, count
        self.index: PanelIndex | None = None

    @torch.no_grad()
    def __call__(self, state: State, network: nn.Module, device: Device, log: Logger) -> None:
        """Draws the images after an epoch's validation, on disk and for the trackers."""
        if not self.count:
            return
        if self.index is None:
            self.index = PanelIndex.read(self.folder) or PanelIndex([], [], [], "")
        names = {record.name: row for row, record in enumerate(self.task.evaluated["held_out"].records)}
        if not self.index.images:  # the first validation: its worst images are followed from here on
            numbered = {row: name for name, row in names.items()}
            self.index = self.index._replace(images=[numbered[row] for row in self.task.pinned(self.count)])
        rows = [names[name] for name in self.index.images if name in names]
        if not rows:
            return
        with device.autocast() if device.torch.type == "cuda" else nullcontext():
            found = self.task.panels(network, rows, device.torch, SIDE)
        title = f"epoch {state.epoch}, held-out images"
        picture, places = sheet(title, found)
        data = BytesIO()
        Image.fromarray(picture).save(data, "JPEG", quality=QUALITY)
        write_bytes(self.folder / epoch_file(state.epoch), data.getvalue())
        # a kill may have undone epochs that were drawn
        kept = [epoch for epoch in self.index.epochs if epoch < state.epoch] + [state.epoch]
        dropped = to_drop(kept, MAX_KEPT)
        epochs = [epoch for epoch in kept if epoch not in dropped]
        self.index = self.index._replace(epochs=epochs, places=places, signs=found[0].signs)
        self.index.write(self.folder)  # before files go: a name in the list is always there
        for epoch in dropped:
            delete(self.folder / epoch_file(epoch))
        log.picture("held_out/panels", state.step, picture)


def sheet(title: str, rows: Sequence[PanelRow]) -> tuple[np.ndarray, list[list[Place]]]:
    """RGB uint8[H, W, 3] of rows of panels under their texts, and the place of each panel."""
    from ..visualize.outlined import Sheet

    widest = max(sum(pixels.shape[1] + GAP for _, pixels in row.panels) - GAP for row in rows)
    heights = [2 * LINE + max(pixels.shape[0] for _, pixels in row.panels) + GAP for row in rows]
    page = Sheet(widest + 2 * EDGE, EDGE + LINE + 6 + sum(heights) + EDGE - GAP)
    page.write(title, EDGE, EDGE, widest, bold=True)
    y, places = EDGE + LINE + 6, list[list[Place]]()
    for row, height in zip(rows, heights, strict=True):
        page.write(f"{row.image}   {row.text}", EDGE, y, widest)
        x, own = EDGE, list[Place]()
        for name, pixels in row.panels:
            tall, wide = pixels.shape[:2]
            page.write(name, x, y + LINE, wide, faint=True)
            page.put(pixels, x, y + 2 * LINE)
            own.append(Place(name, x, y + 2 * LINE, wide, tall))
            x += wide + GAP
        places.append(own)
        y += height
    return page.pixels, places
