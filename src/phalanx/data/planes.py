"""Bit-plane masks: class c lives in bit c % 8 of plane c // 8, so 29 overlapping classes cost 4 bytes a pixel."""

from collections.abc import Sequence

import numpy as np


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


def swap_classes(planes: np.ndarray, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """Bit-planes with the two classes of every pair exchanged: what a mirror does to left and right."""
    swapped = planes.copy()
    for a, b in pairs:
        plane_a, bit_a, plane_b, bit_b = a // 8, a % 8, b // 8, b % 8
        differs = (planes[..., plane_a] >> bit_a ^ planes[..., plane_b] >> bit_b) & 1
        swapped[..., plane_a] ^= differs << bit_a
        swapped[..., plane_b] ^= differs << bit_b
    return swapped


def covered(planes: np.ndarray) -> np.ndarray:
    """bool[H, W]: where any class of bit-planes uint8[H, W, P] is."""
    found = planes[:, :, 0].copy()
    for number in range(1, planes.shape[2]):  # numpy's reduction over so short an axis takes ten times as long
        found |= planes[:, :, number]
    return found.astype(bool)
