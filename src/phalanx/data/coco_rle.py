"""COCO's run-length masks, column-major, compressed or not."""

from typing import Any

import numpy as np

from ..errors import DataError


def decode(shape: dict[str, Any], where: str) -> np.ndarray:
    """An RLE, compressed (text) or not (a list), as uint8[h, w] of zeros and ones."""
    from pycocotools import mask as api

    height, width = shape["size"]
    if isinstance(shape["counts"], list):
        return api.decode(api.frPyObjects(shape, height, width))
    try:  # pycocotools accepts any text, and leaves pixels that it does not cover uninitialised
        counts = _counts(shape["counts"])
    except IndexError:
        counts = [-1]
    if min(counts, default=0) < 0 or sum(counts) != height * width:
        raise DataError(f"{where}: the RLE cannot be decoded to {height} x {width}; make it again")
    return api.decode(shape)


def _counts(text: str) -> list[int]:
    """Run lengths of a compressed RLE: 5 bits per letter, from the third on relative to the last but one.

    >>> _counts("052")
    [0, 5, 2]
    """
    counts: list[int] = []
    place = 0
    while place < len(text):
        value, bits, more = 0, 0, True
        while more:
            letter = ord(text[place]) - 48
            value |= (letter & 31) << bits
            bits, place, more = bits + 5, place + 1, bool(letter & 32)
        if letter & 16:
            value -= 1 << bits
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    return counts
