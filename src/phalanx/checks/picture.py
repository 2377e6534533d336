"""What is wrong with one image by itself: a blank picture, bands of noise; and what it is compared by."""

import hashlib
import math
from pathlib import Path

import cv2
import numpy as np

from ..data.brightness import noise_bands
from .look import REMOVE, Look
from .metal import collimation

THUMB = 32  # side of the thumbnail that near-duplicates are compared by
BLANK = 2.0  # standard deviation of grey levels below which an image shows nothing
COLOURS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey and alpha", 6: "RGB and alpha"}  # of a PNG header


def perceptual_hash(image: np.ndarray) -> tuple[int, np.ndarray]:
    """64-bit hash of uint8[H, W] from the signs of its lowest frequencies, and its thumbnail uint8[THUMB, THUMB].

    Follows pHash (Zauner, 2010): cosine transform of a small copy, 8 x 8 lowest coefficients against their median.
    """
    thumb = cv2.resize(image, (THUMB, THUMB), interpolation=cv2.INTER_AREA)
    low = cv2.dct(thumb.astype(np.float32))[1:9, 1:9].ravel()  # without the rows of the mean: exposure is no content
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big"), thumb


def file_form(path: Path) -> str:
    """Type, depth and colours of an image file, such as ``png, 8 bit, palette``.

    Read from the header for PNG; other types are named by their ending alone.
    """
    with path.open("rb") as file:
        head = file.read(26)
    if head[:4] == b"\x89PNG" and len(head) == 26:
        return f"png, {head[24]} bit, {COLOURS.get(head[25], 'unknown')}"
    return path.suffix.lower().lstrip(".")


def look_at_picture(seen: Look, image: np.ndarray, small: np.ndarray) -> None:
    """Notes what uint8[H, W] shows, and keeps its hashes; ``small``: the same on a grid of SIDE."""
    path = seen.record.image
    seen.form = file_form(path)
    seen.pixels = hashlib.sha256(repr(image.shape).encode() + image.data).digest()
    seen.hash, seen.thumb = perceptual_hash(small)
    if float(cv2.meanStdDev(image)[1][0, 0]) < BLANK:
        seen.add(path, "error", "blank", "shows nothing: all pixels are nearly alike", REMOVE)
        return
    top, left = noise_bands(image)
    if max(top, left) >= max(3, len(image) // 100):
        text = f"white noise in the upper {top} rows and the left {left} columns"
        seen.add(path, "note", "noise-band", text, "Harmless to most models; black it out where it is not")
        share = len(small) / len(image)
        seen.bands = (math.ceil(top * share), math.ceil(left * share))
    sides = collimation(small, seen.bands)
    if sides:
        text = f"a straight edge along the border: {', '.join(sides)}"
        seen.add(path, "note", "collimation", text, "Nothing to do; data.blackout hides the top and the left one")
