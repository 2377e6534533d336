"""The stored values of a DICOM image, and their grey levels.

The rule: modality rescale first (slope and intercept, or its table), then the file's VOI table or first window if
it has one (PS3.3 C.11.2), which becomes 0..255. Without either, the smallest of 8, 10, 12, 14 or 16 bits that holds
the brightest stored value becomes 0..255, as with a deep PNG; negative values count from the smallest in the image.
There a slope and intercept would only scale and shift what is rescaled anyway, so only the slope's sign matters.
MONOCHROME1, whose smallest value is white, is inverted. Padding decides none of this, and becomes black at the end.
"""

from typing import Any

import numpy as np

from .grey import Table, to_eight_bits, window

DEFLATED = "1.2.840.10008.1.2.1.99"
ITEM = b"\xfe\xff\x00\xe0"  # what compressed pixels begin with
OVERLAYS = range(0x6000, 0x6020, 2)  # groups of overlays


class Contradiction(ValueError):
    """Tags that contradict each other or the pixels."""


def line(error: Exception) -> str:
    """The text of an error in one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def whole(image: Any, name: str) -> int | None:
    """The whole number of a tag, if it has one."""
    value = image.get(name)
    if value is None or value == "":
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        raise Contradiction(f"{name} is not one whole number") from None


def stored_values(image: Any) -> np.ndarray:
    """The stored values, signed if they are, or colours as RGB uint8 or uint16[H, W, 3]."""
    import pydicom

    syntax = image.file_meta.TransferSyntaxUID
    native = not syntax.is_compressed or syntax == DEFLATED
    allocated, bits, high, signed = (
        whole(image, name) for name in ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")
    )
    if allocated is None or signed not in (0, 1):
        raise Contradiction("has no BitsAllocated or PixelRepresentation")
    if bits is None:
        bits = image.BitsStored = allocated if high is None else high + 1
    high = bits - 1 if high is None else high
    if not bits - 1 <= high < allocated or bits < 1:
        raise Contradiction(f"BitsAllocated {allocated}, BitsStored {bits} and HighBit {high} contradict each other")
    if native:
        _check_length(image, allocated)
    if image.SamplesPerPixel > 1:
        if high != bits - 1:
            raise Contradiction(f"colours of BitsStored {bits} and HighBit {high}")
        return pydicom.pixels.pixel_array(image, index=0)
    if allocated == 1 or not (native or syntax == pydicom.uid.RLELossless):
        return pydicom.pixels.pixel_array(image, index=0)
    words = pydicom.pixels.pixel_array(image, index=0, raw=True, correct_unused_bits=False)
    return _unpacked(image, words, bits, high, bool(signed))


def _check_length(image: Any, allocated: int) -> None:
    """Checks that native pixels have the length that the tags claim, but for padding of less than a row or column."""
    data = image.PixelData
    if data[:4] == ITEM:
        raise Contradiction("its pixels are compressed, against its TransferSyntaxUID")
    rows, columns = int(image.Rows), int(image.Columns)
    sizes = image.SamplesPerPixel * allocated / 8
    if image.PhotometricInterpretation == "YBR_FULL_422":
        sizes *= 2 / 3
    spare = len(data) - rows * columns * sizes
    if spare > 2 and spare >= min(rows, columns) * sizes:
        raise Contradiction(
            f"has {len(data)} bytes of pixels; {rows} x {columns} of {allocated} bits would be "
            f"{round(rows * columns * sizes)}"
        )


def _unpacked(image: Any, words: Any, bits: int, high: int, signed: bool) -> np.ndarray:
    """Stored values of ``bits`` bits up to bit ``high`` of words [H, W], as int32 or int64[H, W].

    Raises:
        Contradiction: bits above are set that are neither a sign, nor padding, nor of an overlay.
    """
    allocated = 8 * words.dtype.itemsize
    raw: Any = words.view(f"{words.dtype.byteorder}u{words.dtype.itemsize}").astype(
        np.int64 if allocated > 16 else np.int32
    )
    values = _signed(raw >> (high - bits + 1) & (1 << bits) - 1, bits, signed)
    above, extended = raw >> (high + 1), (1 << (allocated - high - 1)) - 1
    if not above.any():
        return values
    padding = _outside(image, _signed(raw, allocated, signed), bits, signed)
    negative = (values < 0) & ~padding
    fits = (above == 0) | padding
    if signed and (above[negative] != 0).any():
        fits = above == np.where(negative, extended, 0)
    if not (fits | padding).all() and not any(image.get((group, 0x0102)) is not None for group in OVERLAYS):
        raise Contradiction(f"has pixels of more than BitsStored {bits} bits")
    return np.where(padding, _signed(raw, allocated, signed), values)


def _signed(values: np.ndarray, bits: int, signed: bool) -> np.ndarray:
    """Numbers of ``bits`` bits as two's complement, if they are signed."""
    return np.where(values >> (bits - 1) & 1, values - (1 << bits), values) if signed else values


def _outside(image: Any, values: np.ndarray, bits: int, signed: bool) -> np.ndarray:
    """bool[H, W]: where whole words are the padding value, if that has more bits than those that are stored."""
    ends = _padding_ends(image)
    lowest = -(1 << (bits - 1)) if signed else 0
    if not ends or lowest <= ends[0] < lowest + (1 << bits):
        return np.zeros(values.shape, bool)
    return (values >= min(ends)) & (values <= max(ends))


def _padding_ends(image: Any) -> list[int]:
    """PixelPaddingValue and, if there is one, PixelPaddingRangeLimit, as signed as the pixels; empty without."""
    ends = [end for name in ("PixelPaddingValue", "PixelPaddingRangeLimit") if (end := whole(image, name)) is not None]
    if not ends or image.get("PixelPaddingValue") in (None, ""):
        return []
    if image.PixelRepresentation and image.BitsAllocated <= 16:
        return [end - (1 << 16) if end >= 1 << 15 else end for end in ends]
    return ends if image.PixelRepresentation else [end % (1 << 16) if end < 0 else end for end in ends]


def _padding(image: Any, values: np.ndarray) -> np.ndarray:
    """bool[H, W]: where stored values are padding."""
    ends = _padding_ends(image)
    return (values >= min(ends)) & (values <= max(ends)) if ends else np.zeros(values.shape, bool)


def grey_of(image: Any, stored: np.ndarray) -> np.ndarray:
    """Stored values [H, W] as uint8[H, W] by the rule above."""
    stored = stored.astype(np.int64 if stored.dtype.itemsize > 2 else np.int32)
    padding = _padding(image, stored)
    if padding.all():
        return np.zeros(stored.shape, np.uint8)
    counted = stored[~padding]
    grey = _windowed(image, np.clip(stored, counted.min(), counted.max()))
    if image.PhotometricInterpretation == "MONOCHROME1":
        grey = 255 - grey
    grey[padding] = 0
    return grey


def _windowed(image: Any, stored: np.ndarray) -> np.ndarray:
    """Stored values without padding as uint8[H, W]; MONOCHROME1 not yet inverted."""
    slope, intercept = (_number(image, name) for name in ("RescaleSlope", "RescaleIntercept"))
    slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
    if image.get("VOILUTSequence"):
        table = _table(image, image.VOILUTSequence[0])
        rescaled = np.rint(_modality(image, stored, slope, intercept)).astype(np.int64)
        return (table.apply(rescaled) >> (table.bits - 8)).astype(np.uint8)
    centre, width = (_number(image, name) for name in ("WindowCenter", "WindowWidth"))
    if (centre is None) != (width is None):
        raise ValueError("WindowCenter without WindowWidth, or the reverse")
    if centre is not None and width is not None:
        function = str(image.get("VOILUTFunction") or "LINEAR").upper()
        return window(_modality(image, stored, slope, intercept), centre, width, function)
    if image.get("ModalityLUTSequence"):
        return to_eight_bits(_table(image, image.ModalityLUTSequence[0]).apply(stored))
    grey = to_eight_bits(stored - min(0, int(stored.min())))
    return 255 - grey if slope < 0 else grey


def _modality(image: Any, stored: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """float64[H, W]: stored values by the modality's table, or its slope and intercept."""
    if image.get("ModalityLUTSequence"):
        return _table(image, image.ModalityLUTSequence[0]).apply(stored).astype(float)
    if slope == 0:
        raise ValueError("RescaleSlope 0")
    return stored * slope + intercept


def _table(image: Any, item: Any) -> Table:
    """The lookup table of an item of a sequence."""
    descriptor, data = item.get("LUTDescriptor"), item.get("LUTData")
    if isinstance(descriptor, bytes):
        order = "<u2" if image.file_meta.TransferSyntaxUID.is_little_endian else ">u2"
        descriptor = np.frombuffer(descriptor, order).tolist()
    if descriptor is None or data is None or isinstance(descriptor, int):
        raise ValueError("a lookup table without LUTDescriptor or LUTData")
    values = data if isinstance(data, bytes) else [int(one) for one in (data if hasattr(data, "__iter__") else [data])]
    little = bool(image.file_meta.TransferSyntaxUID.is_little_endian)
    return Table.of([int(one) for one in descriptor], values, little)


def _number(image: Any, name: str) -> float | None:
    """The first number of a tag, if it has any. Raises ValueError if it is not finite."""
    value = image.get(name)
    if value is None or value == "":
        return None
    if hasattr(value, "__iter__") and not isinstance(value, str):
        value = next(iter(value), None)
        if value is None or value == "":
            return None
    number = float(value)
    if not np.isfinite(number):
        raise ValueError(f"{name} {number}")
    return number
