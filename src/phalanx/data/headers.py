"""What the head of an image file states: kind, size, orientation, number of pictures; read before anything is decoded.

A header may claim any size, so it is checked against MAX_SIDE and MAX_PIXELS before memory is asked for. What follows
the end of a PNG does not count, as in other readers; `excess` is its length, which `phalanx check` notes.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ..errors import DataError
from . import tiff
from .tiff import Fault

MAX_SIDE = 1 << 15  # pixels of height or width: a non-square image is squared on the way to its grid
MAX_PIXELS = 1 << 28  # of an image; radiographs have up to 10^8
MAX_CHUNKS = 1 << 18  # of a PNG
NORMAL, TURNED = range(1, 9), range(5, 9)  # values of an orientation, and those that exchange height and width
REMEDY = "restore it, or remove it with its annotation"
KNOWN = "PNG, JPEG, TIFF, BMP, WebP or DICOM"
OTHERS = {  # first bytes, from an offset, of kinds that are not read
    "GIF": (0, b"GIF8"),
    "JPEG 2000": (0, b"\x00\x00\x00\x0cjP  "),
    "JPEG 2000 ": (0, b"\xff\x4f\xff\x51"),
    "JPEG XL": (0, b"\x00\x00\x00\x0cJXL "),
    "HEIF or AVIF": (4, b"ftyp"),
    "PDF": (0, b"%PDF"),
    "gzip": (0, b"\x1f\x8b"),
    "zip": (0, b"PK\x03\x04"),
    "NIfTI": (344, b"n+1\0"),
    "NumPy": (0, b"\x93NUMPY"),
}


class Header(NamedTuple):
    """An image file as it is stored.

    Attributes:
        kind: PNG, JPEG, TIFF, BMP or WebP.
        height: in pixels, before the image is turned.
        width: likewise.
        orientation: of EXIF or TIFF, 1..8; 1 is upright.
        excess: bytes after the end of a PNG.
    """

    kind: str
    height: int
    width: int
    orientation: int = 1
    excess: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the upright image."""
        return (self.width, self.height) if self.orientation in TURNED else (self.height, self.width)


def header(path: Path, content: bytes) -> Header:
    """The header of an image file other than DICOM.

    Raises:
        DataError: it is of a kind that is not read, is cut off, contains several pictures, or is too large.
    """
    with faults_of(path):
        found = _read(content)
    if found is None:
        kind = next((kind for kind, (at, mark) in OTHERS.items() if content[at : at + len(mark)] == mark), None)
        if kind:
            raise DataError(f"{path}: is {kind.strip()}, which is not read; save it as PNG (read are {KNOWN})")
        raise DataError(f"{path}: not a readable image; {REMEDY}")
    check_size(path, found.height, found.width)
    return found


@contextmanager
def faults_of(path: Path) -> Iterator[None]:
    """Raises what is wrong with the content of an image file, or makes its decoder fail, as a DataError."""
    try:
        yield
    except Fault as error:
        raise DataError(f"{path}: {error}; {error.remedy or REMEDY}") from None
    except (struct.error, IndexError):
        raise DataError(f"{path}: its header is cut off; {REMEDY}") from None
    except (ValueError, OverflowError, cv2.error):
        raise DataError(f"{path}: not a readable image; {REMEDY}") from None
    except MemoryError:
        raise DataError(f"{path}: does not fit into memory; save the image smaller") from None


def check_size(path: Path, height: int, width: int) -> None:
    """Raises DataError if an image of this size has no pixels, or more than are read."""
    if height < 1 or width < 1:
        raise DataError(f"{path}: its header claims {height} x {width} pixels; {REMEDY}")
    if height > MAX_SIDE or width > MAX_SIDE or height * width > MAX_PIXELS:
        raise DataError(
            f"{path}: its header claims {height} x {width} pixels; more than MAX_SIDE={MAX_SIDE} per side or "
            f"MAX_PIXELS={MAX_PIXELS} are not read. Save the image smaller, or remove it with its annotation"
        )


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """An image [H, W, ...] as its orientation (1..8) says it is to be seen: turned and mirrored like a viewer does.

    >>> upright(np.array([[1, 2, 3], [4, 5, 6]]), 6).tolist()
    [[4, 1], [5, 2], [6, 3]]
    """
    if orientation in TURNED:
        image = image.swapaxes(0, 1)
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    return image[rows, columns]


def _read(content: bytes) -> Header | None:
    if content[:8] == b"\x89PNG\r\n\x1a\n":
        return _png(content)
    if content[:3] == b"\xff\xd8\xff":
        return _jpeg(content)
    if content[:4] in tiff.MARKS:
        page = tiff.page_of(content)
        return Header("TIFF", page.height, page.width, page.orientation)
    if content[:2] == b"BM":
        return _bmp(content)
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return _webp(content)
    return None


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Type, begin and end of each chunk's data, up to IEND."""
    place, kind, number = 8, b"", 0
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", content, place)
        begin, end = place + 8, place + 8 + length
        number += 1
        if end + 4 > len(content):
            raise struct.error
        if number > MAX_CHUNKS:
            raise Fault(f"has more than {MAX_CHUNKS} chunks")
        if kind in (b"IHDR", b"PLTE", b"IDAT", b"IEND"):
            (sum_,) = struct.unpack_from(">I", content, end)
            if zlib.crc32(memoryview(content)[place + 4 : end]) != sum_:
                raise Fault(f"is damaged between the bytes {place} and {end + 4}", tiff.COPY)
        yield kind, begin, end
        place = end + 4


def _png(content: bytes) -> Header:
    height = width = end = 0
    orientation, pixels = 1, False
    try:
        for kind, begin, end in _png_chunks(content):
            if begin == 16:
                if kind != b"IHDR" or end - begin != 13:
                    raise Fault("has no size at its beginning")
                width, height = struct.unpack_from(">II", content, begin)
            elif kind == b"eXIf":
                orientation = exif_orientation(content[begin:end])
            elif kind == b"acTL" and (frames := struct.unpack_from(">I", content, begin)[0]) > 1:
                raise Fault(f"is an animation of {frames} pictures", "save the one to segment as its own file")
            pixels |= kind == b"IDAT"
    except struct.error:
        raise Fault("the PNG is cut off", tiff.COPY) from None
    if not pixels:
        raise Fault("has no pixels")
    return Header("PNG", height, width, orientation, len(content) - end - 4)


def _jpeg(content: bytes) -> Header:
    place, orientation = 2, 1
    while True:
        if content[place] != 0xFF:
            raise Fault(f"has no marker at byte {place}")
        mark = content[place + 1]
        if mark == 0xFF or mark in (0x01, *range(0xD0, 0xD9)):  # fill bytes, or without a length
            place += 1 if mark == 0xFF else 2
            continue
        if mark in (0xD9, 0xDA):
            raise Fault("has no size before its pixels")
        (length,) = struct.unpack_from(">H", content, place + 2)
        if mark in range(0xC0, 0xD0) and mark not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", content, place + 5)
            return Header("JPEG", height, width, orientation)
        if mark == 0xE1 and content[place + 4 : place + 10] == b"Exif\0\0" and orientation == 1:
            orientation = exif_orientation(content[place + 10 : place + 2 + length])
        place += 2 + max(2, length)


def _bmp(content: bytes) -> Header:
    (size,) = struct.unpack_from("<I", content, 14)
    width, height = struct.unpack_from("<HH" if size == 12 else "<ii", content, 18)
    if width < 0 or height == -(1 << 31):
        raise Fault(f"has a size of {height} x {width} pixels")
    return Header("BMP", abs(height), width)


def _webp(content: bytes) -> Header:
    place, shape, orientation, frames = 12, (0, 0), 1, 0
    while place + 8 <= len(content) and frames <= MAX_CHUNKS:
        kind, length = struct.unpack_from("<4sI", content, place)
        data = content[place + 8 : place + 18]
        if kind == b"VP8X":
            shape = 1 + int.from_bytes(data[7:10], "little"), 1 + int.from_bytes(data[4:7], "little")
        elif kind == b"VP8 " and shape == (0, 0):
            width, height = struct.unpack_from("<HH", data, 6)
            shape = height & 0x3FFF, width & 0x3FFF
        elif kind == b"VP8L" and shape == (0, 0):
            bits = int.from_bytes(data[1:5], "little")
            shape = 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
        elif kind == b"EXIF":
            begin = place + 8 + (6 if data[:6] == b"Exif\0\0" else 0)
            orientation = exif_orientation(content[begin : place + 8 + length])
        frames += kind == b"ANMF"
        place += 8 + length + length % 2
    if frames > 1:
        raise Fault(f"is an animation of {frames} pictures", "save the one to segment as its own file")
    return Header("WebP", *shape, orientation)


def exif_orientation(block: bytes) -> int:
    """The orientation that a block of EXIF states; 1 if there is none, or it is damaged."""
    try:
        values = tiff.directory(block, tiff.first(block)).tags.get(tiff.Tag.ORIENTATION, (1,))
    except (ValueError, struct.error, IndexError):
        return 1
    return values[0] if len(values) == 1 and values[0] in NORMAL else 1
