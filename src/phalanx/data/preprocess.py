"""Changes of the data config to every image, in training and prediction alike, at its original size.

They come before the working grid, so that the same pixels are removed at every size; the truth does not change.
"""

import cv2
import numpy as np

from ..config import ClassifyData, Data
from .overlays import remove_overlays

THUMB = 512  # the background is found on an image of this long side
MARGIN = 0.015  # of the long side: added around the region found
FLESH = 0.12  # of the way from air to Otsu's threshold, which may separate bone from flesh instead of flesh from air
NOISE = 4  # times the spread of the air: what is brighter than that is not noise


def preprocess(image: np.ndarray, data: Data) -> np.ndarray:
    """An image as ``data`` has it: without burnt-in marks, noise band and background.

    Args:
        image: uint8[H, W] or [H, W, 3]; to remove marks by their colour too, in colour also if ``data`` wants it grey.
    """
    if isinstance(data, ClassifyData) and data.overlays != "keep":
        image = remove_overlays(image, data.overlays)
        if image.ndim == 3 and not data.colour:
            image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if data.blackout:
        image = blackout(image, data.blackout)
    if data.background == "contour":
        image = np.where(foreground(image), image, np.uint8(0))
    return image


def blackout(image: np.ndarray, pixels: int) -> np.ndarray:
    """Zeros in the top rows and left columns of uint8[H, W]: ``pixels`` of 2048, scaled to the long side.

    >>> blackout(np.full((4, 4), 9, np.uint8), 512).tolist()
    [[0, 0, 0, 0], [0, 9, 9, 9], [0, 9, 9, 9], [0, 9, 9, 9]]
    """
    band = round(pixels * max(image.shape) / 2048)
    image = image.copy()
    image[:band] = 0
    image[:, :band] = 0
    return image


def foreground(image: np.ndarray) -> np.ndarray:
    """bool[H, W]: inside the outline of the largest bright region, with a margin; everything if none is found."""
    height, width = image.shape
    found = bright(image)
    outlines, _ = cv2.findContours(found, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not outlines:
        return np.ones(image.shape, bool)
    region = np.zeros_like(found)
    cv2.drawContours(region, [max(outlines, key=cv2.contourArea)], -1, 1, cv2.FILLED)
    size = 2 * max(1, round(MARGIN * max(found.shape))) + 1
    region = cv2.dilate(region, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))
    return cv2.resize(region, (width, height), interpolation=cv2.INTER_NEAREST).astype(bool)


def bright(image: np.ndarray) -> np.ndarray:
    """uint8[h, w], 1 where an image uint8[H, W], downsampled to ``THUMB`` if it is larger, is brighter than air."""
    height, width = image.shape
    scale = min(1.0, THUMB / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.GaussianBlur(cv2.resize(image, size, interpolation=cv2.INTER_AREA), (0, 0), 2)
    otsu, _ = cv2.threshold(small, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    air = small[small <= otsu].astype(float)
    if not len(air):
        return np.zeros(small.shape, np.uint8)
    level = np.median(air)
    spread = 1.4826 * np.median(np.abs(air - level))
    return (small > level + max(FLESH * (otsu - level), NOISE * spread, 1)).astype(np.uint8)
