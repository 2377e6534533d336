"""Rows of predicted images, saved at once, so that a killed prediction continues where it stopped."""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError, OutputError, PhalanxError
from ..runtime.files import (
    append_bytes,
    not_ours,
    own_folder,
    refuse_links_in,
    sha256_file,
    sync_folder,
    write_bytes,
    write_text,
)
from ..runtime.locks import LockHeld, hold, is_lock_file, lock_files, remove_hold
from ..runtime.reading import as_hash, as_name, decode, listed, open_regular, parse_json, read_bytes
from ..runtime.removal import remove_files, remove_folder
from ..runtime.sidecar import checked_size

FILES = re.compile(r"key|agreement|watched|rows\.\d+")  # of a part folder; `watched` is of an earlier version
MAX_RECORD = 256 << 20  # bytes of a record: the RLEs of an image
JOIN_SECONDS = 60  # for another part to begin the journal
MAPS = re.compile(r"maps\.json|.+\.npz")


class PredictedRow(NamedTuple):
    """Masks of one image: one RLE per class, over ``size`` (height, width)."""

    image: str
    size: tuple[int, int]
    rles: list[str]
    map: str | None = None  # SHA-256 of the file of its probability map, if maps are saved
    places: list[Any] | None = None  # of a vote, where each member has its masks: [M][C][3]


class RecordPlace(NamedTuple):
    """The place of an image's record in the journal, and what is needed of it before the end."""

    file: Path
    offset: int
    size: tuple[int, int]
    map: str | None
    places: np.ndarray | None


class Journal:
    """A folder ``.<name>.part`` next to a CSV with the rows found so far.

    Several processes may write, each into a file of its own; the file of an image does not matter. Each record
    carries its SHA-256: one that a kill cut or anything altered counts as missing, and its image is predicted again.

    Args:
        key: of everything that the rows depend on; rows of another key are deleted.

    Raises:
        OutputError: a link, or a file of another program, is in the way.
    """

    def __init__(self, csv: Path, key: str):
        self.folder, self.key = part_folder(csv), key
        saved = self.folder / "key"
        if not _has_key(saved, key):
            remove_folder(self.maps, is_map)
            remove_files(self.folder, is_ours, keep=lock_files(self.folder))
            write_text(saved, key)
        self.places: dict[str, RecordPlace] = {}  # of the images that are done
        for file in listed(self.folder, "rows.*"):
            self.index_file(file)

    @property
    def maps(self) -> Path:
        """Folder of the probability maps until the end."""
        return self.folder / "maps"

    def has(self, image: str, *, with_map: bool) -> bool:
        """Whether an image is done; ``with_map``: and its probability map is still the one that was written."""
        place = self.places.get(image)
        if place is None or not with_map:
            return place is not None
        try:
            return place.map == sha256_file(map_in(self.folder, image))
        except OSError:
            return False

    @classmethod
    def share(cls, csv: Path, key: str) -> "Journal":
        """The journal of a prediction that several processes make part by part, begun by whichever comes first.

        Raises:
            PhalanxError: another prediction is in progress.
            OutputError: as of the class, and of :func:`claimed`.
        """
        folder, until = part_folder(csv), time.monotonic() + JOIN_SECONDS
        while not _has_key(folder / "key", key):
            _own_part(folder)
            with suppress(LockHeld), hold(folder):
                return cls(csv, key)
            if time.monotonic() > until:  # else another part begins the journal just now
                raise PhalanxError(
                    f"{csv}: a prediction of other members, options, images or another kind of device is in progress; "
                    "wait for it, or give another out="
                )
            time.sleep(0.05)
        return cls(csv, key)

    def written(self, writer: int, offset: int | None = None) -> tuple[int, int]:
        """How many records a process has written after an offset of its file, and the offset of their end.

        Args:
            offset: None: the present end.
        """
        try:
            with open_regular(self.folder / f"rows.{writer}") as file:
                file.seek(*(0, os.SEEK_END) if offset is None else (offset,))
                offset = file.tell()
                text = file.read()
        except FileNotFoundError:
            return 0, 0
        whole = text[: text.rfind(b"\n") + 1]
        return sum(map(bool, whole.split(b"\n"))), offset + len(whole)

    def index_file(self, path: Path) -> None:
        """Finds the records of a file.

        Raises:
            OutputError: it is not a regular file.
        """
        try:
            file = open_regular(path)
        except OSError:
            raise not_ours(path) from None
        with file:
            while line := file.readline(MAX_RECORD):
                with suppress(ValueError):
                    row = _row(line, self.key)
                    places = None if row.places is None else _array(row.places)
                    self.places[row.image] = RecordPlace(path, file.tell() - len(line), row.size, row.map, places)

    def rows(self, images: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
        """Each image with its RLEs, in the order of ``images``, one at a time.

        Raises:
            DataError: a record was altered since it was found.
        """
        for image in images:
            place = self.places[image]
            with open_regular(place.file) as file:
                file.seek(place.offset)
                line = file.readline(MAX_RECORD)
            try:
                yield image, _row(line, self.key).rles
            except ValueError:
                raise DataError(
                    f"{place.file}: the record of {image} was altered while this command ran; the same command "
                    "predicts it again"
                ) from None

    def note(self, name: str) -> list[Any]:
        """What :meth:`write_note` wrote, in a list; an empty one if it is missing or was altered."""
        try:
            return [unseal(read_bytes(self.folder / name))]
        except ValueError:  # among them DataError
            return []

    def write_note(self, name: str, value: Any) -> None:
        """Writes plain values into a file of the folder."""
        write_bytes(self.folder / name, seal(value))

    def finish(self) -> None:
        """Deletes the folder, when the CSV and the maps are in their places."""
        remove_part(self.folder)


def seal(value: Any) -> bytes:
    """A line of JSON after its SHA-256."""
    text = json.dumps(value).encode()
    return hashlib.sha256(text).hexdigest().encode() + b" " + text + b"\n"


def unseal(line: bytes) -> Any:
    """What :func:`seal` was given; ValueError if a bit of it was altered.

    >>> unseal(seal([1, "a"]))
    [1, 'a']
    """
    digest, _, text = line.removesuffix(b"\n").partition(b" ")
    if not line.endswith(b"\n") or hashlib.sha256(text).hexdigest().encode() != digest:
        raise ValueError("cut or altered")
    return parse_json(decode(text))


def _row(line: bytes, key: str) -> PredictedRow:
    """A record. Raises ValueError if it is cut, altered, or not one of the prediction ``key``: a process on another
    machine may still write for a prediction that has been given up."""
    values = unseal(line)
    if not isinstance(values, list) or len(values) != 6 or values[5] != key:
        raise ValueError("a record of another kind")
    image, size, rles, about_map, places, _ = values
    if not isinstance(rles, list) or not all(isinstance(rle, str) for rle in rles):
        raise ValueError("a record of another kind")
    if places is not None and _array(places).shape[1:] != (len(rles), 3):
        raise ValueError("a record of another kind")
    return PredictedRow(as_name(image), checked_size(size, image), rles, about_map and as_hash(about_map), places)


def plain_places(places: Sequence[np.ndarray]) -> list[Any] | None:
    """The places of each member's masks as a record has them: hundredths of a pixel, null for none."""
    found = [of_member.round(2).tolist() for of_member in places]
    return [[[None if value != value else value for value in mask] for mask in member] for member in found] or None


def _array(places: Any) -> np.ndarray:
    """float32[M, C, 3] of a record's places. Raises ValueError if they are anything else."""
    try:
        found = np.array(places, np.float32)
    except TypeError:
        raise ValueError("a record of another kind") from None
    if found.ndim != 3:
        raise ValueError("a record of another kind")
    return found


def _has_key(saved: Path, key: str) -> bool:
    try:
        return read_bytes(saved, 4096) == key.encode()
    except DataError:
        return False


def part_folder(csv: Path) -> Path:
    return csv.with_name(f".{csv.name}.part")


def map_in(folder: Path, image: str) -> Path:
    """An image's probability map in a part folder."""
    return folder / "maps" / f"{image}.npz"


def is_map(name: str) -> bool:
    """Whether a folder of probability maps has files of that name."""
    return MAPS.fullmatch(name) is not None


def is_ours(name: str) -> bool:
    """Whether a part folder has files of that name, its lock left aside."""
    return FILES.fullmatch(name) is not None


def append(folder: Path, writer: int, rows: Sequence[PredictedRow], key: str) -> None:
    """Adds rows to the journal of ``key`` in ``folder`` and syncs them to disk.

    Raises:
        OutputError: the file is a link, or has a second name.
    """
    path = folder / f"rows.{writer}"
    new = not path.exists()
    # a line break first, which ends what a kill left half written
    append_bytes(path, b"\n" + b"".join(seal([*row, key]) for row in rows))
    if new:
        sync_folder(folder)


@contextmanager
def claimed(csv: Path) -> Iterator[None]:
    """Holds the part folder of a CSV for this process. If no row was found, the folder is removed.

    Raises:
        PhalanxError: another process is predicting into the same file.
        OutputError: the part folder, or something that is written in it, is a link.
    """
    folder = part_folder(csv)
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    _own_part(folder)
    with ExitStack() as held:
        try:
            held.enter_context(hold(folder))
        except LockHeld as error:
            by = f" ({error.holder})" if error.holder else ""
            remedy = f", or {error.remedy}" if error.remedy else ""
            raise PhalanxError(
                f"{csv}: another process is writing it{by}; wait for it, or give another out={remedy}"
            ) from None
        try:
            yield
        finally:
            if folder.is_dir() and not any(folder.glob("rows.*")):
                with suppress(OutputError):  # it stays if it holds files of another program
                    remove_part(folder)
                with suppress(OSError):  # up to the first that holds something by now
                    for place in new[1:]:
                        place.rmdir()


def _own_part(folder: Path) -> None:
    own_folder(folder)
    refuse_links_in(folder, lambda name: is_ours(name) or is_lock_file(name) or name == "maps")


def forget(csv: Path, key: str) -> None:
    """Removes the part folder of a CSV that is complete, where a kill left one of the same key; while it is claimed."""
    folder = part_folder(csv)
    if Path(folder / "key").is_file() and (folder / "key").read_bytes() == key.encode():
        remove_part(folder)


def remove_part(folder: Path) -> None:
    """Removes a part folder.

    Raises:
        OutputError: a link, or a file of another program, is in it.
    """
    remove_folder(folder / "maps", is_map)
    remove_files(folder, is_ours, keep=lock_files(folder))
    if folder.is_dir():
        remove_hold(folder)
        folder.rmdir()
