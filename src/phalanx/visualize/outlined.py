"""Panels of X-rays with outlines over them: solid of the ground truth, dashed of a prediction, a colour per class."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

PAPER, INK, FAINT = (255, 255, 255), (25, 25, 25), (110, 110, 110)
# of the disease, the normal organ, then others; they differ in brightness, too
COLOURS = ((255, 150, 30), (120, 205, 255), (150, 255, 130), (255, 130, 220), (255, 240, 120))
DASH, GAP = 7.0, 6.0  # pixels of a panel
FINE = 2  # panels are drawn so many times as large: lines of 1.5 pixels with a halo of 0.5 are thin and clear
HALO, WIDTH = 5, 3
MARGIN = 0.25  # around objects, as a part of their longer side
LEAST = 0.3  # a panel shows at least this part of the image's longer side
TEXT, LINE = 13, 17  # pixels: size of letters, distance of lines


class Line(NamedTuple):
    """An outline to draw.

    Attributes:
        points: float64[N, 2], x and y on pixel edges of the image; closed.
        dashed: it is predicted.
    """

    points: np.ndarray
    label: str
    dashed: bool


class Frame(NamedTuple):
    """The square part of an image that a panel shows: its corner and side in pixels, perhaps beyond the image."""

    x: float
    y: float
    side: float


def colours_of(classes: Sequence[str], first: Sequence[str | None] = ()) -> dict[str, tuple[int, int, int]]:
    """RGB by class; those of ``first`` have the first colours. After five they repeat."""
    order = [label for label in first if label is not None]
    order += [label for label in classes if label not in order]
    return {label: COLOURS[k % len(COLOURS)] for k, label in enumerate(order)}


def frame_around(lines: Sequence[Line], shape: tuple[int, ...]) -> Frame:
    """The frame around outlines with a margin, in an image of a shape (height, width); the image if there are none."""
    long = float(max(shape[:2]))
    points = [line.points for line in lines if len(line.points)]
    if not points:
        return Frame((shape[1] - long) / 2, (shape[0] - long) / 2, long)
    both = np.concatenate(points)
    low, high = both.min(0), both.max(0)
    side = min(long, max(float((high - low).max()) * (1 + 2 * MARGIN), LEAST * long))
    found = [
        float(np.clip((low[k] + high[k] - side) / 2, 0, max(0.0, shape[1 - k] - side))) if shape[1 - k] > side
        else (shape[1 - k] - side) / 2
        for k in (0, 1)
    ]  # fmt: skip
    return Frame(found[0], found[1], side)


def panel(
    image: np.ndarray, lines: Sequence[Line], frame: Frame, side: int, colours: Mapping[str, tuple[int, int, int]]
) -> np.ndarray:
    """RGB uint8[side, side, 3] of a frame of a grey image uint8[H, W], with lines over it."""
    fine = FINE * side
    scale = fine / frame.side
    place = np.array([[scale, 0, (0.5 - frame.x) * scale - 0.5], [0, scale, (0.5 - frame.y) * scale - 0.5]])
    if scale < FINE:  # else the pixels between would be lost
        image = cv2.GaussianBlur(image, (0, 0), 0.4 * FINE / scale)
    grey = cv2.warpAffine(image, place, (fine, fine), flags=cv2.INTER_LINEAR)
    result = np.repeat(grey[:, :, None], 3, axis=2)
    for line in sorted(lines, key=lambda one: one.dashed):  # predictions on top
        points = (line.points - (frame.x, frame.y)) * scale - 0.5
        parts = dashes(points) if line.dashed else [np.concatenate([points, points[:1]])]
        for colour, width in (((0, 0, 0), HALO), (colours[line.label], WIDTH)):
            fixed = [np.round(part * 16).astype(np.int32) for part in parts]
            cv2.polylines(result, fixed, False, colour, width, cv2.LINE_AA, shift=4)
    return cv2.resize(result, (side, side), interpolation=cv2.INTER_AREA)


def dashes(points: np.ndarray) -> list[np.ndarray]:
    """The dashes of a closed line float64[N, 2] of a fine panel, each float64[K, 2]; at least three."""
    closed = np.concatenate([points, points[:1]])
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    count = max(3, round(float(along[-1]) / FINE / (DASH + GAP)))
    step, found = float(along[-1]) / count, []
    for k in range(count):
        start, end = k * step, (k + DASH / (DASH + GAP)) * step
        inner = (along > start) & (along < end)
        places = np.concatenate([[start], along[inner], [end]])
        found.append(np.stack([np.interp(places, along, closed[:, i]) for i in (0, 1)], axis=1))
    return found


@cache
def font(size: int = TEXT, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font of matplotlib, which has Latin, Greek and Cyrillic letters."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def fitted(text: str, width: int, face: ImageFont.FreeTypeFont) -> str:
    """The text as far as it fits into a width in pixels."""
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


class Sheet:
    """A white page that panels and text are put on."""

    def __init__(self, width: int, height: int):
        self.picture = Image.new("RGB", (width, height), PAPER)
        self.draw = ImageDraw.Draw(self.picture)

    def put(self, pixels: np.ndarray, x: int, y: int) -> None:
        """Puts RGB uint8[H, W, 3] with its corner at a place."""
        self.picture.paste(Image.fromarray(pixels), (x, y))

    def write(
        self, text: str, x: int, y: int, width: int, *, bold: bool = False, faint: bool = False, size: int = TEXT
    ) -> None:
        """Writes one line, cut off at a width."""
        face = font(size, bold=bold)
        self.draw.text((x, y), fitted(text, width, face), FAINT if faint else INK, face)

    def legend(
        self, colours: Mapping[str, tuple[int, int, int]], x: int, y: int, *, left: int, width: int,
        solid: str = "ground truth", dashes: str = "predicted",
    ) -> int:  # fmt: skip
        """Draws what colours and line styles mean, from a place on, in rows; returns the height."""
        first = y
        for dashed, what in ((False, solid), (True, dashes)):
            for label, colour in colours.items():
                text = f"{what}: {label}"
                needed = 50 + int(font().getlength(text)) + 24
                if x + needed > left + width and x > left:
                    x, y = left, y + LINE + 5
                self.draw.rectangle((x, y, x + 42, y + LINE), (70, 70, 70))
                ends = [(0.0, 42.0)] if not dashed else [(k * 13.0 + 2, k * 13.0 + 9) for k in range(3)]
                for start, end in ends:
                    self.draw.line((x + start, y + LINE / 2, x + end, y + LINE / 2), colour, 3)
                self.write(text, x + 50, y, width)
                x += needed
        return y + LINE + 5 - first

    @property
    def pixels(self) -> np.ndarray:
        """RGB uint8[H, W, 3]."""
        return np.asarray(self.picture)
