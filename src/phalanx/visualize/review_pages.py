"""Pages of a failure review: a gallery of images, and a table of the same images by several runs."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .outlined import LINE, Line, Sheet, frame_around, panel
from .png import write_png

SIDE, SMALL = 320, 260  # pixels of a panel: of a gallery, and of a comparison
PAD = 14
NARROWEST = 3  # columns that a gallery's title and legend have room in

Colours = Mapping[str, tuple[int, int, int]]


class Tile(NamedTuple):
    """An image uint8[H, W] of a gallery, the outlines over it, and lines of text below."""

    image: np.ndarray
    lines: Sequence[Line]
    text: Sequence[str]


class Entry(NamedTuple):
    """What a run found in an image of a comparison: outlines, and the text below."""

    lines: Sequence[Line]
    text: str


class Row(NamedTuple):
    """An image uint8[H, W] of a comparison with its ground truth and what each run found."""

    name: str
    image: np.ndarray
    truth: Entry
    found: Sequence[Entry]


class Column(NamedTuple):
    """A run of a comparison: its name, and what its recipe is, each a line."""

    name: str
    about: Sequence[str]


def draw_gallery(tiles: Sequence[Tile], title: str, rule: str, colours: Colours, out: Path) -> None:
    """Writes a PNG of tiles in rows, under a title, the rule by which they were chosen and a legend.

    Raises:
        OutputError: the file exists and was not written by this program.
    """
    columns = max(NARROWEST, min(5, math.ceil(math.sqrt(len(tiles)))))
    text = LINE * max((len(tile.text) for tile in tiles), default=0)
    width, high = PAD + columns * (SIDE + PAD), SIDE + text + PAD + 4
    head = _head(width, colours)
    sheet = Sheet(width, head + (high * math.ceil(len(tiles) / columns) if tiles else 2 * LINE))
    _title(sheet, title, rule, colours, width)
    for k, tile in enumerate(tiles):
        x, y = PAD + (k % columns) * (SIDE + PAD), head + (k // columns) * high
        sheet.put(panel(tile.image, tile.lines, frame_around(tile.lines, tile.image.shape), SIDE, colours), x, y)
        for number, line in enumerate(tile.text):
            sheet.write(line, x, y + SIDE + 4 + number * LINE, SIDE, bold=number == 0)
    if not tiles:
        sheet.write("no image", PAD, head, width)
    write_png(out, sheet.pixels)


def draw_comparison(
    rows: Sequence[Row], columns: Sequence[Column], title: str, rule: str, colours: Colours, out: Path
) -> None:
    """Writes a PNG with one row per image: the ground truth, then a column per run.

    Raises:
        OutputError: the file exists and was not written by this program.
    """
    about = max(len(column.about) for column in columns)
    width = max(PAD + (1 + len(columns)) * (SMALL + PAD), PAD + NARROWEST * (SIDE + PAD))
    head = _head(width, colours)
    captions = LINE * (1 + about) + 6
    high = SMALL + LINE + PAD + 4
    sheet = Sheet(width, head + captions + high * len(rows))
    _title(sheet, title, rule, colours, width)
    for k, column in enumerate((Column("ground truth", ()), *columns)):
        x = PAD + k * (SMALL + PAD)
        sheet.write(column.name, x, head, SMALL, bold=True)
        for number, line in enumerate(column.about, 1):
            sheet.write(line, x, head + number * LINE, SMALL, faint=True)
    for k, row in enumerate(rows):
        y = head + captions + k * high
        frame = frame_around([line for entry in (row.truth, *row.found) for line in entry.lines], row.image.shape)
        for number, entry in enumerate((row.truth, *row.found)):
            x = PAD + number * (SMALL + PAD)
            sheet.put(panel(row.image, entry.lines, frame, SMALL, colours), x, y)
            sheet.write(entry.text, x, y + SMALL + 4, SMALL, bold=not number)
    write_png(out, sheet.pixels)


def _head(width: int, colours: Colours) -> int:
    """Height of a page's title, rule and legend."""
    return PAD + 22 + LINE + 8 + Sheet(1, 1).legend(colours, PAD, 0, left=PAD, width=width - 2 * PAD) + 8


def _title(sheet: Sheet, title: str, rule: str, colours: Colours, width: int) -> None:
    room = width - 2 * PAD
    sheet.write(title, PAD, PAD, room, bold=True, size=16)
    sheet.write(rule, PAD, PAD + 22, room, faint=True)
    sheet.legend(colours, PAD, PAD + 22 + LINE + 8, left=PAD, width=room)
