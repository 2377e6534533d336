"""What is wrong with one image by itself: a blank picture, bands of noise; and what it is compared by."""

import hashlib
import math
from pathlib import Path

import cv2
import numpy as np

from .look import REMOVE, Look
from .metal import collimation

THUMB = 32  # side of the thumbnail that near-duplicates are compared by
BLANK = 2.0  # standard deviation of grey levels below which an image shows nothing
NOISE = 12.0  # median step between neighbouring pixels of a line, from which on it is white noise and no picture
ROUGHER, BRIGHTER = 1.5, 40.0  # a band against the lines behind it: times as rough, or grey levels brighter
UP_TO_WHITE = 0.4  # least median step of what is brighter, over its distance from white: .58 for evenly spread levels
COLOURS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey and alpha", 6: "RGB and alpha"}  # of a PNG header


def perceptual_hash(image: np.ndarray) -> tuple[int, np.ndarray]:
    """64-bit hash of uint8[H, W] from the signs of its lowest frequencies, and its thumbnail uint8[THUMB, THUMB].

    Follows pHash (Zauner, 2010): cosine transform of a small copy, 8 x 8 lowest coefficients against their median.
    """
    thumb = cv2.resize(image, (THUMB, THUMB), interpolation=cv2.INTER_AREA)
    low = cv2.dct(thumb.astype(np.float32))[1:9, 1:9].ravel()  # without the rows of the mean: exposure is no content
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big"), thumb


def noise_band(image: np.ndarray) -> tuple[int, int]:
    """Rows at the top and columns at the left of uint8[H, W] that hold white noise, as broken detector borders do.

    Noise of the whole picture is none: a band is rougher or brighter than the lines behind it.
    """
    widths = []
    for lines in (image, image.T):
        deep = max(1, len(lines) // 8)
        steps, levels = _texture(lines[:deep])
        usual_steps, usual_levels = (np.median(values) for values in _texture(lines[deep : 2 * deep + 1 : 4]))
        brighter = (levels > usual_levels + BRIGHTER) & (steps > UP_TO_WHITE * (255 - levels))
        noisy = (steps > NOISE) & ((steps > ROUGHER * usual_steps) | brighter)
        widths.append(len(steps) if noisy.all() else int(np.argmin(noisy)))
    return widths[0], widths[1]


def _texture(lines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median step between neighbours, and median level, of each of uint8[N, W]; every fourth pixel tells enough."""
    ones, others = lines[:, :-1:4], lines[:, 1::4]
    return np.median(cv2.absdiff(ones, others), axis=1), np.median(ones, axis=1)


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
    top, left = noise_band(image)
    if max(top, left) >= max(3, len(image) // 100):
        text = f"white noise in the upper {top} rows and the left {left} columns"
        seen.add(path, "note", "noise-band", text, "Harmless to most models; black it out where it is not")
        share = len(small) / len(image)
        seen.bands = (math.ceil(top * share), math.ceil(left * share))
    sides = collimation(small, seen.bands)
    if sides:
        text = f"a straight edge along the border: {', '.join(sides)}"
        seen.add(path, "note", "collimation", text, "Nothing to do; data.blackout hides the top and the left one")
