"""Panels of an image's labels: probabilities as bars with marks at what is true, and heat over the image."""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from .outlined import FAINT, INK, PAPER, fitted, font
from .scene import LabelScene

BAR, WRONG = (70, 110, 180), (190, 70, 30)  # RGB of a bar, and of one that is wrong
ROW, TEXT = 20, 11  # pixels
MARKS = {1.0: "●", 0.0: "○"}  # true, not true; a missing label is "?"


def bars(scene: LabelScene, classes: Sequence[str], chosen: Sequence[int], side: int) -> np.ndarray:
    """RGB uint8[side, side, 3]: a bar per class. If they do not fit, those that are true, called or most probable."""
    rows = max(1, (side - 2 * ROW) // ROW)
    first = sorted(chosen, key=lambda c: (scene.labels[c] != 1 and not scene.predicted[c], -scene.probabilities[c]))
    shown = sorted(first[:rows])
    picture = Image.new("RGB", (side, side), PAPER)
    pen, face, bold = ImageDraw.Draw(picture), font(TEXT), font(TEXT, bold=True)
    left, right = round(0.46 * side), side - 74
    pen.text((6, 3), "● true  ○ not  ? unknown", FAINT, face)
    for k, c in enumerate(shown):
        y, value = ROW * (k + 1), float(scene.probabilities[c])
        wrong = not np.isnan(scene.labels[c]) and (scene.labels[c] == 1) != scene.predicted[c]
        pen.text((6, y + 2), MARKS.get(float(scene.labels[c]), "?"), INK, bold)
        pen.text((20, y + 3), fitted(classes[c], left - 26, bold if scene.predicted[c] else face), INK,
                 bold if scene.predicted[c] else face)  # fmt: skip
        pen.rectangle((left, y + 3, right, y + ROW - 4), (232, 232, 232))
        end = left + round(np.nan_to_num(value) * (right - left))
        pen.rectangle((left, y + 3, max(left, end), y + ROW - 4), WRONG if wrong else BAR)
        pen.text((right + 5, y + 3), f"{value:.2f}", INK, face)
        if wrong:
            pen.text((side - 40, y + 3), "wrong", WRONG, bold)
    if len(shown) < len(chosen):
        pen.text((6, ROW * (len(shown) + 1) + 3), f"and {len(chosen) - len(shown)} more", FAINT, face)
    else:
        pen.text((6, ROW * (len(shown) + 1) + 3), "bold: predicted", FAINT, face)
    return np.asarray(picture)


def heated(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """RGB uint8[H, W, 3] with heat float[H, W] from 0 to 1 over it; without heat the image stays as it is."""
    levels = (255 * np.clip(heat, 0, 1)).astype(np.uint8)
    shades = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    part = 0.7 * np.clip(heat, 0, 1)[:, :, None]
    return np.asarray(((1 - part) * picture + part * shades).round().astype(np.uint8))
