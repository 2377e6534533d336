"""Features of an image that are not of the object: its background, its borders, its file.

The object is the largest bright region with a margin (`data/preprocess.py`). Nothing inside it is read, and neither are
its outline, size or place, which a disease may change. Features, and what they are meant to catch:

- border: mean grey level of the background in a band along each side, its spread, its 5th and 95th percentile, the
  fraction of zeros, and the largest step between neighbouring lines: masks, frames, crops, black bands;
- noise: level and spread of the background, standard deviation of its noise (Immerkaer, 1996), the fraction of zeros,
  the number of grey levels, and steps at the 8 x 8 blocks of JPEG: scanner, export, compression;
- spectrum: logarithm of the mean power of tiles of background in rings of frequency, and its anisotropy: resolution,
  resampling, phase encoding;
- file: height, width, aspect, type, depth, colours and JPEG quantisation.
"""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from ..data.images import read_grey
from ..data.preprocess import foreground
from ..errors import DataError
from .pixels import file_form

BAND = 0.04  # of the short side
DEEP = 0.16  # of the short side: lines among which the largest step is looked for
TILE = 16  # pixels per side of a tile of background
RINGS = 5
MIN_PIXELS = 32  # of background, to describe it
BLOCK = 8  # of JPEG
NAMES = {
    "border": [
        *(f"border_{side}" for side in ("top", "bottom", "left", "right")), "border_spread", "border_p5", "border_p95",
        "border_zeros", "border_step",
    ],
    "noise": ["level", "median", "spread", "noise", "zeros", "levels", "blocks"],
    "spectrum": [*(f"power_{ring}" for ring in range(RINGS)), "anisotropy"],
    "file": ["height", "width", "aspect", "quantisation"],
}  # fmt: skip
LAPLACIAN = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)


class Background(NamedTuple):
    """Features of one image.

    Attributes:
        values: float64[K], in the order of ``NAMES``; NaN of what cannot be measured, as without any background.
        form: type, depth and colours of the file.
    """

    values: np.ndarray
    form: str


def measure_background(path: Path) -> Background:
    """Features of the image in a file. Raises DataError if it cannot be read."""
    cv2.setNumThreads(1)
    image = read_grey(path)
    air = ~foreground(image)
    pixels = image.astype(np.float32)
    parts = [_border(pixels, air), _noise(pixels, air), _spectrum(pixels, air), _file(path, image.shape)]
    return Background(np.concatenate(parts), file_form(path))


def _border(image: np.ndarray, air: np.ndarray) -> np.ndarray:
    width, deep = (max(2, round(part * min(image.shape))) for part in (BAND, DEEP))
    sides = [(np.rot90(image, k), np.rot90(air, k)) for k in (0, 2, 3, 1)]  # each side on top in turn
    means, steps = [], []
    for turned, empty in sides:
        some = turned[:width][empty[:width]]
        means.append(some.mean() if some.size >= MIN_PIXELS else np.nan)
        counts = empty[:deep].sum(axis=1)
        lines = (turned[:deep] * empty[:deep]).sum(axis=1)[counts >= MIN_PIXELS] / counts[counts >= MIN_PIXELS]
        steps.append(np.abs(np.diff(lines)).max() if len(lines) > 1 else 0.0)
    band = np.zeros_like(air)
    band[:width] = band[-width:] = True
    band[:, :width] = band[:, -width:] = True
    some = image[band & air]
    if some.size < MIN_PIXELS:
        return np.array([*means, *[np.nan] * 4, max(steps)])
    low, high = np.percentile(some, [5, 95])
    return np.array([*means, some.std(), low, high, (some == 0).mean(), max(steps)])


def _noise(image: np.ndarray, air: np.ndarray) -> np.ndarray:
    some = image[air]
    if some.size < MIN_PIXELS:
        return np.full(len(NAMES["noise"]), np.nan)
    inner = cv2.erode(air.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0).astype(bool)
    noise = np.nan
    if inner.sum() >= MIN_PIXELS:
        noise = float(np.abs(cv2.filter2D(image, -1, LAPLACIAN))[inner].mean() * np.sqrt(np.pi / 2) / 6)
    levels = len(np.unique(some[:4096])) / min(some.size, 4096)
    return np.array([
        some.mean(), np.median(some), some.std(), noise, (some == 0).mean(), np.log(levels), _blocks(image, air)
    ])  # fmt: skip


def _blocks(image: np.ndarray, air: np.ndarray) -> float:
    """Mean step between columns and rows at the edges of JPEG blocks, less that elsewhere, in grey levels."""
    found = []
    for axis in (0, 1):
        step, both = np.abs(np.diff(image, axis=axis)), np.moveaxis(air, axis, 0)
        both = np.moveaxis(both[1:] & both[:-1], 0, axis)
        at = np.arange(step.shape[axis]) % BLOCK == BLOCK - 1
        edge = np.broadcast_to(at[:, None] if axis == 0 else at[None], step.shape)
        if (both & edge).sum() >= MIN_PIXELS and (both & ~edge).sum() >= MIN_PIXELS:
            found.append(step[both & edge].mean() - step[both & ~edge].mean())
    return float(np.mean(found)) if found else np.nan


def _spectrum(image: np.ndarray, air: np.ndarray) -> np.ndarray:
    height, width = (side // TILE * TILE for side in image.shape)
    shape = (height // TILE, TILE, width // TILE, TILE)
    tiles = image[:height, :width].reshape(shape).swapaxes(1, 2).reshape(-1, TILE, TILE)
    whole = air[:height, :width].reshape(shape).swapaxes(1, 2).reshape(-1, TILE * TILE).all(axis=1)
    if not whole.any():
        return np.full(len(NAMES["spectrum"]), np.nan)
    taper = np.hanning(TILE + 2)[1:-1]
    tiles = tiles[whole]
    tiles = (tiles - tiles.mean(axis=(1, 2), keepdims=True)) * (taper[:, None] * taper[None])
    power = (np.abs(np.fft.fft2(tiles)) ** 2).mean(axis=0)
    f = np.fft.fftfreq(TILE)
    rows, columns = np.abs(f)[:, None], np.abs(f)[None]
    ring = np.minimum((np.hypot(rows, columns) * 2 * RINGS).astype(int), RINGS - 1)
    rings = np.bincount(ring.ravel(), weights=power.ravel()) / np.bincount(ring.ravel())
    along, across = power[rows > 2 * columns], power[(columns > 2 * rows)]
    anisotropy = np.log(along.mean() + 1) - np.log(across.mean() + 1)
    return np.array([*np.log(rings + 1), anisotropy])


def _file(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    height, width = shape[:2]
    return np.array([np.log(height), np.log(width), np.log(width / height), _quantisation(path)])


def _quantisation(path: Path) -> float:
    """Logarithm of the mean step of a JPEG's luminance; 0 of other files."""
    try:
        with path.open("rb") as file, Image.open(file) as picture:
            table = getattr(picture, "quantization", {}).get(0)
    except OSError:  # DICOM, and what only other readers open
        return 0.0
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    return float(np.log(np.mean(table))) if table else 0.0
