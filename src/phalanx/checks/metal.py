"""Bright objects that no bone explains, such as rings, implants and stones on nails; and collimator edges.

Objects far brighter than bone are found in one image; a small stone, by comparing a bone with the same one of other
images. Metal is searched near the bones, except where two overlap, as bone is equally bright there. Sesamoids, which
are not annotated, can look like a small implant. All lengths are pixels of an image with a long side of
`inspection.SIDE`.
"""

from collections.abc import Mapping
from typing import NamedTuple

import cv2
import numpy as np

from ..masks.planes import any_class, one_class

OPENING = 21  # objects narrower than this are compared with their surroundings
NEAR_BONES = 41  # kernel: metal is searched within half of it around the bones
TISSUE = 25  # kernel: soft tissue is measured within half of it around the bones
OVERLAP_MARGIN = 5  # kernel: no search within half of it around overlaps
MIN_EXCESS = 0.5  # of the difference between bone and tissue, if the image is nearly white there
MIN_EXCESS_ALONE = 0.9  # of that difference, at any brightness
WHITE = 235  # grey level
MIN_PIXELS = 6
SPOT_SIZE = 9  # kernel: a spot is narrower
SPOT_MARGIN = 7  # kernel: spots are searched within half of it around a bone
SPOT_PIXELS = 4  # the brightest, whose mean is compared
FAINT = 0.05  # of the difference between bone and tissue, added before the logarithm
BORDER = 1 / 16  # of a side, within which a collimator edge is searched
MIN_STEP = 4.0  # grey levels
EDGE_WIDTH = 3  # pixels of an edge's gradient
MAX_HIDDEN = 20  # percent of an edge's length that may be hidden


class BrightSpot(NamedTuple):
    """Area and centre of a bright object in pixels."""

    pixels: int
    x: float
    y: float


def metal(
    image: np.ndarray, planes: np.ndarray, boxes: Mapping[int, tuple[slice, slice]], bands: tuple[int, int] = (0, 0)
) -> BrightSpot | None:
    """Returns the largest bright object near the bones that they do not explain.

    Args:
        image: uint8[H, W].
        planes: uint8[H, W, P], the bones.
        boxes: rows and columns of each class that is present.
        bands: rows at the top and columns at the left with noise.
    """
    smooth = cv2.GaussianBlur(image, (3, 3), 0)
    base, count = np.zeros(image.shape, np.uint8), np.zeros(image.shape, np.uint8)
    inside: np.ndarray = any_class(planes).astype(np.uint8)
    tissue = (_dilate(inside, TISSUE) > 0) & (_dilate(inside, OVERLAP_MARGIN) == 0)
    if not inside.any() or not tissue.any():
        return None
    bone, soft = float(np.median(smooth[inside > 0])), float(np.median(smooth[tissue]))
    base[:] = round(bone)
    for label, box in boxes.items():
        mask = one_class(planes[box], label)
        if mask.any():
            count[box] += mask
            base[box][mask] = np.median(smooth[box][mask])
    around = cv2.morphologyEx(smooth, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (OPENING, OPENING)))
    excess = cv2.subtract(smooth, cv2.max(base, around)).astype(np.float32) / max(bone - soft, 4)
    searched = (_dilate(inside, NEAR_BONES) > 0) & (_dilate((count > 1).astype(np.uint8), OVERLAP_MARGIN) == 0)
    searched[: bands[0]] = searched[:, : bands[1]] = False
    best = None
    for bright in ((excess > MIN_EXCESS) & (smooth >= WHITE), excess > MIN_EXCESS_ALONE):
        parts: np.ndarray = (bright & searched).astype(np.uint8)
        _, _, table, middles = cv2.connectedComponentsWithStats(parts, connectivity=8)
        for row, (x, y) in zip(table[1:], middles[1:], strict=True):
            if row[cv2.CC_STAT_AREA] >= MIN_PIXELS and (best is None or row[cv2.CC_STAT_AREA] > best.pixels):
                best = BrightSpot(int(row[cv2.CC_STAT_AREA]), float(x), float(y))
    return best


def peaks(
    image: np.ndarray, planes: np.ndarray, boxes: Mapping[int, tuple[slice, slice]], bands: tuple[int, int] = (0, 0)
) -> dict[int, float]:
    """Returns the brightness of the brightest small spot near each bone, to compare with that bone of other images.

    It is the log of the spot's contrast over that of bone and soft tissue. Arguments as in :func:`metal`; bones hidden
    by others are omitted.
    """
    count = np.zeros(image.shape, np.uint8)
    for label, box in boxes.items():
        count[box] += one_class(planes[box], label)
    inside = (count > 0).astype(np.uint8)
    tissue = (_dilate(inside, TISSUE) > 0) & (count == 0)
    if not inside.any() or not tissue.any():
        return {}
    smooth = cv2.GaussianBlur(image, (3, 3), 0)
    usual = max(float(np.median(smooth[count > 0]) - np.median(smooth[tissue])), 4)
    spots = cv2.morphologyEx(
        smooth, cv2.MORPH_TOPHAT, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (SPOT_SIZE, SPOT_SIZE))
    )
    usable = _dilate((count > 1).astype(np.uint8), OVERLAP_MARGIN) == 0
    usable[: bands[0]] = usable[:, : bands[1]] = False
    found = {}
    for label, (rows, columns) in boxes.items():
        wide = tuple(slice(max(part.start - SPOT_MARGIN, 0), part.stop + SPOT_MARGIN) for part in (rows, columns))
        own = one_class(planes[wide], label)
        near = (_dilate(own.astype(np.uint8), SPOT_MARGIN) > 0) & usable[wide] & ((count[wide] == 0) | own)
        if near.sum() > 5 * SPOT_PIXELS:
            brightest = np.partition(spots[wide][near], -SPOT_PIXELS)[-SPOT_PIXELS:]
            found[label] = float(np.log(brightest.mean() / usual + FAINT))
    return found


def collimation(image: np.ndarray, bands: tuple[int, int] = (0, 0)) -> list[str]:
    """Returns the sides of uint8[H, W] with a straight edge near the border, as from a collimator.

    Args:
        bands: rows at the top and columns at the left with noise, whose end is not such an edge.
    """
    top, left = (band + EDGE_WIDTH * (band > 0) for band in bands)
    image = image[top:, left:]
    sides = {"top": image, "left": image.T, "right": image.T[::-1], "bottom": image[::-1]}
    return [name for name, lines in sides.items() if _edge(lines)]


def _edge(lines: np.ndarray) -> bool:
    strip = lines[: max(EDGE_WIDTH + 1, round(len(lines) * BORDER))].astype(np.int16)
    rise = strip[:-EDGE_WIDTH] - strip[EDGE_WIDTH:]
    low, high = np.percentile(rise, (MAX_HIDDEN, 100 - MAX_HIDDEN), axis=1)
    return bool((low > MIN_STEP).any() or (high < -MIN_STEP).any())


def _dilate(mask: np.ndarray, side: int) -> np.ndarray:
    return cv2.dilate(mask, np.ones((side, side), np.uint8))
