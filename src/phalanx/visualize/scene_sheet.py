"""Pages of panels in rows with gutters, a title and a legend, as one PNG."""

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from .outlined import LINE, Sheet, font
from .palette import colours
from .png import write_png
from .scene_panels import FALSE, MISSED, Panel, draw_errors

GAP, EDGE, GUTTER = 10, 18, 20  # pixels: between panels, around a page, between rows
SWATCH = 26
NARROWEST = 640


class SheetRow(NamedTuple):
    """A row of panels under lines of text, of which the first is bold.

    Attributes:
        below: further panels, each list in the columns of the first; None leaves a column free.
    """

    lines: Sequence[str]
    panels: Sequence[Panel]
    below: Sequence[Sequence[Panel | None]] = ()

    @property
    def widths(self) -> list[int]:
        """Of the columns, in pixels."""
        columns = zip_longest(self.panels, *self.below)
        return [max((one.pixels.shape[1] for one in column if one), default=0) for column in columns]

    @property
    def height(self) -> int:
        """In pixels, with the gap to the next row."""
        panels = sum(LINE + _tallest(line) for line in (self.panels, *self.below)) + GAP * len(self.below)
        return LINE * len(self.lines) + 4 + panels + GUTTER


def _tallest(panels: Sequence[Panel | None]) -> int:
    return max((one.pixels.shape[0] for one in panels if one), default=0)


def sheet(
    rows: Sequence[SheetRow], title: str, text: str, *, classes: Sequence[str] = (),
    shown: Sequence[int] | None = None, errors: str = "masks",
) -> np.ndarray:  # fmt: skip
    """RGB uint8[H, W, 3] of a page.

    Args:
        text: below the title, wrapped.
        classes: names of all classes, for the legend; none: no legend of classes.
        shown: numbers of the classes in the legend; None: all.
        errors: ``masks`` or ``boxes``, whose signs are explained; empty: none.
    """
    wide = max((sum(width + GAP for width in row.widths) - GAP for row in rows), default=0)
    width = max(NARROWEST, wide + 2 * EDGE)
    inner = width - 2 * EDGE
    wrapped = wrap(text, inner)
    some = [c for c in range(len(classes)) if shown is None or c in shown]
    key = legend(classes, some, inner, errors=errors)
    head = EDGE + 28 + LINE * len(wrapped) + 8 + len(key) + GUTTER
    page = Sheet(width, head + sum(row.height for row in rows) + EDGE - GUTTER + (0 if rows else LINE + GUTTER))
    page.write(title, EDGE, EDGE, inner, bold=True, size=18)
    for k, line in enumerate(wrapped):
        page.write(line, EDGE, EDGE + 28 + k * LINE, inner, faint=True)
    page.put(key, EDGE, head - len(key) - GUTTER)
    y = head
    if not rows:
        page.write("no image", EDGE, y, inner)
    for row in rows:
        for k, line in enumerate(row.lines):
            page.write(line, EDGE, y + k * LINE, inner, bold=not k)
        top = y + LINE * len(row.lines) + 4
        for panels in (row.panels, *row.below):
            x = EDGE
            for one, width in zip(panels, row.widths, strict=False):
                if one:
                    page.write(one.title, x, top, width, faint=True)
                    page.put(one.pixels, x, top + LINE)
                x += width + GAP
            top += LINE + _tallest(panels) + GAP
        y += row.height
    return page.pixels


def write_sheet(
    rows: Sequence[SheetRow], title: str, text: str, out: Path, *, classes: Sequence[str] = (),
    shown: Sequence[int] | None = None, errors: str = "masks",
) -> None:  # fmt: skip
    """Writes :func:`sheet` as a PNG.

    Raises:
        OutputError: the file exists and was not written by this program.
    """
    write_png(out, sheet(rows, title, text, classes=classes, shown=shown, errors=errors))


def legend(classes: Sequence[str], shown: Sequence[int], width: int, *, errors: str = "masks") -> np.ndarray:
    """RGB uint8[H, width, 3]: colour, number and name of each class, in columns, and the signs of errors."""
    signs = {"masks": _mask_signs(), "boxes": _box_signs(), "": []}[errors]
    hues = colours(len(classes))
    texts = [f"{c + 1}  {classes[c]}" for c in shown]
    per_row, wide = _columns(texts, width)
    rows, step = -(-len(texts) // per_row), LINE + 5
    page = Sheet(width, max(1, step * (rows + (1 if signs else 0))))
    for k, (c, text) in enumerate(zip(shown, texts, strict=True)):
        x, y = k % per_row * wide, k // per_row * step
        page.draw.rectangle((x, y, x + SWATCH, y + LINE - 1), hues[c], (60, 60, 60))
        page.write(text, x + SWATCH + 6, y, wide - SWATCH - 12)
    x = 0
    for swatch, text in signs:
        page.put(swatch, x, rows * step)
        page.write(text, x + swatch.shape[1] + 6, rows * step, width - x)
        x += swatch.shape[1] + 30 + int(font().getlength(text))
    return page.pixels


def _columns(texts: Sequence[str], width: int) -> tuple[int, int]:
    """Classes in a row, and the width of each."""
    needed = min(width, SWATCH + 24 + max((int(font().getlength(text)) for text in texts), default=0))
    per_row = max(1, min(len(texts) or 1, width // needed))
    return per_row, needed


def _mask_signs() -> list[tuple[np.ndarray, str]]:
    found = [(_line(dashed=dashed), text) for dashed, text in ((False, "ground truth"), (True, "predicted"))]
    for false, text in ((True, "false positive (striped)"), (False, "false negative (dotted)")):
        fine = np.full((2 * LINE, 4 * SWATCH, 3), 70, np.uint8)
        inside = np.zeros(fine.shape[:2], np.uint8)
        inside[4:-4, 4:-4] = 1
        draw_errors(fine, inside if false else inside * 0, inside * 0 if false else inside)
        found.append((cv2.resize(fine, (2 * SWATCH, LINE), interpolation=cv2.INTER_AREA), text))
    return found


def _box_signs() -> list[tuple[np.ndarray, str]]:
    found = [(_line(dashed=dashed), text) for dashed, text in ((False, "ground truth"), (True, "predicted"))]
    crossed = np.full((LINE, 2 * SWATCH, 3), 70, np.uint8)
    cv2.rectangle(crossed, (3, 2), (2 * SWATCH - 4, LINE - 3), FALSE, 2)
    for ends in (((3, 2), (2 * SWATCH - 4, LINE - 3)), ((3, LINE - 3), (2 * SWATCH - 4, 2))):
        cv2.line(crossed, *ends, FALSE, 1, cv2.LINE_AA)
    missed = np.full((LINE, 2 * SWATCH, 3), 70, np.uint8)
    for x in range(3, 2 * SWATCH - 8, 10):
        for y in (2, LINE - 3):
            cv2.line(missed, (x, y), (x + 5, y), MISSED, 2)
    return [*found, (crossed, "false positive (crossed)"), (missed, "false negative (errors: dashed)")]


def _line(*, dashed: bool) -> np.ndarray:
    made = np.full((LINE, 2 * SWATCH, 3), 70, np.uint8)
    for start in range(2, 2 * SWATCH - 8, 13):
        cv2.line(made, (start, LINE // 2), (start + (8 if dashed else 13), LINE // 2), (240, 240, 240), 2)
    return made


def wrap(text: str, width: int) -> list[str]:
    """Lines of a text that fit into a width in pixels, broken between words."""
    lines: list[str] = []
    for word in text.split():
        if lines and font().getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] = f"{lines[-1]} {word}"
        else:
            lines.append(word)
    return lines
