"""Pages of panels with captions and a legend: what ``phalanx show`` and the pictures of changed labels are made of."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .marks import draw_legend, legend_height
from .outlined import LINE, Sheet, font

GAP, EDGE = 14, 18
HEAD = 24  # pixels of the title's letters


class Panel(NamedTuple):
    """One picture of a page.

    Attributes:
        pixels: RGB uint8[H, W, 3].
        lines: of the caption, of which the first is bold.
    """

    pixels: np.ndarray
    lines: Sequence[str]


class Page(NamedTuple):
    """A drawn page.

    Attributes:
        pixels: RGB uint8[H, W, 3].
        panels: caption (its first line) and place (x, y, width, height in pixels) of each panel, by row.
    """

    pixels: np.ndarray
    panels: list[tuple[str, tuple[int, int, int, int]]]


def page(
    title: str,
    text: str,
    rows: Sequence[Sequence[Panel]],
    classes: Sequence[str] = (),
    present: set[int] | None = None,
    *,
    only_present: bool = False,
) -> Page:
    """A title, a text, rows of panels with their captions above, and a legend of the classes.

    Args:
        present: numbers of the classes that are drawn; None: all.
        only_present: leave the others out of the legend.
    """
    columns = max(len(row) for row in rows)
    wide = [max(row[k].pixels.shape[1] for row in rows if k < len(row)) for k in range(columns)]
    width = max(2 * EDGE + sum(wide) + GAP * (columns - 1), 480)
    inner = width - 2 * EDGE
    wrapped = wrap(text, inner)
    captions = [[_caption(panel, wide[k]) for k, panel in enumerate(row)] for row in rows]
    heights = [
        max(len(lines) for lines in texts) * LINE + 5 + max(panel.pixels.shape[0] for panel in row) + GAP
        for row, texts in zip(rows, captions, strict=True)
    ]
    top = EDGE + HEAD + 10 + len(wrapped) * LINE + 8
    shown = sorted(present) if only_present and present is not None else list(range(len(classes)))
    below = legend_height(classes, shown, inner) + 12 if classes else 0
    sheet = Sheet(width, top + sum(heights) + below + EDGE - GAP)
    sheet.write(title, EDGE, EDGE, inner, bold=True, size=HEAD - 4)
    for k, line in enumerate(wrapped):
        sheet.write(line, EDGE, EDGE + HEAD + 8 + k * LINE, inner, faint=True)
    y, places = top, list[tuple[str, tuple[int, int, int, int]]]()
    for row, texts, height in zip(rows, captions, heights, strict=True):
        deep, x = max(len(lines) for lines in texts) * LINE + 5, EDGE
        for k, (panel, lines) in enumerate(zip(row, texts, strict=True)):
            for number, line in enumerate(lines):
                sheet.write(line, x, y + number * LINE, wide[k], bold=number == 0)
            sheet.put(panel.pixels, x, y + deep)
            size = panel.pixels.shape
            places.append((" ".join(panel.lines[:1]), (x, y + deep, size[1], size[0])))
            x += wide[k] + GAP
        y += height
    if classes:
        draw_legend(sheet, classes, shown, present, EDGE, y - GAP + 12, inner)
    return Page(sheet.pixels, places)


def _caption(panel: Panel, width: int) -> list[str]:
    first, *others = panel.lines or ("",)
    return [*wrap(first, width, bold=True), *(line for text in others for line in wrap(text, width))]


def wrap(text: str, width: int, *, bold: bool = False) -> list[str]:
    """Lines of a text that fit into a width in pixels, broken between words if that is possible."""
    face, lines = font(bold=bold), list[str]()
    for word in text.split():
        while word:
            longer = f"{lines[-1]} {word}" if lines else word
            if lines and face.getlength(longer) <= width:
                lines[-1], word = longer, ""
                continue
            count = len(word)
            while count > 1 and face.getlength(word[:count]) > width:
                count -= 1
            lines.append(word[:count])
            word = word[count:]
    return lines
