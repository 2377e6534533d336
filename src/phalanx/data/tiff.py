"""The directories of TIFF and BigTIFF files, and of EXIF: whole numbers by tag, and which page is the picture."""

import struct
from enum import IntEnum
from typing import NamedTuple

import numpy as np

MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
MAX_TAGS, MAX_VALUES, MAX_PAGES = 4096, 1 << 20, 256
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 6: 1, 7: 1, 8: 2, 9: 4, 13: 4, 16: 8, 17: 8, 18: 8}  # bytes per value of whole types
COPY = "copy it again"


class Tag(IntEnum):
    """Tags whose values are of use."""

    SUBFILE = 254
    OLD_SUBFILE = 255
    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL = 266
    OFFSETS = 273
    ORIENTATION = 274
    SAMPLES = 277
    ROWS = 278
    COUNTS = 279
    PLANAR = 284
    PREDICTOR = 317
    COLOURS = 320
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILE_OFFSETS = 324
    TILE_COUNTS = 325
    EXTRA = 338
    FORMAT = 339


READ = frozenset(int(tag) for tag in Tag)


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
    """The directory at a place; tags that are of no use here are left out.

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
        if not size or tag not in READ:
            continue
        if number > MAX_VALUES:
            raise Fault(f"has {number} values of tag {tag}")
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
    pictures = [page for page in found if not page.one(Tag.SUBFILE, 0) & 0b101 and page.one(Tag.OLD_SUBFILE, 1) != 2]
    if len(pictures) > 1:
        raise Fault(f"contains {len(pictures)} pages", "save the one to segment as its own file")
    if not found:
        raise Fault("has no page")
    page = (pictures or found)[0]
    if Tag.WIDTH not in page.tags or Tag.HEIGHT not in page.tags:
        raise Fault("has no size")
    orientation = page.one(Tag.ORIENTATION, 1)
    upright = orientation if orientation in range(1, 9) else 1
    return Page(page, _order(content), page.one(Tag.HEIGHT, 0), page.one(Tag.WIDTH, 0), upright)


def _order(content: bytes) -> str:
    return "<" if content[:2] == b"II" else ">"


def _big(content: bytes) -> bool:
    return content[2:4] in (b"+\0", b"\0+")
