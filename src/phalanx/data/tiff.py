"""TIFF and BigTIFF files as grey values: their tags, strips and tiles, whose photometric meaning is decided here.

libtiff's own conversions are not used if they can be avoided: 16-bit files of WhiteIsZero arrive inverted, alpha is
blended, 2 and 4 bits are refused. LZW and PackBits are undone by Pillow as if the data were plain bytes. JPEG, fax and rarer
compressions are left to OpenCV as a whole.
"""

import struct
import zlib
from io import BytesIO
from typing import NamedTuple

import cv2
import numpy as np

MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
MAX_TAGS, MAX_PAGES, MAX_CHUNKS = 4096, 256, 1 << 20
BATCH = 1 << 25  # bytes that Pillow is asked to decompress at a time
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 6: 1, 7: 1, 8: 2, 9: 4, 13: 4, 16: 8, 17: 8, 18: 8}  # bytes per value of whole types
SUBFILE, OLD_SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL = 254, 255, 256, 257, 258, 259, 262, 266
OFFSETS, ORIENTATION, SAMPLES, ROWS, COUNTS, PLANAR, PREDICTOR, COLOURS = 273, 274, 277, 278, 279, 284, 317, 320
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS, EXTRA, FORMAT = 322, 323, 324, 325, 338, 339
NONE, LZW, DEFLATE, OLD_DEFLATE, PACKBITS = 1, 5, 8, 32946, 32773
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE = range(4)
MEANINGS = {4: "a transparency mask", 5: "CMYK colours", 6: "YCbCr colours", 8: "Lab colours", 32803: "raw sensor data"}
FORMATS = {1: "uint", 2: "int", 3: "float"}
COPY, CONVERT = "copy it again", "convert the image to 8 or 16 bits"
DEPTHS = (1, 2, 4, 8, 10, 12, 14, 16, 32)


class Fault(ValueError):
    """What is wrong with an image, without its name, and the remedy if it is not the usual one."""

    def __init__(self, text: str, remedy: str = ""):
        super().__init__(text)
        self.remedy = remedy


class Directory(NamedTuple):
    """The whole numbers of one directory by tag, and the place of the next directory; 0: none."""

    tags: dict[int, tuple[int, ...]]
    following: int

    def one(self, tag: int, default: int) -> int:
        """The first value of a tag."""
        values = self.tags.get(tag)
        return values[0] if values else default


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


class Page(NamedTuple):
    """The picture of a file. ``order`` is ``<`` or ``>``; ``orientation`` is 1..8."""

    tags: Directory
    order: str
    height: int
    width: int
    orientation: int


def first(content: bytes) -> int:
    """The place of the first directory. Raises ValueError or struct.error if the bytes are not a TIFF."""
    if content[:4] not in MARKS:
        raise Fault("has no TIFF mark")
    order = _order(content)
    if not _big(content):
        return int(struct.unpack_from(f"{order}I", content, 4)[0])
    if struct.unpack_from(f"{order}HH", content, 4) != (8, 0):
        raise Fault("a BigTIFF whose offsets do not have 8 bytes")
    return int(struct.unpack_from(f"{order}Q", content, 8)[0])


def directory(content: bytes, place: int) -> Directory:
    """The directory at a place; values that are not whole numbers are left out.

    Raises:
        ValueError or struct.error: it is cut off, or has more than MAX_TAGS tags.
    """
    order, big = _order(content), _big(content)
    count_kind, entry, inline = ("Q", "HHQ8s", 8) if big else ("H", "HHI4s", 4)
    (count,) = struct.unpack_from(order + count_kind, content, place)
    if count > MAX_TAGS:
        raise Fault(f"a directory of {count} tags")
    place += struct.calcsize(order + count_kind)
    tags = {}
    for _ in range(count):
        tag, kind, number, value = struct.unpack_from(order + entry, content, place)
        place += struct.calcsize(order + entry)
        size = SIZES.get(kind, 0) * number
        if not size:
            continue
        begin = 0 if size <= inline else int.from_bytes(value, "little" if order == "<" else "big")
        data = value[:size] if size <= inline else content[begin : begin + size]
        if len(data) < size:
            raise Fault(f"the values of tag {tag} are cut off", COPY)
        kinds = "i" if kind in (6, 8, 9, 17) else "u"
        tags[tag] = tuple(np.frombuffer(data, f"{order}{kinds}{SIZES[kind]}").tolist())
    (following,) = struct.unpack_from(order + ("Q" if big else "I"), content.ljust(place + 8, b"\0"), place)
    return Directory(tags, following)


def page_of(content: bytes) -> Page:
    """The only picture of a file, other than thumbnails and transparency masks.

    Raises:
        ValueError or struct.error: it is damaged, or has several pictures.
    """
    found, seen, place = [], set[int](), first(content)
    while place and place not in seen and len(seen) < MAX_PAGES:
        seen.add(place)
        found.append(directory(content, place))
        place = found[-1].following
    pictures = [page for page in found if not page.one(SUBFILE, 0) & 0b101 and page.one(OLD_SUBFILE, 1) != 2]
    if len(pictures) > 1:
        raise Fault(f"contains {len(pictures)} pages", "save the one to segment as its own file")
    if not found:
        raise Fault("has no page")
    page = (pictures or found)[0]
    if WIDTH not in page.tags or HEIGHT not in page.tags:
        raise Fault("has no size")
    orientation = page.one(ORIENTATION, 1)
    upright = orientation if orientation in range(1, 9) else 1
    return Page(page, _order(content), page.one(HEIGHT, 0), page.one(WIDTH, 0), upright)


def decode(content: bytes) -> Picture:
    """The picture of a file whose size was checked.

    Raises:
        ValueError or struct.error: it is damaged, or of pixels that are not read.
    """
    page = page_of(content)
    tags = page.tags
    compression, meaning = tags.one(COMPRESSION, NONE), tags.one(PHOTOMETRIC, -1)
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
    meaning = tags.one(PHOTOMETRIC, -1)
    if meaning not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE) and not (
        meaning == 6 and tags.one(COMPRESSION, NONE) == 7
    ):
        kind = "no PhotometricInterpretation" if meaning < 0 else f"PhotometricInterpretation {meaning}"
        raise Fault(f"has {MEANINGS.get(meaning, kind)}", "save it in grey")
    samples, extra = tags.one(SAMPLES, 1), len(tags.tags.get(EXTRA, ()))
    colours = 3 if meaning in (RGB, 6) else 1
    if samples != colours + extra or samples > 8:
        raise Fault(f"has {samples} samples per pixel, {extra} of them extra", "save it in grey or RGB")
    depths, formats = set(tags.tags.get(BITS, (1,))), set(tags.tags.get(FORMAT, (1,)))
    bits = min(depths)
    if formats - {1, 4}:
        raise Fault(f"{FORMATS.get(max(formats), 'complex')}{bits} pixels", CONVERT)
    if len(depths) > 1 or bits not in DEPTHS or (colours == 3 and bits == 32) or (meaning == PALETTE and bits > 8):
        raise Fault(f"pixels of {', '.join(map(str, sorted(depths)[:9]))} bits", CONVERT)
    return bits, samples, colours


def _looked_up(indices: np.ndarray, tags: Directory, bits: int) -> np.ndarray:
    """Indices [H, W] by the file's palette, as uint8[H, W, 3]."""
    palette = np.array(tags.tags.get(COLOURS, ()), np.int64)
    if len(palette) != 3 << bits:
        raise Fault(f"has a palette of {len(palette)} values")
    if palette.max(initial=0) > 255:  # some write 8 bits, against the specification
        palette = palette >> 8
    return palette.reshape(3, -1).T.astype(np.uint8)[indices]


def _samples(content: bytes, page: Page, bits: int, samples: int) -> np.ndarray:
    """All samples of a page as unsigned numbers [H, W, samples] in the machine's byte order."""
    tags, height, width = page.tags, page.height, page.width
    tiled = TILE_OFFSETS in tags.tags or TILE_WIDTH in tags.tags
    across, down = (tags.one(TILE_WIDTH, 0), tags.one(TILE_HEIGHT, 0)) if tiled else (width, tags.one(ROWS, height))
    down = down if tiled else min(down, height)
    if across < 1 or down < 1 or across > 2 * width + 4096 or down > 2 * height + 4096:
        raise Fault(f"has strips or tiles of {down} x {across} pixels")
    apart = tags.one(PLANAR, 1) == 2 and samples > 1
    layers, each = (samples, 1) if apart else (1, samples)
    columns, rows = -(-width // across), -(-height // down)
    offsets = tags.tags.get(TILE_OFFSETS if tiled else OFFSETS, ())
    counts = tags.tags.get(TILE_COUNTS if tiled else COUNTS, ())
    if len(offsets) != layers * rows * columns or (counts and len(counts) != len(offsets)) or rows * columns > MAX_CHUNKS:
        raise Fault(f"has {len(offsets)} strips or tiles; its size needs {layers * rows * columns}", COPY)
    line = -(-across * each * bits // 8)  # bytes
    last = down if tiled else height - (rows - 1) * down
    heights = [last if i // columns % rows == rows - 1 else down for i in range(len(offsets))]
    if not counts:
        if tags.one(COMPRESSION, NONE) != NONE:
            raise Fault("has no lengths of its strips")
        counts = tuple(line * high for high in heights)
    chunks = [content[begin : begin + length] for begin, length in zip(offsets, counts, strict=True)]
    if any(len(chunk) < length for chunk, length in zip(chunks, counts, strict=True)):
        raise Fault("is cut off", COPY)
    plain = _decompressed(chunks, heights, line, tags)
    result = np.empty((height, width, samples), _kind(bits))
    for number, (data, high) in enumerate(zip(plain, heights, strict=True)):
        layer, at = divmod(number, rows * columns)
        top, left = at // columns * down, at % columns * across
        values = _numbers(data, (high, across, each), bits, page.order, tags.one(PREDICTOR, 1))
        part = result[top : top + high, left : left + across]
        part[:, :, layer : layer + each] = values[: part.shape[0], : part.shape[1]]
    return result


def _decompressed(chunks: list[bytes], heights: list[int], line: int, tags: Directory) -> list[bytes]:
    """The bytes of each strip or tile, of its height times ``line``."""
    compression = tags.one(COMPRESSION, NONE)
    if tags.one(FILL, 1) == 2:
        chunks = [np.packbits(np.unpackbits(np.frombuffer(chunk, np.uint8)).reshape(-1, 8)[:, ::-1]).tobytes() for chunk in chunks]
    if compression in (LZW, PACKBITS):
        return _by_pillow(chunks, heights, line, compression)
    found = []
    for chunk, high in zip(chunks, heights, strict=True):
        size = high * line
        if compression != NONE:
            try:
                chunk = zlib.decompressobj().decompress(chunk, size)
            except zlib.error as error:
                raise Fault(f"its compressed data is damaged ({error})", COPY) from None
        if len(chunk) < size:
            raise Fault("is cut off", COPY)
        found.append(chunk[:size])
    return found


def _by_pillow(chunks: list[bytes], heights: list[int], line: int, compression: int) -> list[bytes]:
    """Strips or tiles decompressed as those of a picture of ``line`` grey bytes per row, several at a time."""
    from PIL import Image

    found: list[bytes] = []
    at = 0
    while at < len(chunks):
        size = max(1, BATCH // max(1, line * heights[at]))
        until = at + 1  # all but the last of a picture must have the height of the first
        while until < min(len(chunks), at + size) and heights[until - 1] == heights[at]:
            until += 1
        rows = sum(heights[at:until])
        with Image.open(BytesIO(_grey_file(chunks[at:until], heights[at], rows, line, compression))) as image:
            try:
                data = image.tobytes()
            except (OSError, SyntaxError) as error:
                raise Fault(f"its compressed data is damaged or cut off ({error})", COPY) from None
        for high in heights[at:until]:
            found.append(data[: high * line])
            data = data[high * line :]
        at = until
    return found


def _grey_file(chunks: list[bytes], strip: int, rows: int, line: int, compression: int) -> bytes:
    """A TIFF of uint8[rows, line] in strips that are compressed already."""
    tags: dict[int, list[int]] = {
        WIDTH: [line], HEIGHT: [rows], BITS: [8], COMPRESSION: [compression], PHOTOMETRIC: [BLACK_IS_ZERO],
        OFFSETS: [], SAMPLES: [1], ROWS: [strip], COUNTS: [len(chunk) for chunk in chunks],
    }  # fmt: skip
    begin = 8 + 2 + 12 * len(tags) + 4
    lists = 8 * len(chunks) if len(chunks) > 1 else 0
    place = begin + lists
    for chunk in chunks:
        tags[OFFSETS].append(place)
        place += len(chunk)
    out, behind = [struct.pack("<2sHIH", b"II", 42, 8, len(tags))], b""
    for tag, values in tags.items():
        packed = struct.pack(f"<{len(values)}I", *values)
        if len(packed) > 4:
            packed, behind = struct.pack("<I", begin + len(behind)), behind + packed
        out.append(struct.pack("<HHI", tag, 4, len(values)) + packed)
    return b"".join([*out, b"\0\0\0\0", behind, *chunks])


def _numbers(data: bytes, shape: tuple[int, int, int], bits: int, order: str, predictor: int) -> np.ndarray:
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


def _order(content: bytes) -> str:
    return "<" if content[:2] == b"II" else ">"


def _big(content: bytes) -> bool:
    return content[2:4] in (b"+\0", b"\0+")
