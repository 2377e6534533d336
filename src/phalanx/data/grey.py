"""Stored numbers as 8-bit grey: by their depth, by a window, or by a lookup table of DICOM."""

from typing import NamedTuple

import numpy as np

DEPTHS = (8, 10, 12, 14, 16)  # bits that detectors and converters have


def depth_of(largest: int) -> int:
    """The smallest of 8, 10, 12, 14 or 16 bits that holds a number.

    Raises:
        ValueError: it needs more than 16 bits.
    """
    for bits in DEPTHS:
        if largest < 1 << bits:
            return bits
    raise ValueError(f"pixels up to {largest}, which need more than 16 bits")


def to_eight_bits(values: np.ndarray, largest: int | None = None) -> np.ndarray:
    """Whole numbers from 0 to uint8, from the smallest of 8, 10, 12, 14 or 16 bits that holds all.

    Args:
        largest: the largest that counts; larger ones are clipped. None: of all.

    Raises:
        ValueError: a number needs more than 16 bits.

    >>> to_eight_bits(np.array([0, 2048, 4095]))
    array([  0, 128, 255], dtype=uint8)
    """
    largest = int(values.max()) if largest is None else largest
    bits = depth_of(largest)
    return (np.clip(values, 0, largest) >> (bits - 8)).astype(np.uint8)


def window(values: np.ndarray, centre: float, width: float, function: str = "LINEAR") -> np.ndarray:
    """A window on float64[H, W] as uint8[H, W] (PS3.3 C.11.2.1.2 and C.11.2.1.3), rounded.

    Raises:
        ValueError: an impossible width, or a function that the standard does not have.
    """
    if width <= 0 or (function == "LINEAR" and width < 1):
        raise ValueError(f"WindowWidth {width:g}")
    if function == "SIGMOID":
        with np.errstate(over="ignore"):  # of the exponential: the level is 0
            levels = 1 / (1 + np.exp(-4 * (values - centre) / width))
    elif function in ("LINEAR", "LINEAR_EXACT"):
        if function == "LINEAR":  # in the standard's words: 256 values from 0 have the centre 128 and the width 256
            centre, width = centre - 0.5, width - 1
        levels = (values - centre) / width + 0.5 if width else (values > centre).astype(float)
    else:
        raise ValueError(f"VOILUTFunction {function}")
    return np.rint(np.clip(levels, 0, 1) * 255).astype(np.uint8)


class Table(NamedTuple):
    """A lookup table. ``entries`` uint8 or uint16[N]; ``first``: 16 bits of the value of the first, maybe signed."""

    entries: np.ndarray
    first: int
    bits: int

    @classmethod
    def of(cls, descriptor: list[int], data: "bytes | list[int]", little_endian: bool = True) -> "Table":
        """The table of an item of a LUT sequence, whatever the descriptor claims of its entries' width.

        Entries may be stored in 8 or 16 bits. Of their depth the largest entry decides if the descriptor's cannot be
        right: smaller than the entries, or so large that they stay below half of the range.

        Args:
            descriptor: number of entries (0: 65536), value of the first, bits per entry.
            data: the entries, packed as OW if bytes.

        Raises:
            ValueError: it has another number of entries than the descriptor claims.
        """
        if len(descriptor) != 3:
            raise ValueError(f"a LUTDescriptor of {len(descriptor)} values")
        count = descriptor[0] & 0xFFFF or 65536
        order = "<" if little_endian else ">"
        packed = data if isinstance(data, bytes) else np.array(data, np.int64).astype(f"{order}u2").tobytes()
        if len(packed) == 2 * count:
            entries: np.ndarray = np.frombuffer(packed, f"{order}u2").astype(np.uint16)
        elif len(packed) in (count, count + count % 2):
            entries = np.frombuffer(packed, np.uint8)
            if not little_endian and len(packed) % 2 == 0:  # two to a word
                entries = entries.reshape(-1, 2)[:, ::-1].ravel()
            entries = entries[:count]
        else:
            raise ValueError(f"a table of {len(packed)} bytes, whose LUTDescriptor claims {count} entries")
        held, claimed = depth_of(int(entries.max())), descriptor[2]
        bits = min(claimed, held) if 8 <= claimed <= 16 and int(entries.max()) < 1 << claimed else held
        return cls(entries, descriptor[1] & 0xFFFF, bits)

    def apply(self, values: np.ndarray) -> np.ndarray:
        """uint8 or uint16[H, W]: the entry of each of int64[H, W]; the first or last of those outside.

        A first value of more than 15 bits may be a negative one: whichever reaches more of the values counts.
        """
        firsts = {self.first, self.first - 65536} if self.first >= 32768 else {self.first}
        inside = {first: np.count_nonzero((values >= first) & (values < first + len(self.entries))) for first in firsts}
        first = max(sorted(firsts, reverse=True), key=lambda one: inside[one])
        return self.entries[np.clip(values - first, 0, len(self.entries) - 1)]
