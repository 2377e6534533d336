"""Findings of one image's pixels: blank images, noise bands, collimator edges; and hashes to compare images by."""

import hashlib
import math
from pathlib import Path

import cv2
import numpy as np

from ..data.brightness import noise_bands
from ..data.images import Grid, header_of, read_grey
from ..data.records import Record
from ..errors import DataError
from .inspection import REMOVE, SIDE, Inspection
from .metal import collimation

THUMB = 32  # pixels per side of the thumbnail
BLANK = 2.0  # standard deviation of grey levels below which an image is blank
COLOURS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey and alpha", 6: "RGB and alpha"}  # of a PNG header


def perceptual_hash(image: np.ndarray) -> tuple[int, np.ndarray]:
    """Returns a 64-bit hash of uint8[H, W] from its lowest frequencies, and its thumbnail uint8[THUMB, THUMB].

    Follows pHash (Zauner, 2010): the 8 x 8 lowest coefficients of a cosine transform, compared with their median.
    """
    thumb = cv2.resize(image, (THUMB, THUMB), interpolation=cv2.INTER_AREA)
    low = cv2.dct(thumb.astype(np.float32))[1:9, 1:9].ravel()  # without the mean: exposure is not content
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big"), thumb


def file_form(path: Path) -> str:
    """Returns type, depth and colours of an image file, such as ``png, 8 bit, palette``.

    Only a PNG header is read; other types are named by their suffix.
    """
    with path.open("rb") as file:
        head = file.read(26)
    if head[:4] == b"\x89PNG" and len(head) == 26:
        return f"png, {head[24]} bit, {COLOURS.get(head[25], 'unknown')}"
    return path.suffix.lower().lstrip(".")


def inspect_file(item: tuple[Record, str], bones: int = 0) -> tuple[Inspection, np.ndarray | None]:
    """Inspects the image of ``(record, split)``, without its annotation; a bad file becomes a finding.

    Args:
        bones: number of classes with a place, of which nothing is known yet.

    Returns:
        What was found, and the image uint8[h, w] resized to a long side of ``SIDE``; None if it cannot be read.
    """
    cv2.setNumThreads(1)
    record, split = item
    inspection = Inspection(record, split, np.full((bones, 6), np.nan))
    try:
        image = read_grey(record.image)
        inspection.shape = (image.shape[0], image.shape[1])
        small = cv2.resize(image, Grid.of(image, SIDE).content[::-1], interpolation=cv2.INTER_AREA)
        inspect_pixels(inspection, image, small)
        return inspection, small
    except DataError as error:
        text = str(error).removeprefix(f"{record.image}: ")
    except MemoryError:
        text = "does not fit into memory"
    except Exception as error:  # of a library: the other images must be checked all the same
        text = f"cannot be read ({type(error).__name__}: {' '.join(str(error).split())})"
    inspection.add(record.image, "error", "unreadable", text, REMOVE)
    return inspection, None


def inspect_pixels(inspection: Inspection, image: np.ndarray, small: np.ndarray) -> None:
    """Adds the findings of an image's pixels, and its hashes.

    Args:
        image: uint8[H, W].
        small: the same image, resized to a long side of SIDE.
    """
    path = inspection.record.image
    inspection.form = file_form(path)
    inspection.pixels = hashlib.sha256(repr(image.shape).encode() + image.data).digest()
    inspection.hash, inspection.thumb = perceptual_hash(small)
    head = header_of(path)
    if head is not None and head.excess:
        text = f"{head.excess} bytes after the end of the PNG are not read"
        inspection.add(path, "note", "extra-bytes", text, "Nothing to do if the image looks right; else copy it again")
    if head is not None and head.orientation != 1:
        text = f"its orientation is {head.orientation} (EXIF), so it is read turned, as viewers show it"
        inspection.add(path, "note", "turned", text, "Nothing to do if it was annotated in a tool that turns it, too")
    if float(cv2.meanStdDev(image)[1][0, 0]) < BLANK:
        inspection.add(path, "error", "blank", "is blank: all pixels are nearly equal", REMOVE)
        return
    top, left = noise_bands(image)
    if max(top, left) >= max(3, len(image) // 100):
        text = f"white noise in the upper {top} rows and the left {left} columns"
        inspection.add(
            path, "note", "noise-band", text, "Harmless to most models; otherwise hide it with data.blackout"
        )
        scale = len(small) / len(image)
        inspection.bands = (math.ceil(top * scale), math.ceil(left * scale))
    sides = collimation(small, inspection.bands)
    if sides:
        text = f"a straight edge along the border: {', '.join(sides)}"
        inspection.add(
            path, "note", "collimation", text, "Nothing to do; data.blackout hides those at the top and left"
        )
