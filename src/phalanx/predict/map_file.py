"""One image's probability maps in a file: compressed, in 256 steps, cropped to content, with metadata and a digest."""

import hashlib
import json
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import OutputError, brief, one_line
from ..runtime.files import write_bytes
from ..runtime.provenance import digest
from ..runtime.reading import (
    as_mapping,
    as_name,
    as_names,
    as_real,
    as_whole,
    decode,
    fault,
    parse_json,
    read_bytes,
)
from ..runtime.sidecar import checked_size
from .maps import EMPTY, Box, ProbabilityMaps, Size, box_of

FORMAT = "phalanx-map-2"
EARLIER_FORMAT = "phalanx-map-1"  # the same without digests
MAX_SIDE = 1 << 15  # side of a grid
MAX_CODES = 1 << 29  # of a file: the boxes of 32 classes that fill a grid of 4096 pixels
MAX_ABOUT = 1 << 20  # bytes of a file's metadata, and of its boxes
MAX_RATIO = 1040  # of deflate; a file that claims more content is not one
HEADER = re.compile(  # of an array as numpy writes it
    rb"\x93NUMPY\x01\x00(..)\{'descr': '(\|u1|<i4)', 'fortran_order': False, 'shape': \(([0-9]{1,10}),( 4)?\), \} *\n",
    re.DOTALL,
)
REMAKE_HINT = "delete it and make it again (infer: maps=true; out-of-fold maps: the run's phalanx train once more)"


class StoredMap(NamedTuple):
    """One image's maps with the metadata of their file."""

    maps: ProbabilityMaps
    image: str
    classes: list[str]
    size: Size  # height and width of the image
    run_hashes: dict[str, str]


def code_offset(threshold: float) -> float:
    """The offset d in 0..1 of the codes floor(255 p + d), such that p >= threshold follows from the code alone.

    With .5 they are what rounding gives. A code represents the middle of its step, 0 for nothing.

    >>> code_offset(0.5)
    0.5
    """
    scaled = 255 * float(np.float32(threshold))  # exact in a double, and so are the codes
    return math.ceil(scaled) - scaled


def quantise(values: np.ndarray, offset: float) -> np.ndarray:
    """uint8 codes of float32 probabilities."""
    return (values.astype(np.float64) * 255 + offset).astype(np.uint8)


def dequantise(codes: np.ndarray, offset: float, corner: int = 0) -> np.ndarray:
    """float32[h, w] probabilities of uint8 codes; off by .6 of a step, and by a step at the ends of 0..1 at most.

    A code represents the middle of its step, on the fields of a chessboard a tenth of a step above and below it in
    turn. Else the mean of two maps would be the threshold itself wherever one code is as far above as the other below
    it, and all of these pixels would be foreground.

    Args:
        corner: the sum of row and column where the codes begin in their grid.
    """
    middle = np.arange(256) + 0.5 - offset
    above, below = (np.clip((middle + part) / 255, 0, 1).astype(np.float32) for part in (0.1, -0.1))
    above[0] = below[0] = 0
    values = above[codes]
    for row in range(2):
        odd = np.s_[row::2, (row + corner + 1) % 2 :: 2]
        values[odd] = below[codes[odd]]
    return values


def write_map(
    path: Path,
    maps: ProbabilityMaps,
    *,
    image: str,
    size: Size,
    classes: Sequence[str],
    run_hashes: Mapping[str, str],
    threshold: float,
) -> str:
    """Writes one image's maps, whole or not at all. Masks at ``threshold`` on the maps' grid stay as they are.

    Returns:
        SHA-256 of the file.

    Raises:
        OutputError: maps of more pixels than a file may have.
    """
    offset = code_offset(threshold)
    boxes, blocks = [], []
    for box, values in zip(maps.boxes, maps.values, strict=True):
        codes = quantise(values, offset)
        inner = box_of(codes > 0)
        moved = Box(inner.top + box.top, inner.left + box.left, inner.bottom + box.top, inner.right + box.left)
        boxes.append(EMPTY if inner == EMPTY else moved)
        blocks.append(codes[inner.slices].ravel())
    codes, places = np.concatenate([np.zeros(0, np.uint8), *blocks]), np.array(boxes, np.int32).reshape(-1, 4)
    if len(codes) > MAX_CODES:
        raise OutputError(f"{path}: its maps have {len(codes)} pixels; {MAX_CODES} can be stored, so lower input_size=")
    about = {
        "format": FORMAT, "image": image, "size": list(size), "side": maps.side, "offset": offset,
        "classes": list(classes), "run_hashes": dict(run_hashes),
    }  # fmt: skip
    about["digest"] = _digest_of(about, places, codes)
    buffer = BytesIO()
    np.savez_compressed(buffer, about=np.frombuffer(json.dumps(about).encode(), np.uint8), boxes=places, codes=codes)
    write_bytes(path, buffer.getvalue())
    return hashlib.sha256(buffer.getbuffer()).hexdigest()


def read_map(path: Path) -> StoredMap:
    """Reads what :func:`write_map` wrote.

    Raises:
        DataError: no such file, or one that is cut, altered or of another kind.
    """
    content = read_bytes(path, MAX_CODES, REMAKE_HINT)
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            return _of_archive(archive, len(content))
    except (
        ValueError, KeyError, EOFError, OSError, MemoryError, NotImplementedError, OverflowError, RuntimeError,
        IndexError, struct.error, zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        text = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise fault(path, f"not a whole probability map ({one_line(text)})", REMAKE_HINT) from None


def _of_archive(archive: zipfile.ZipFile, size: int) -> StoredMap:
    """The map of a zip file of some bytes. Nothing is unpacked whose size was not checked."""
    parts = {part.filename: part for part in archive.infolist()}
    if sorted(part.filename for part in archive.infolist()) != ["about.npy", "boxes.npy", "codes.npy"]:
        raise ValueError("its parts are not about, boxes and codes, each once")
    for part in parts.values():
        if part.flag_bits & 1 or part.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"its part {part.filename} is encrypted, or packed in another way than by deflate")
        limit = MAX_CODES if part.filename == "codes.npy" else MAX_ABOUT
        if part.file_size > min(limit, MAX_RATIO * size) + 4096:
            raise ValueError(f"its part {part.filename} claims {part.file_size} bytes")
    about = as_mapping(parse_json(decode(_array(archive.read("about.npy"), "|u1").tobytes())))
    if about.get("format") not in (FORMAT, EARLIER_FORMAT):
        raise ValueError(f"its format is {brief(about.get('format'), 40)}, not {FORMAT!r}")
    boxes = _array(archive.read("boxes.npy"), "<i4").reshape(-1, 4)
    places = _places(boxes, as_names(about.get("classes"), "classes"), as_whole(about.get("side"), 1, MAX_SIDE))
    areas = [box.shape[0] * box.shape[1] for box in places]
    if not 0 < parts["codes.npy"].file_size - sum(areas) < 4096:
        raise ValueError("its parts do not fit each other")
    codes = _array(archive.read("codes.npy"), "|u1")
    if len(codes) != sum(areas):
        raise ValueError("its parts do not fit each other")
    if about.pop("digest", None) != (_digest_of(about, boxes, codes) if about["format"] == FORMAT else None):
        raise ValueError("it was altered")
    return _stored(about, places, np.cumsum([0, *areas]), codes)


def _array(content: bytes, kind: str) -> np.ndarray:
    """The array [n] in a file of numpy's format, a view of ``content``; of n times 4 for a second axis of 4."""
    found = HEADER.match(content)
    if not found or found[2].decode() != kind or len(found[0]) != 10 + int.from_bytes(found[1], "little"):
        raise ValueError("a part of it is not an array of its kind")
    values = np.frombuffer(content, kind, offset=len(found[0]))
    if len(values) != int(found[3]) * (4 if found[4] else 1):
        raise ValueError("a part of it has another size than its header says")
    return values


def _digest_of(about: Mapping[str, Any], boxes: np.ndarray, codes: np.ndarray) -> str:
    parts = [digest(about), *(hashlib.sha256(one.tobytes()).hexdigest() for one in (boxes, codes))]
    return digest(parts)


def _places(boxes: np.ndarray, classes: list[str], side: int) -> list[Box]:
    """The box of each class. Raises ValueError unless each is inside the grid."""
    places = [Box(*row) for row in boxes.tolist()]
    if len(places) != len(classes):
        raise ValueError(f"it has {len(places)} boxes for {len(classes)} classes")
    if not all(0 <= b.top <= b.bottom <= side and 0 <= b.left <= b.right <= side for b in places):
        raise ValueError("a box of it is not inside its grid")
    return places


def _stored(about: dict[str, Any], places: list[Box], ends: np.ndarray, codes: np.ndarray) -> StoredMap:
    image, offset = as_name(about.get("image")), as_real(about.get("offset"), 0, math.nextafter(1, 0))
    size = checked_size(about.get("size"), image)
    blocks = [
        dequantise(codes[a:b].reshape(box.shape), offset, box.top + box.left)
        for a, b, box in zip(ends, ends[1:], places, strict=False)
    ]
    hashes = as_mapping(about.get("run_hashes"), "run_hashes")
    return StoredMap(ProbabilityMaps(about["side"], places, blocks), image, about["classes"], size, hashes)
