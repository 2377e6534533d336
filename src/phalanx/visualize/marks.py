"""Draws what an image is annotated with: masks, boxes or labels, each class with a colour and a number of its own."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw

from ..masks.planes import one_class, unpack
from .outlined import LINE, Sheet, font
from .overlay import overlay
from .palette import colours

MARK = 13  # pixels: size of a class's number in a panel
SWATCH = 26  # pixels: width of a legend's colour
HALO = (0, 0, 0)
# where a number goes that finds its place taken: nearest first, in pixels
OFFSETS = [(0.0, 0.0)] + [
    (reach * float(np.cos(angle)), reach * float(np.sin(angle)))
    for reach in range(8, 96, 6)
    for angle in np.linspace(0, 2 * np.pi, 12, endpoint=False)
]


class Marks(NamedTuple):
    """The annotation of an image of some height and width.

    Attributes:
        planes: bit-planes uint8[H, W, P] of masks; None if it has none.
        boxes: float64[N, 4], x_min, y_min, x_max, y_max on pixel edges; None if it has none.
        labels: class number of each box.
        outlines: float64[K, 2] each, on pixel edges, of the objects that have some, with their class numbers.
        text: labels of the image, in words; empty if it has none.
    """

    planes: np.ndarray | None = None
    boxes: np.ndarray | None = None
    labels: Sequence[int] = ()
    outlines: Sequence[tuple[int, np.ndarray]] = ()
    text: str = ""

    def present(self, classes: int) -> set[int]:
        """Numbers of the classes that are drawn."""
        found = set(self.labels)
        if self.planes is not None:
            found |= {c for c in range(classes) if one_class(self.planes, c).any()}
        return found

    @property
    def drawn(self) -> bool:
        """Whether there is something to draw over an image; labels are text."""
        return self.planes is not None or self.boxes is not None


def shrunk(image: np.ndarray, side: int) -> np.ndarray:
    """An image uint8[H, W] or [H, W, 3] with a long side of ``side`` pixels, in RGB."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return small if small.ndim == 3 else np.repeat(small[:, :, None], 3, axis=2)


def draw_marks(image: np.ndarray, marks: Marks, classes: int, side: int) -> np.ndarray:
    """RGB uint8[h, w, 3], long side ``side``: an image uint8[H, W] or [H, W, 3] with its annotation over it.

    Colours mix where masks overlap; each class has its number (from 1) at its deepest place, each box at its corner.
    """
    small = shrunk(image, side)
    scale = side / max(image.shape[:2])
    numbers: list[tuple[float, float, int]] = []
    if marks.planes is not None:
        masks = masks_at(marks.planes, classes, small.shape[:2])
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        small = cv2.cvtColor(overlay(grey, masks), cv2.COLOR_BGR2RGB)
        there = sorted(
            (int(mask.sum()), c) for c, mask in enumerate(masks) if mask.any()
        )  # small ones keep their place
        numbers = [(*_deepest(masks[c]), c) for _, c in there]
    hues = colours(classes)
    thick = max(1, round(side / 400))
    for label, points in marks.outlines:
        fixed = np.round((points * scale - 0.5) * 16).astype(np.int32)
        cv2.polylines(small, [fixed], True, hues[label], thick, cv2.LINE_AA, shift=4)
    corners = np.zeros((0, 4)) if marks.boxes is None else np.asarray(marks.boxes, float) * scale
    for (x0, y0, x1, y1), label in zip(corners.round().astype(int).tolist(), marks.labels, strict=True):
        cv2.rectangle(small, (x0, y0), (x1 - 1, y1 - 1), HALO, thick + 2)
        cv2.rectangle(small, (x0, y0), (x1 - 1, y1 - 1), hues[label], thick)
    numbers += [(box[0] + 9, box[1] + 10, label) for box, label in zip(corners.tolist(), marks.labels, strict=True)]
    return numbered(small, numbers)


def masks_at(planes: np.ndarray, classes: int, shape: tuple[int, ...]) -> np.ndarray:
    """bool[C, h, w] of bit-planes uint8[H, W, P], each pixel the nearest one."""
    rows, columns = (
        np.minimum(((np.arange(count) + 0.5) * length / count).astype(int), length - 1)
        for count, length in zip(shape, planes.shape[:2], strict=False)
    )
    return unpack(np.ascontiguousarray(planes[rows[:, None], columns]), classes)


def _deepest(mask: np.ndarray) -> tuple[float, float]:
    """x, y of the pixel of bool[H, W] that is farthest from its border."""
    x, y, wide, high = cv2.boundingRect(mask.astype(np.uint8))
    part = np.pad(mask[y : y + high, x : x + wide], 1).astype(np.uint8)
    row, column = np.unravel_index(int(cv2.distanceTransform(part, cv2.DIST_L2, 3).argmax()), part.shape)
    return float(x + column - 1), float(y + row - 1)


def numbered(picture: np.ndarray, numbers: Sequence[tuple[float, float, int]]) -> np.ndarray:
    """The picture with a number at each x, y, or near it with a line to it if another number is there."""
    if not numbers:
        return picture
    drawn = Image.fromarray(picture)
    height, width = picture.shape[:2]
    pen, face = ImageDraw.Draw(drawn), font(MARK if max(height, width) >= 500 else MARK - 3, bold=True)
    taken, texts = list[tuple[float, float, float, float]](), list[tuple[float, float, str]]()
    for x, y, label in numbers:
        left, top, right, bottom = face.getbbox(str(label + 1), stroke_width=1)
        wide, high = (right - left) / 2, (bottom - top) / 2
        for dx, dy in OFFSETS:
            at = (min(max(x + dx, wide), width - wide), min(max(y + dy, high), height - high))
            box = (at[0] - wide, at[1] - high, at[0] + wide, at[1] + high)
            if not any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken):
                break
        else:
            at, box = (x, y), (x, y, x, y)
        taken.append(box)
        texts.append((*at, str(label + 1)))
        if np.hypot(at[0] - x, at[1] - y) > wide:
            pen.line((x, y, *at), HALO, 3)
            pen.line((x, y, *at), (255, 255, 255), 1)
    for x, y, text in texts:  # a halo: legible on every colour
        pen.text((x, y), text, (255, 255, 255), face, anchor="mm", stroke_width=2, stroke_fill=HALO)
    return np.asarray(drawn)


def legend_height(classes: Sequence[str], shown: Sequence[int], width: int) -> int:
    """Pixels that :func:`draw_legend` needs."""
    per_row, _ = _columns(classes, width)
    return -(-len(shown) // per_row) * (LINE + 5)


def draw_legend(
    sheet: Sheet, classes: Sequence[str], shown: Sequence[int], present: set[int] | None, x: int, y: int, width: int
) -> None:
    """Writes colour, number and name of classes in columns; names of those not ``present`` are faint and in brackets.

    Args:
        shown: numbers of the classes that are listed.
    """
    per_row, wide = _columns(classes, width)
    hues = colours(len(classes))
    for place, c in enumerate(shown):
        left, top = x + place % per_row * wide, y + place // per_row * (LINE + 5)
        there = present is None or c in present
        sheet.draw.rectangle((left, top, left + SWATCH, top + LINE - 1), hues[c], (60, 60, 60))
        text = f"{c + 1}  {classes[c]}" if there else f"{c + 1}  ({classes[c]})"
        sheet.write(text, left + SWATCH + 6, top, wide - SWATCH - 12, faint=not there)


def _columns(classes: Sequence[str], width: int) -> tuple[int, int]:
    """Classes in a row, and the width of each."""
    face = font()
    longest = max((int(face.getlength(f"{len(classes)}  ({name})")) for name in classes), default=0)
    wide = min(SWATCH + 30 + longest, width)
    return max(1, width // wide), wide
