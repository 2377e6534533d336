"""The pixels of TIFF files, whose photometric meaning is decided here.

libtiff's own conversions are not used if they can be avoided: 16-bit files of WhiteIsZero arrive inverted, alpha is
blended, 2 and 4 bits are refused. LZW and PackBits are undone by Pillow as if the data were plain bytes. JPEG, fax and
rarer compressions are left to OpenCV as a whole.
"""

import struct
import zlib
from collections.abc import Sequence
from io import BytesIO
from typing import NamedTuple

import cv2
import numpy as np

from .tiff import COPY, Directory, Fault, Page, Tag, page_of

BATCH = 1 << 25  # bytes that Pillow is asked to decompress at a time
MAX_PARTS = 1 << 17  # strips or tiles
MAX_OVERLAP = 16  # times the file's bytes: the sum of its parts
NONE, LZW, DEFLATE, OLD_DEFLATE, PACKBITS = 1, 5, 8, 32946, 32773
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE = range(4)
MEANINGS = {4: "a transparency mask", 5: "CMYK colours", 6: "YCbCr colours", 8: "Lab colours", 32803: "raw sensor data"}
FORMATS = {1: "uint", 2: "int", 3: "float"}
CONVERT = "convert the image to 8 or 16 bits"
DEPTHS = (1, 2, 4, 8, 10, 12, 14, 16, 32)


class Picture(NamedTuple):
    """What a file contains.

    Attributes:
        pixels: uint8, uint16 or uint32[H, W], or uint8 or uint16[H, W, 3] in RGB.
        inverted: whether 255 minus its 8 bits is the picture.
        turned: whether the file's orientation is already applied.
    """

    pixels: np.ndarray
    inverted: bool = False
    turned: bool = False


def decode(content: bytes) -> Picture:
    """The picture of a file whose size was checked.

    Raises:
        ValueError or struct.error: it is damaged, or of pixels that are not read.
    """
    page = page_of(content)
    tags = page.tags
    compression, meaning = tags.one(Tag.COMPRESSION, NONE), tags.one(Tag.PHOTOMETRIC, -1)
    bits, samples, colours = _layout(tags)
    if compression not in (NONE, LZW, DEFLATE, OLD_DEFLATE, PACKBITS):
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        if image is None or image.dtype != np.uint8:
            raise Fault(f"its compression {compression} cannot be decoded here, or it is damaged", "save it without")
        return Picture(image[:, :, 2::-1] if image.ndim == 3 else image, turned=True)
    values = _samples(content, page, bits, samples)
    if meaning == PALETTE:
        return Picture(_looked_up(values[:, :, 0], tags, bits))
    if bits < 8:
        values = values * np.uint8(255 // ((1 << bits) - 1))
    return Picture(values[:, :, :3] if colours == 3 else values[:, :, 0], inverted=meaning == WHITE_IS_ZERO)


def _layout(tags: Directory) -> tuple[int, int, int]:
    """Bits, samples and colours of a pixel, once they are those of a picture that is read."""
    meaning = tags.one(Tag.PHOTOMETRIC, -1)
    if meaning not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE) and not (
        meaning == 6 and tags.one(Tag.COMPRESSION, NONE) == 7
    ):
        kind = "no PhotometricInterpretation" if meaning < 0 else f"PhotometricInterpretation {meaning}"
        raise Fault(f"has {MEANINGS.get(meaning, kind)}", "save it in grey")
    samples, extra = tags.one(Tag.SAMPLES, 1), len(tags.tags.get(Tag.EXTRA, ()))
    colours = 3 if meaning in (RGB, 6) else 1
    if samples != colours + extra or samples > 8:
        raise Fault(f"has {samples} samples per pixel, {extra} of them extra", "save it in grey or RGB")
    depths, formats = set(tags.tags.get(Tag.BITS, (1,))), set(tags.tags.get(Tag.FORMAT, (1,)))
    bits = min(depths)
    if formats - {1, 4}:
        raise Fault(f"{FORMATS.get(max(formats), 'complex')}{bits} pixels", CONVERT)
    if len(depths) > 1 or bits not in DEPTHS or (colours == 3 and bits == 32) or (meaning == PALETTE and bits > 8):
        raise Fault(f"pixels of {', '.join(map(str, sorted(depths)[:9]))} bits", CONVERT)
    return bits, samples, colours


def _looked_up(indices: np.ndarray, tags: Directory, bits: int) -> np.ndarray:
    """Indices [H, W] by the file's palette, as uint8[H, W, 3]."""
    palette = np.array(tags.tags.get(Tag.COLOURS, ()), np.int64)
    if len(palette) != 3 << bits:
        raise Fault(f"has a palette of {len(palette)} values")
    if palette.max(initial=0) > 255:  # some write 8 bits, against the specification
        palette = palette >> 8
    return palette.reshape(3, -1).T.astype(np.uint8)[indices]


def _samples(content: bytes, page: Page, bits: int, samples: int) -> np.ndarray:
    """All samples of a page as unsigned numbers [H, W, samples] in the machine's byte order."""
    tags, height, width = page.tags, page.height, page.width
    tiled = Tag.TILE_OFFSETS in tags.tags or Tag.TILE_WIDTH in tags.tags
    if tiled:
        across, down = tags.one(Tag.TILE_WIDTH, 0), tags.one(Tag.TILE_HEIGHT, 0)
    else:
        across, down = width, min(tags.one(Tag.ROWS, height), height)
    if across < 1 or down < 1 or across > 2 * width + 4096 or down > 2 * height + 4096:
        raise Fault(f"has strips or tiles of {down} x {across} pixels")
    apart = tags.one(Tag.PLANAR, 1) == 2 and samples > 1
    layers, each = (samples, 1) if apart else (1, samples)
    columns, rows = -(-width // across), -(-height // down)
    offsets = tags.tags.get(Tag.TILE_OFFSETS if tiled else Tag.OFFSETS, ())
    counts = tags.tags.get(Tag.TILE_COUNTS if tiled else Tag.COUNTS, ())
    if len(offsets) != layers * rows * columns or (counts and len(counts) != len(offsets)) or len(offsets) > MAX_PARTS:
        raise Fault(f"has {len(offsets)} strips or tiles; its size needs {layers * rows * columns}", COPY)
    line = -(-across * each * bits // 8)  # bytes
    last = down if tiled else height - (rows - 1) * down
    heights = [last if i // columns % rows == rows - 1 else down for i in range(len(offsets))]
    if not counts:
        if tags.one(Tag.COMPRESSION, NONE) != NONE:
            raise Fault("has no lengths of its strips")
        counts = tuple(line * high for high in heights)
    whole = memoryview(content)
    chunks = [whole[begin : begin + length] for begin, length in zip(offsets, counts, strict=True)]
    if any(len(chunk) < length for chunk, length in zip(chunks, counts, strict=True)):
        raise Fault("is cut off", COPY)
    if sum(counts) > MAX_OVERLAP * len(content):  # some writers store equal tiles once
        raise Fault("has strips or tiles in each other's place", COPY)
    plain = _decompressed(chunks, heights, line, tags)
    differs = tags.one(Tag.COMPRESSION, NONE) in (LZW, DEFLATE, OLD_DEFLATE)  # to others the tag means nothing
    predictor = tags.one(Tag.PREDICTOR, 1) if differs else 1
    result = np.empty((height, width, samples), _kind(bits))
    for number, (data, high) in enumerate(zip(plain, heights, strict=True)):
        layer, at = divmod(number, rows * columns)
        top, left = at // columns * down, at % columns * across
        values = _numbers(data, (high, across, each), bits, page.order, predictor)
        part = result[top : top + high, left : left + across]
        part[:, :, layer : layer + each] = values[: part.shape[0], : part.shape[1]]
    return result


def _decompressed(
    chunks: Sequence[bytes | memoryview], heights: list[int], line: int, tags: Directory
) -> Sequence[bytes | memoryview]:
    """The bytes of each strip or tile, of its height times ``line``."""
    compression = tags.one(Tag.COMPRESSION, NONE)
    if tags.one(Tag.FILL, 1) == 2:
        reverse = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)[:, ::-1], axis=1)[:, 0]
        chunks = [reverse[np.frombuffer(chunk, np.uint8)].tobytes() for chunk in chunks]
    if compression in (LZW, PACKBITS):
        return _by_pillow(chunks, heights, line, compression)
    found = []
    for chunk, high in zip(chunks, heights, strict=True):
        data, size = chunk, high * line
        if compression != NONE:
            try:
                data = zlib.decompressobj().decompress(chunk, size)
            except zlib.error as error:
                raise Fault(f"its compressed data is damaged ({error})", COPY) from None
        if len(data) < size:
            raise Fault("is cut off", COPY)
        found.append(data[:size])
    return found


def _by_pillow(
    chunks: Sequence[bytes | memoryview], heights: list[int], line: int, compression: int
) -> list[memoryview]:
    """Strips or tiles decompressed as those of a picture of ``line`` grey bytes per row, several at a time."""
    from PIL.TiffImagePlugin import TiffImageFile  # not Image.open, whose limit is lower than ours

    found: list[memoryview] = []
    while len(found) < len(chunks):
        at = until = len(found)
        size, high = 0, heights[at]
        while until < len(chunks) and size < BATCH and (until == at or heights[until - 1] == high):
            size += max(len(chunks[until]), line * heights[until])
            until += 1  # all but the last of a picture must have the height of the first
        rows = sum(heights[at:until])
        try:
            with TiffImageFile(BytesIO(_grey_file(chunks[at:until], high, rows, line, compression))) as image:
                data = memoryview(image.tobytes())
        except (OSError, SyntaxError, ValueError) as error:
            raise Fault(f"its compressed data is damaged or cut off ({error})", COPY) from None
        begin = 0
        for high in heights[at:until]:
            found.append(data[begin : begin + high * line])
            begin += high * line
    return found


def _grey_file(chunks: Sequence[bytes | memoryview], strip: int, rows: int, line: int, compression: int) -> bytes:
    """A TIFF of uint8[rows, line] in strips that are compressed already."""
    tags: dict[int, list[int]] = {
        Tag.WIDTH: [line],
        Tag.HEIGHT: [rows],
        Tag.BITS: [8],
        Tag.COMPRESSION: [compression],
        Tag.PHOTOMETRIC: [BLACK_IS_ZERO],
        Tag.OFFSETS: [],
        Tag.SAMPLES: [1],
        Tag.ROWS: [strip],
        Tag.COUNTS: [len(chunk) for chunk in chunks],
    }
    begin = 8 + 2 + 12 * len(tags) + 4
    lists = 8 * len(chunks) if len(chunks) > 1 else 0
    place = begin + lists
    for chunk in chunks:
        tags[Tag.OFFSETS].append(place)
        place += len(chunk)
    out, behind = [struct.pack("<2sHIH", b"II", 42, 8, len(tags))], b""
    for tag, values in tags.items():
        packed = struct.pack(f"<{len(values)}I", *values)
        if len(packed) > 4:
            packed, behind = struct.pack("<I", begin + len(behind)), behind + packed
        out.append(struct.pack("<HHI", tag, 4, len(values)) + packed)
    return b"".join([*out, b"\0\0\0\0", behind, *chunks])


def _numbers(
    data: bytes | memoryview, shape: tuple[int, int, int], bits: int, order: str, predictor: int
) -> np.ndarray:
    """The bytes of a strip or tile as numbers [rows, columns, samples]."""
    rows, columns, samples = shape
    if predictor not in (1, 2):
        raise Fault(f"has the predictor {predictor}", "save it without")
    if bits in (8, 16, 32):
        values = np.frombuffer(data, f"{order}u{bits // 8}").astype(_kind(bits), copy=False).reshape(shape)
        return np.cumsum(values, axis=1, dtype=values.dtype) if predictor == 2 else values
    if predictor == 2:
        raise Fault(f"has a predictor of {bits} bits", "save it without")
    raw = np.unpackbits(np.frombuffer(data, np.uint8).reshape(rows, -1), axis=1)[:, : columns * samples * bits]
    values = np.zeros((rows, columns * samples), _kind(bits))
    for bit in range(bits):
        values = values << 1 | raw[:, bit::bits]
    return values.reshape(shape)


def _kind(bits: int) -> np.dtype:
    return np.dtype("u1" if bits <= 8 else "u2" if bits <= 16 else "u4")
