"""COCO's run-length masks, column-major, compressed or not."""

from typing import Any

import cv2
import numpy as np

from ..errors import DataError
from .images import Grid

MAX_SIDE = 1 << 20  # pixels of a mask's height or width
MAX_DECODED = 1 << 25  # pixels; larger masks are sampled from their runs
MAX_BITS = 35  # of a run's length in compressed text


def size_of(shape: dict[str, Any], where: str) -> tuple[int, int]:
    """Height and width of an RLE. Raises DataError if it has none that is possible."""
    size = shape.get("size")
    whole = isinstance(size, list) and len(size) == 2 and all(type(n) is int and n > 0 for n in size)
    if not whole or not isinstance(shape.get("counts"), str | list):
        raise DataError(f"{where}: an RLE needs size [height, width] and counts; correct or remove it")
    assert isinstance(size, list)
    if max(size) > MAX_SIDE:
        raise DataError(f"{where}: the RLE's size {size[0]} x {size[1]} is not that of an image; correct or remove it")
    return size[0], size[1]


def runs(shape: dict[str, Any], where: str) -> np.ndarray:
    """Lengths int64[R] of the runs of an RLE, of zeros and ones in turn.

    Raises:
        DataError: they are not whole numbers, or do not add up to its size.
    """
    height, width = size_of(shape, where)
    if isinstance(shape["counts"], str):
        # pycocotools accepts any text, and leaves pixels that it does not cover uninitialised
        counts, problem = _unpacked(shape["counts"]), f"the RLE cannot be decoded to {height} x {width}"
    else:
        counts, problem = _listed(shape["counts"]), f"the RLE's counts do not add up to {height} x {width}"
    total = height * width
    if counts is None or (len(counts) and (counts.min() < 0 or counts.max() > total)) or counts.sum() != total:
        raise DataError(f"{where}: {problem}; make it again")
    return counts


def decode(shape: dict[str, Any], where: str) -> np.ndarray:
    """An RLE as uint8[h, w] of zeros and ones. Raises as :func:`runs`."""
    counts, (height, width) = runs(shape, where), shape["size"]
    return np.repeat(np.arange(len(counts), dtype=np.uint8) & 1, counts).reshape(width, height).T


def sample(shape: dict[str, Any], where: str, grid: Grid) -> np.ndarray:
    """An RLE on a grid, as ``grid.sample`` of its decoded mask: uint8[rows, columns] of the content.

    Raises:
        DataError: as :func:`runs`, or the mask has other proportions than the grid's image.
    """
    height, width = size_of(shape, where)
    grid.same_frame((height, width), where)
    if height * width <= MAX_DECODED:
        return grid.sample(decode(shape, where))
    ends = np.cumsum(runs(shape, where))
    rows, columns = grid.sample(np.arange(height)[:, None])[:, :1], grid.sample(np.arange(width)[None])[:1]
    return (np.searchsorted(ends, columns * height + rows, "right") & 1).astype(np.uint8)


def _listed(counts: list[Any]) -> np.ndarray | None:
    try:
        found = np.asarray(counts)
    except ValueError:  # lists of different lengths
        return None
    if not counts:
        return np.zeros(0, np.int64)
    if found.ndim != 1 or found.dtype.kind not in "iuf" or not (np.abs(found.astype(float)) < 2**53).all():
        return None
    whole = found.astype(np.int64)
    return whole if (whole == found).all() else None


def _unpacked(text: str) -> np.ndarray | None:
    """Run lengths of a compressed RLE: 5 bits per letter, from the third on relative to the last but one.

    >>> _unpacked("052").tolist()
    [0, 5, 2]
    """
    counts: list[int] = []
    value, bits = 0, 0
    for letter in text:
        code = ord(letter) - 48
        if not 0 <= code < 64 or bits > MAX_BITS:
            return None
        value |= (code & 31) << bits
        bits += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << bits
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        if not 0 <= counts[-1] <= MAX_SIDE**2:
            return None
        value, bits = 0, 0
    return None if bits else np.array(counts, np.int64)


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Outlines float64[N, 2] on pixel edges of a mask uint8[H, W], holes among them; filled even-odd they are it.

    Each pixel is four while it is traced, and the outline a quarter outside the centres of these, so that the edges
    are those of the pixels.
    """
    doubled = np.kron(np.pad(mask != 0, 1), np.ones((2, 2), bool)).astype(np.uint8)
    found, _ = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    made = []
    for one in found:
        points = one.reshape(-1, 2).astype(float)
        made.append(np.round((points + 0.5) / 2 + 1e-9) - 1)  # to the corner that the quarter pixel touches
    return [one for one in made if (np.ptp(one, axis=0) > 0).all()]
