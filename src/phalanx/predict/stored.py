"""Probability maps on disk: one compressed file per image, in 256 steps, cropped to content, with its metadata."""

import hashlib
import json
import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..data.records import Record
from ..errors import DataError, OutputError
from ..runtime.files import check_files, format_mark, refuse_foreign, remove_folder, write_bytes, write_json
from .maps import EMPTY, Box, ProbabilityMaps, Size, box_of

FORMAT = "phalanx-map-1"
MAX_SIDE = 1 << 15  # side of a grid that is believed
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
    """
    offset = code_offset(threshold)
    boxes, blocks = [], []
    for box, values in zip(maps.boxes, maps.values, strict=True):
        codes = quantise(values, offset)
        inner = box_of(codes > 0)
        moved = Box(inner.top + box.top, inner.left + box.left, inner.bottom + box.top, inner.right + box.left)
        boxes.append(EMPTY if inner == EMPTY else moved)
        blocks.append(codes[inner.slices].ravel())
    about = {
        "format": FORMAT, "image": image, "size": list(size), "side": maps.side, "offset": offset,
        "classes": list(classes), "run_hashes": dict(run_hashes),
    }  # fmt: skip
    buffer = BytesIO()
    np.savez_compressed(
        buffer,
        about=np.frombuffer(json.dumps(about).encode(), np.uint8),
        boxes=np.array(boxes, np.int32).reshape(-1, 4),
        codes=np.concatenate([np.zeros(0, np.uint8), *blocks]),
    )
    write_bytes(path, buffer.getvalue())
    return hashlib.sha256(buffer.getbuffer()).hexdigest()


def read_map(path: Path) -> StoredMap:
    """Reads what :func:`write_map` wrote.

    Raises:
        DataError: no such file, or one that is cut, altered or of another kind.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:  # each part has a checksum
            about: dict[str, Any] = json.loads(stored["about"].tobytes().decode())
            if about["format"] != FORMAT:
                raise ValueError(f"its format is {about['format']!r}, not {FORMAT!r}")
            return _checked(about, stored["boxes"], stored["codes"])
    except FileNotFoundError:
        raise DataError(f"{path}: no such probability map; {REMAKE_HINT}") from None
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, MemoryError, NotImplementedError,
        RuntimeError, RecursionError, zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        raise DataError(
            f"{path}: not a whole probability map ({type(error).__name__}: {error}); {REMAKE_HINT}"
        ) from None


def _checked(about: dict[str, Any], boxes: np.ndarray, codes: np.ndarray) -> StoredMap:
    classes, side, offset = about["classes"], about["side"], about["offset"]
    height, width = about["size"]
    if not (isinstance(side, int) and 0 < side <= MAX_SIDE and 0 <= offset < 1 and min(height, width) > 0):
        raise ValueError("its size or grid is impossible")
    if boxes.shape != (len(classes), 4) or boxes.dtype.kind != "i" or codes.dtype != np.uint8 or codes.ndim != 1:
        raise ValueError("its parts do not fit each other")
    places = [Box(*row) for row in boxes.tolist()]
    inside = all(0 <= b.top <= b.bottom <= side and 0 <= b.left <= b.right <= side for b in places)
    areas = [box.shape[0] * box.shape[1] for box in places]
    if not inside or sum(areas) != len(codes):
        raise ValueError("its parts do not fit each other")
    ends = np.cumsum([0, *areas])
    blocks = [
        dequantise(codes[a:b].reshape(box.shape), offset, box.top + box.left)
        for a, b, box in zip(ends, ends[1:], places, strict=False)
    ]
    return StoredMap(
        ProbabilityMaps(side, places, blocks), about["image"], classes, (height, width), about["run_hashes"]
    )


class MapsFolder:
    """A folder of stored maps as a member of a soft vote.

    Attributes:
        sizes: height and width of each image it holds.
        hashes: of the weights of each fold it was made from, by folder.
        threshold: at which its codes preserve the masks.

    Raises:
        DataError: its maps.json cannot be read.
    """

    needs_images = False

    def __init__(self, folder: Path):
        try:
            about = json.loads((folder / "maps.json").read_text(encoding="utf-8"))
            if about["format"] != FORMAT:
                raise ValueError(f"its format is {about['format']!r}, not {FORMAT!r}")
            self.classes, self.hashes = list(about["classes"]), dict(about["run_hashes"])
            self.sizes: dict[str, Size] = {name: (int(h), int(w)) for name, (h, w) in about["sizes"].items()}
            self.key: str = about["key"]
            self.threshold = float(about["threshold"])
            if not 0 < self.threshold < 1:
                raise ValueError(f"threshold {self.threshold}")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = f"maps.json: {type(error).__name__}: {error}"
            raise DataError(f"{folder}: not a folder of probability maps ({reason}); {REMAKE_HINT}") from None
        self.name, self.folder = str(folder), folder

    def maps(self, records: Sequence[Record], images: Sequence[np.ndarray]) -> list[ProbabilityMaps]:
        """The stored maps of each image. ``images`` uint8[H, W], if there are any, must have its size.

        Raises:
            DataError: it lacks an image, has it in another size, or a file is damaged or in the wrong place.
        """
        for record, image in zip(records, images, strict=False):
            size = self._size(record.name)
            if size != image.shape:
                raise DataError(
                    f"{self.path_of(record.name)}: made from an image of {size[0]} x {size[1]}, {record.image} has "
                    f"{image.shape[0]} x {image.shape[1]}"
                )
        return [self._one(record.name) for record in records]

    def _one(self, name: str) -> ProbabilityMaps:
        size, path = self._size(name), self.path_of(name)
        found = read_map(path)
        expected = {"image": name, "classes": self.classes, "size": size, "run_hashes": self.hashes}
        other = next((key for key, value in expected.items() if getattr(found, key) != value), None)
        if other is not None:
            raise DataError(
                f"{path}: has another {other.replace('_', ' ')} than {self.folder / 'maps.json'}; files of two "
                "predictions are mixed here, make them again with maps=true"
            )
        return found.maps

    def _size(self, name: str) -> Size:
        if name not in self.sizes:
            raise DataError(f"{self.folder}: holds no map of {name}; members must cover the same images")
        return self.sizes[name]

    def path_of(self, name: str) -> Path:
        """The file of an image's map."""
        return self.folder / f"{name}.npz"


def check_maps(folder: Path) -> None:
    """Refuses to have a folder replaced that is not a folder of maps, or has something else in it.

    Raises:
        OutputError: it is a link, or a file in it is none of its maps.
    """
    check_files(folder, _names(folder).__contains__)


def remove_maps(folder: Path) -> None:
    """Removes a folder of maps, if there is one. Raises OutputError as :func:`check_maps`."""
    remove_folder(folder, _names(folder).__contains__)


def _names(folder: Path) -> set[str]:
    """Files of a folder of maps: those that maps.json lists, and those that say so themselves."""
    names: set[str] = set()
    try:
        names = {"maps.json", *(f"{name}.npz" for name in MapsFolder(folder).sizes)}
    except DataError:
        with suppress(OutputError):  # damaged, but it was one of ours
            refuse_foreign(folder / "maps.json", format_mark("map"))
            names = {"maps.json"}
    for path in folder.glob("*.npz"):
        if path.name not in names:
            with suppress(DataError):
                read_map(path)
                names.add(path.name)
    return names


def write_about(
    folder: Path,
    classes: Sequence[str],
    run_hashes: Mapping[str, str],
    sizes: Mapping[str, Size],
    key: str,
    threshold: float,
) -> None:
    """Writes ``maps.json``, which makes the folder a member. ``key``: of members, images and options."""
    about = {"format": FORMAT, "key": key, "threshold": threshold}
    about |= {"classes": list(classes), "run_hashes": dict(run_hashes)}
    write_json(folder / "maps.json", about | {"sizes": {name: list(size) for name, size in sizes.items()}})
