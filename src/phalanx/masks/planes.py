"""Bit-plane masks: class c lives in bit c % 8 of plane c // 8, so 29 overlapping classes cost 4 bytes per pixel."""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

CHUNK = 1 << 16  # words that are swapped at a time: they stay in a core's cache


def plane_count(classes: int) -> int:
    """Number of uint8 planes that hold ``classes`` classes.

    >>> plane_count(29), plane_count(32), plane_count(33)
    (4, 4, 5)
    """
    return -(-classes // 8)


def pack(masks: np.ndarray) -> np.ndarray:
    """bool[C, H, W] to bit-planes uint8[H, W, P]."""
    return np.ascontiguousarray(np.packbits(masks, axis=0, bitorder="little").transpose(1, 2, 0))


def unpack(planes: np.ndarray, classes: int) -> np.ndarray:
    """Bit-planes uint8[H, W, P] to bool[C, H, W]."""
    bits = np.unpackbits(planes.transpose(2, 0, 1), axis=0, count=classes, bitorder="little")
    return bits.astype(bool)


def one_class(planes: np.ndarray, label: int) -> np.ndarray:
    """Bit-planes uint8[H, W, P] to the bool[H, W] mask of one class."""
    return (planes[:, :, label // 8] >> (label % 8) & 1).astype(bool)


class PlaneRuns(NamedTuple):
    """Bit-planes of ``shape`` [H, W, P] as runs of equal pixels, row by row: a fiftieth of the bytes for bones.

    ``starts``: int32[R], first pixel of each run; ``values``: uint8[R, P], its bits.
    """

    shape: tuple[int, int, int]
    starts: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, planes: np.ndarray) -> "PlaneRuns":
        """The runs of bit-planes uint8[H, W, P], of up to 2^31 pixels."""
        pixels = _words(planes.reshape(-1, planes.shape[2]))
        differs = pixels[1:] != pixels[:-1]
        starts = np.flatnonzero(np.append(True, differs.any(1) if differs.ndim > 1 else differs))
        height, width, count = planes.shape
        return cls((height, width, count), starts.astype(np.int32), planes.reshape(-1, count)[starts])

    def planes(self) -> np.ndarray:
        """The bit-planes again, uint8[H, W, P]."""
        lengths = np.diff(self.starts, append=np.int32(self.shape[0] * self.shape[1]))
        return np.repeat(_words(self.values), lengths, axis=0).view(np.uint8).reshape(self.shape)

    def areas(self, classes: int) -> np.ndarray:
        """Pixels int64[C] of each class."""
        lengths = np.diff(self.starts, append=np.int32(self.shape[0] * self.shape[1]))
        bits = np.unpackbits(self.values, axis=1, count=classes, bitorder="little")
        return lengths.astype(np.int64) @ bits

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.starts.nbytes + self.values.nbytes


def _words(pixels: np.ndarray) -> np.ndarray:
    """uint8[N, P] as one integer per pixel if there is one of P bytes, which numpy handles many times faster."""
    count = pixels.shape[1]
    return np.ascontiguousarray(pixels).view(f"u{count}")[:, 0] if count in (1, 2, 4, 8) else pixels


def swap_classes(planes: np.ndarray, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """Bit-planes with the two classes of every pair swapped, as a mirror swaps left and right.

    No class may be in two pairs.
    """
    swapped = np.array(planes, order="C")
    width = next(size for size in (8, 4, 2, 1) if planes.shape[-1] % size == 0)  # as many planes at a time
    words = swapped.reshape(-1, planes.shape[-1]).view(f"<u{width}")
    steps = swap_steps(pairs, 8 * width)
    for first in range(0, len(words), CHUNK):
        part = words[first : first + CHUNK]
        for a, b, shift, mask in steps:
            low, high = part[:, a], part[:, b]
            differs = (low >> shift if shift >= 0 else low << -shift) ^ high
            differs &= mask
            high ^= differs
            low ^= differs << shift if shift >= 0 else differs >> -shift
    return swapped


def swap_steps(pairs: Sequence[tuple[int, int]], bits: int) -> list[tuple[int, int, int, int]]:
    """How to swap classes in words of so many bits: (word a, word b, shift, mask of bits in b) per step.

    A bit of word b is swapped with the one ``shift`` higher in word a. Pairs of one distance share a step.

    >>> swap_steps([(0, 4), (1, 5), (2, 11)], 8)
    [(0, 0, 4, 3), (1, 0, 1, 4)]
    """
    masks: dict[tuple[int, int, int], int] = {}
    for pair in pairs:
        (b, low), (a, high) = (divmod(label, bits) for label in sorted(pair))
        if (a, high) != (b, low):
            key = (a, b, high - low)
            masks[key] = masks.get(key, 0) | 1 << low
    return [(*key, mask) for key, mask in masks.items()]


@cache
def _highest_bits() -> np.ndarray:
    """uint8[256]: each byte with its highest bit alone."""
    return np.array([0, *(1 << (value.bit_length() - 1) for value in range(1, 256))], np.uint8)


def exclusive(planes: np.ndarray) -> np.ndarray:
    """Bit-planes uint8[H, W, P] in which each pixel has its last class alone, if it has several."""
    found = _highest_bits()[planes]
    taken = found[:, :, -1] > 0
    for p in range(planes.shape[2] - 2, -1, -1):
        found[:, :, p][taken] = 0
        taken = taken | (found[:, :, p] > 0)
    return found


def areas(planes: np.ndarray, classes: int) -> np.ndarray:
    """Pixels int[C] of each class of bit-planes uint8[H, W, P], from how often each of the 256 bytes occurs."""
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little").astype(int)  # (256, 8)
    counts = [np.bincount(planes[..., p].ravel(), minlength=256) @ bits for p in range(planes.shape[2])]
    return np.concatenate(counts)[:classes]


def present_classes(planes: np.ndarray) -> np.ndarray:
    """int[N]: the classes that have a pixel in bit-planes uint8[H, W, P], ascending."""
    # row upon row first: numpy is slow along short axes
    found = np.bitwise_or.reduce(np.bitwise_or.reduce(planes.reshape(len(planes), -1)).reshape(planes.shape[1:]))
    return np.flatnonzero(np.unpackbits(found, bitorder="little"))


def any_class(planes: np.ndarray) -> np.ndarray:
    """bool[H, W]: the pixels that any class of bit-planes uint8[H, W, P] has."""
    found = planes[:, :, 0].copy()
    for number in range(1, planes.shape[2]):  # numpy's reduction over so short an axis takes ten times as long
        found |= planes[:, :, number]
    return found.astype(bool)
