"""A gallery of heat maps: the image with the outline of its mask, next to the heat over it."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from .png import write_png

SIDE = 256  # pixels of a panel
TITLE = 40  # pixels of a tile's two lines of text
GAP = 8
INK, PAPER = (30, 30, 30), (255, 255, 255)
OUTLINE = (0, 255, 255)  # cyan, which neither grey images nor the colours of heat have
FONT, SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.42


class Tile(NamedTuple):
    """An image of the gallery.

    Attributes:
        image: uint8[H, W], or [H, W, 3] in RGB.
        heat: float[H, W], 0 to 1.
        mask: bool[H, W], or None.
        lines: two, above the panels.
    """

    image: np.ndarray
    heat: np.ndarray
    mask: np.ndarray | None
    lines: tuple[str, str]


def draw_gallery(tiles: Sequence[Tile], out: Path) -> None:
    """Writes a PNG of tiles in rows, so that it is about as wide as high.

    Raises:
        OutputError: the file exists and was not written by this program.
    """
    columns = max(1, round(math.sqrt(len(tiles) * (SIDE + TITLE) / (2 * SIDE))))
    drawn = [draw_tile(tile) for tile in tiles]
    drawn += [np.full_like(drawn[0], 255)] * (-len(drawn) % columns)
    rows = [np.concatenate(drawn[first : first + columns], axis=1) for first in range(0, len(drawn), columns)]
    write_png(out, np.concatenate(rows))


def draw_tile(tile: Tile) -> np.ndarray:
    """A tile as RGB uint8[SIDE + TITLE + GAP, 2 * (SIDE + GAP), 3]."""
    grey = tile.image if tile.image.ndim == 3 else np.repeat(tile.image[:, :, None], 3, axis=2)
    heat = (255 * np.clip(tile.heat, 0, 1)).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(heat, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    share = 0.7 * np.clip(tile.heat, 0, 1)[:, :, None]  # where there is no heat, the image stays as it is
    mixed = ((1 - share) * grey + share * colours).round().astype(np.uint8)
    result = np.full((TITLE + SIDE + GAP, 2 * (SIDE + GAP), 3), PAPER, np.uint8)
    for number, panel in enumerate((grey, mixed)):
        scale = SIDE / max(panel.shape[:2])
        width, height = (max(1, round(length * scale)) for length in (panel.shape[1], panel.shape[0]))
        small = cv2.resize(panel, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        if tile.mask is not None:
            mask = cv2.resize(tile.mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
            outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            small = np.ascontiguousarray(small)
            cv2.drawContours(small, outlines, -1, OUTLINE, 1)
        left = number * (SIDE + GAP)
        result[TITLE : TITLE + height, left : left + width] = small
    for number, text in enumerate(tile.lines):
        cv2.putText(result, fitted(text, 2 * SIDE), (2, 15 + 17 * number), FONT, SIZE, INK, 1, cv2.LINE_AA)
    return result


def fitted(text: str, width: int) -> str:
    """The text as far as it fits into a width in pixels; letters that the font lacks are '?'."""
    text = text.encode("ascii", "replace").decode()
    while text and cv2.getTextSize(text, FONT, SIZE, 1)[0][0] > width:
        text = f"{text[:-4]}..." if len(text) > 4 else text[:-1]
    return text
