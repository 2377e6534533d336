"""Bright things that no bone explains: rings, implants, stones on nails; and the edges of the collimator.

What is far brighter than bone shows in an image by itself; a small stone, by comparing a bone with that of others.
Metal is sought where one bone lies or none, near the bones: where two overlap, bone alone is as bright. Sesamoids,
which nobody annotates, can look like a small implant. All lengths are pixels of the grid of `look.SIDE`.
"""

from collections.abc import Mapping
from typing import NamedTuple

import cv2
import numpy as np

from ..masks.planes import any_class, one_class

OPEN = 21  # what is narrower stands out against what lies around it
NEAR, AROUND, OVERLAP = 41, 25, 5  # sides of the search around the bones, of the flesh, and of what overlaps hide
STANDS_OUT = 0.5  # of the difference between bone and flesh, where the picture is nearly white
SPOT, REACH, PIXELS = 9, 7, 4  # a spot is narrower; side of the search around a bone; pixels that make it up
FAINT = 0.05  # of the difference between bone and flesh: fainter spots are all alike
ALONE = 0.9  # of that difference, whatever the brightness
WHITE = 235
LEAST = 6  # pixels
MARGIN = 1 / 16  # of a side: how far the collimator's edge may reach in
STEP = 4.0  # grey levels
ACROSS = 3  # pixels over which an edge rises
HIDDEN = 20  # percent of an edge's length that may be hidden


class Spot(NamedTuple):
    """A bright thing: its pixels and its middle."""

    pixels: int
    x: float
    y: float


def metal(
    image: np.ndarray, planes: np.ndarray, boxes: Mapping[int, tuple[slice, slice]], bands: tuple[int, int] = (0, 0)
) -> Spot | None:
    """The largest bright thing near the bones of uint8[H, W] that they do not explain.

    Args:
        planes: uint8[H, W, P], the bones.
        boxes: rows and columns of each class that is there.
        bands: rows at the top and columns at the left that hold noise.
    """
    smooth = cv2.GaussianBlur(image, (3, 3), 0)
    base, count = np.zeros(image.shape, np.uint8), np.zeros(image.shape, np.uint8)
    inside: np.ndarray = any_class(planes).astype(np.uint8)
    flesh = (_grown(inside, AROUND) > 0) & (_grown(inside, OVERLAP) == 0)
    if not inside.any() or not flesh.any():
        return None
    bone, soft = float(np.median(smooth[inside > 0])), float(np.median(smooth[flesh]))
    base[:] = round(bone)
    for label, box in boxes.items():
        mask = one_class(planes[box], label)
        if mask.any():
            count[box] += mask
            base[box][mask] = np.median(smooth[box][mask])
    around = cv2.morphologyEx(smooth, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (OPEN, OPEN)))
    excess = cv2.subtract(smooth, cv2.max(base, around)).astype(np.float32) / max(bone - soft, 4)
    sought = (_grown(inside, NEAR) > 0) & (_grown((count > 1).astype(np.uint8), OVERLAP) == 0)
    sought[: bands[0]] = sought[:, : bands[1]] = False
    best = None
    for stands_out in ((excess > STANDS_OUT) & (smooth >= WHITE), excess > ALONE):
        parts: np.ndarray = (stands_out & sought).astype(np.uint8)
        _, _, table, middles = cv2.connectedComponentsWithStats(parts, connectivity=8)
        for row, (x, y) in zip(table[1:], middles[1:], strict=True):
            if row[cv2.CC_STAT_AREA] >= LEAST and (best is None or row[cv2.CC_STAT_AREA] > best.pixels):
                best = Spot(int(row[cv2.CC_STAT_AREA]), float(x), float(y))
    return best


def peaks(
    image: np.ndarray, planes: np.ndarray, boxes: Mapping[int, tuple[slice, slice]], bands: tuple[int, int] = (0, 0)
) -> dict[int, float]:
    """How bright the brightest small spot on or close to each bone is: to compare with the same bone of other images.

    The log of what it stands out by, over the difference between bone and flesh. Arguments as in :func:`metal`;
    bones that others hide are left out.
    """
    count = np.zeros(image.shape, np.uint8)
    for label, box in boxes.items():
        count[box] += one_class(planes[box], label)
    inside = (count > 0).astype(np.uint8)
    flesh = (_grown(inside, AROUND) > 0) & (count == 0)
    if not inside.any() or not flesh.any():
        return {}
    smooth = cv2.GaussianBlur(image, (3, 3), 0)
    usual = max(float(np.median(smooth[count > 0]) - np.median(smooth[flesh])), 4)
    spots = cv2.morphologyEx(smooth, cv2.MORPH_TOPHAT, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (SPOT, SPOT)))
    usable = _grown((count > 1).astype(np.uint8), OVERLAP) == 0
    usable[: bands[0]] = usable[:, : bands[1]] = False
    found = {}
    for label, (rows, columns) in boxes.items():
        wide = tuple(slice(max(part.start - REACH, 0), part.stop + REACH) for part in (rows, columns))
        own = one_class(planes[wide], label)
        near = (_grown(own.astype(np.uint8), REACH) > 0) & usable[wide] & ((count[wide] == 0) | own)
        if near.sum() > 5 * PIXELS:
            brightest = np.partition(spots[wide][near], -PIXELS)[-PIXELS:]
            found[label] = float(np.log(brightest.mean() / usual + FAINT))
    return found


def collimation(image: np.ndarray, bands: tuple[int, int] = (0, 0)) -> list[str]:
    """Sides of uint8[H, W] along which a straight edge runs near the border, as the collimator's leaves leave it.

    Args:
        bands: rows at the top and columns at the left that hold noise, whose end is no such edge.
    """
    top, left = (band + ACROSS * (band > 0) for band in bands)
    image = image[top:, left:]
    sides = {"top": image, "left": image.T, "right": image.T[::-1], "bottom": image[::-1]}
    return [name for name, lines in sides.items() if _edge(lines)]


def _edge(lines: np.ndarray) -> bool:
    strip = lines[: max(ACROSS + 1, round(len(lines) * MARGIN))].astype(np.int16)
    rise = strip[:-ACROSS] - strip[ACROSS:]
    low, high = np.percentile(rise, (HIDDEN, 100 - HIDDEN), axis=1)
    return bool((low > STEP).any() or (high < -STEP).any())


def _grown(mask: np.ndarray, side: int) -> np.ndarray:
    return cv2.dilate(mask, np.ones((side, side), np.uint8))
