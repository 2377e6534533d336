"""Validation panels of several epochs side by side, cut out of the pictures that a training drew."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ..errors import DataError
from ..runs.panels import PanelIndex, Place, epoch_file
from .outlined import Sheet
from .png import write_png
from .scene_sheet import legend

EDGE, GAP, LINE = 14, 8, 18  # pixels: around the page, between panels, of a line of text


def draw_epochs(
    folder: Path, index: PanelIndex, epochs: Sequence[int], out: Path, title: str, classes: Sequence[str]
) -> None:
    """Writes a PNG with a row per image: what all epochs share once, then the other panels of each epoch.

    Args:
        folder: ``panels`` of a fold.
        epochs: of ``index.epochs``.
        classes: of the run, for the legend.

    Raises:
        DataError: a picture is missing or was changed. OutputError: as `overlay.write_png`.
    """
    pictures = [_read(folder / epoch_file(epoch)) for epoch in epochs]
    rows = list(zip(index.images, index.places, strict=True))
    wide = max(_width(places, len(epochs)) for _, places in rows)
    heights = [2 * LINE + max(one.height for one in places) + GAP for _, places in rows]
    key = legend(classes, range(len(classes)), wide, errors=index.signs) if index.signs else None
    page = Sheet(wide + 2 * EDGE, 2 * EDGE + LINE + 6 + sum(heights) + (0 if key is None else len(key)))
    page.write(title, EDGE, EDGE, wide, bold=True)
    y = EDGE + LINE + 6
    for (image, places), height in zip(rows, heights, strict=True):
        page.write(image, EDGE, y, wide)
        shared, own = places[:1], places[1:]
        x = _put(page, pictures[0], shared, EDGE, y, "")
        for epoch, picture in zip(epochs, pictures, strict=True):
            x = _put(page, picture, own, x, y, f"epoch {epoch}: ")
        y += height
    if key is not None:
        page.put(key, EDGE, y)
    write_png(out, page.pixels)


def _width(places: Sequence[Place], epochs: int) -> int:
    shared, own = places[0].width + GAP, sum(one.width + GAP for one in places[1:])
    return shared + epochs * own - GAP


def _put(page: Sheet, picture: np.ndarray, places: Sequence[Place], x: int, y: int, prefix: str) -> int:
    """Puts panels of a picture on a page from a place on; returns where the next one stands."""
    for one in places:
        cut = picture[one.y : one.y + one.height, one.x : one.x + one.width]
        if cut.shape[:2] != (one.height, one.width):
            raise DataError("panels.json and a picture do not fit together; delete the folder panels of the run")
        page.write(f"{prefix}{one.title}", x, y + LINE, one.width, faint=True)
        page.put(cut, x, y + 2 * LINE)
        x += one.width + GAP
    return x


def _read(path: Path) -> np.ndarray:
    """RGB uint8[H, W, 3] of a picture."""
    data = np.fromfile(path, np.uint8) if path.is_file() else np.zeros(0, np.uint8)
    found = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    if found is None:
        raise DataError(f"{path}: no such picture, though panels.json lists it, or it is damaged")
    return np.asarray(cv2.cvtColor(found, cv2.COLOR_BGR2RGB))
