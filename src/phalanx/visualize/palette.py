"""The colours of classes: distinct from each other and from grey, so that they show on X-rays and on white paper."""

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np

STEP = 15  # grey levels between candidates
LIGHT, CHROMA = (50.0, 90.0), 26.0  # CIELAB lightness, and distance from grey, that a colour must have
APART = 60.0  # in CIELAB, from a colour to avoid
RGB = tuple[int, int, int]


@cache
def colours(count: int, avoid: RGB | None = None) -> tuple[RGB, ...]:
    """RGB of ``count`` classes; the first of many are those of few.

    Each next colour is the candidate that is farthest, in CIELAB, from all before (Gonzalez, 1985).

    Args:
        avoid: a colour that means something else, from which all are far.

    >>> colours(3) == colours(29)[:3], len(set(colours(29)))
    (True, 29)
    """
    levels = np.arange(0, 256, STEP, np.uint8)
    rgb = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = in_lab(rgb)
    usable = (lab[:, 0] >= LIGHT[0]) & (lab[:, 0] <= LIGHT[1]) & (np.linalg.norm(lab[:, 1:], axis=1) >= CHROMA)
    if avoid is not None:
        usable &= np.linalg.norm(lab - in_lab(np.array([avoid], np.uint8)), axis=1) >= APART
    rgb, lab = rgb[usable], lab[usable]
    first = int(np.linalg.norm(rgb.astype(int) - (255, 150, 30), axis=1).argmin())
    picked, nearest = [first], np.linalg.norm(lab - lab[first], axis=1)
    while len(picked) < count:
        picked.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.linalg.norm(lab - lab[picked[-1]], axis=1))
    return tuple((int(r), int(g), int(b)) for r, g, b in rgb[picked[:count]])


def class_colours(classes: Sequence[str]) -> dict[str, RGB]:
    """RGB by the name of each class."""
    return dict(zip(classes, colours(len(classes)), strict=True))


def in_lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB float32[N, 3] of RGB uint8[N, 3]."""
    found = cv2.cvtColor(rgb[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return np.asarray(found[0])
