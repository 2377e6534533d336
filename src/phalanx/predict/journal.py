"""Rows of predicted images, kept as they come, so that a killed prediction goes on where it was."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from ..errors import PhalanxError
from ..files import sync_folder, write_text


class Row(NamedTuple):
    """Masks of one image: an RLE a class, over ``size`` (height, width)."""

    image: str
    size: tuple[int, int]
    rles: list[str]


class Journal:
    """A folder ``.<name>.part`` beside a CSV with the rows found so far.

    Several processes may write, each into a file of its own; which image stands in which is no matter.

    Args:
        key: of everything that the rows depend on; rows of another key are deleted.
    """

    def __init__(self, csv: Path, key: str):
        self.folder = part_folder(csv)
        kept = self.folder / "key"
        if not kept.is_file() or kept.read_text(encoding="utf-8") != key:
            for old in self.folder.iterdir():
                if old.name != ".lock":
                    shutil.rmtree(old) if old.is_dir() else old.unlink()
            write_text(kept, key)
        self.places: dict[str, tuple[Path, int]] = {}  # of the row of each image that is done: file and offset
        self.sizes: dict[str, tuple[int, int]] = {}
        for file in sorted(self.folder.glob("rows.*")):
            self.look_up(file)

    @property
    def maps(self) -> Path:
        """Where probability maps wait for the end."""
        return self.folder / "maps"

    def map_of(self, image: str) -> Path:
        return map_in(self.folder, image)

    def look_up(self, path: Path) -> None:
        """Finds the rows of a file, and cuts off what a kill left half written."""
        with path.open("rb") as file:
            while line := file.readline():
                try:
                    if not line.endswith(b"\n"):
                        raise ValueError
                    found = json.loads(line)
                    self.sizes[found["image"]] = found["size"][0], found["size"][1]
                    self.places[found["image"]] = path, file.tell() - len(line)
                except (ValueError, KeyError, TypeError, IndexError):
                    os.truncate(path, file.tell() - len(line))
                    break

    def rows(self, images: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
        """Each image with its RLEs, in the order of ``images``, one at a time."""
        for image in images:
            path, offset = self.places[image]
            with path.open("rb") as file:
                file.seek(offset)
                yield image, json.loads(file.readline())["rles"]

    def finish(self) -> None:
        """Deletes it, when all has gone where it belongs."""
        shutil.rmtree(self.folder)


def part_folder(csv: Path) -> Path:
    return csv.with_name(f".{csv.name}.part")


def map_in(folder: Path, image: str) -> Path:
    """Where an image's probability map waits in a part folder."""
    return folder / "maps" / f"{image}.npz"


def append(folder: Path, writer: int, rows: Sequence[Row]) -> None:
    """Adds rows to the journal in ``folder``, all of them or none, and lastingly."""
    path = folder / f"rows.{writer}"
    new = not path.exists()
    with path.open("ab", buffering=0) as file:  # one call to the system, which a kill does not divide
        file.write("".join(json.dumps(row._asdict()) + "\n" for row in rows).encode())
        os.fsync(file.fileno())
    if new:
        sync_folder(folder)


@contextmanager
def claimed(csv: Path) -> Iterator[None]:
    """Holds the part folder of a CSV for this process. Where no row has been found, nothing stays behind.

    Raises:
        PhalanxError: another process is predicting into the same file.
    """
    folder = part_folder(csv)
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise PhalanxError(f"{csv}: another process is writing it; wait for it, or give another out=") from None
    try:
        yield
    finally:
        if folder.is_dir() and not any(folder.glob("rows.*")):
            shutil.rmtree(folder)
            with suppress(OSError):  # up to the first that holds something by now
                for place in new[1:]:
                    place.rmdir()
        lock.release()
