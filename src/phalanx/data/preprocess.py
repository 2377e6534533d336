"""Changes of the data config to every image, in training and prediction alike, at its original size.

They come before the working grid, so that the same pixels are removed at every size; the truth does not change.
"""

import math

import cv2
import numpy as np

from ..config import ClassifyData, Data
from .overlays import remove_overlays

THUMB = 512  # the background is found on an image of this long side
MARGIN = 0.015  # of the long side: added around the region found
FLESH = 0.12  # of the way from air to Otsu's threshold, which may separate bone from flesh instead of flesh from air
PERCENTILES = (1, 99)  # of what is brighter than air: levels that a stretch makes 0 and 255
CLIP, TILES = 2.0, 8  # limit of a bin over the mean one, and neighbourhoods per side, of the equalisation
BLUR = 2  # pixels of the small image: standard deviation of the Gaussian
NOISE = 4  # times the spread of the air: what is brighter than that is not noise


def preprocess(image: np.ndarray, data: Data) -> np.ndarray:
    """An image as ``data`` has it: without burnt-in marks, noise band and background, of another contrast.

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
    if data.contrast == "stretch":
        image = stretch(image)
    elif data.contrast == "clahe":
        image = cv2.createCLAHE(CLIP, (TILES, TILES)).apply(image)  # Zuiderveld, 1994
    return image


def stretch(image: np.ndarray) -> np.ndarray:
    """uint8[H, W] whose levels brighter than air, from their 1st to their 99th percentile, fill 0 to 255.

    Machines and windows differ in brightness and contrast; what is left of them is the curve between. Air becomes 0.
    An image of one level is returned as it is.

    >>> stretch(np.array([[0, 0, 0, 0], [0, 60, 60, 0], [0, 110, 110, 0], [0, 0, 0, 0]], np.uint8).repeat(40, 0)
    ...         .repeat(40, 1))[40::40, 80].tolist()
    [0, 255, 0]
    """
    found = bright(image)
    size = 2 * math.ceil(3 * BLUR) + 1  # the blur makes air bright beside the object
    inner = cv2.erode(found, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))
    inner = cv2.resize(inner if inner.any() else found, image.shape[::-1], interpolation=cv2.INTER_NEAREST)
    low, high = np.percentile(image[inner > 0] if inner.any() else image, PERCENTILES)
    if high <= low:
        return image
    curve = np.clip((np.arange(256) - low) / (high - low), 0, 1)
    return cv2.LUT(image, np.rint(255 * curve).astype(np.uint8))


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
    small = cv2.GaussianBlur(cv2.resize(image, size, interpolation=cv2.INTER_AREA), (0, 0), BLUR)
    otsu, _ = cv2.threshold(small, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    air = small[small <= otsu].astype(float)
    if not len(air):
        return np.zeros(small.shape, np.uint8)
    level = np.median(air)
    spread = 1.4826 * np.median(np.abs(air - level))
    return (small > level + max(FLESH * (otsu - level), NOISE * spread, 1)).astype(np.uint8)
