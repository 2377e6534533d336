"""Digests of the files that a run is trained and scored on, so that a run is not continued with changed ones.

A file's digest is computed once per process and state of the file; the cache of samples uses the same digests.
"""

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError
from ..runtime.files import sha256_file
from ..runtime.reading import LARGE, read_rows

NAME = "digests.csv"
HEADER = ["image_name", "image", "annotation"]
REMEDY = "restore it, or delete it, so that the images of now count"
State = tuple[int, ...]


class ImageDigests(NamedTuple):
    """SHA-256 of an image and of its annotation: of its only file, or of the names and digests of several."""

    image: str
    annotation: str


class Digests(dict[str, ImageDigests]):
    """Digests of the images of a run by name."""

    @classmethod
    def of(cls, files: Mapping[str, Sequence[Path]]) -> "Digests":
        """Reads the files of each image, of which the first is the image itself.

        Raises:
            DataError: a file cannot be read.
        """
        shared = {path for paths in files.values() for path in paths[1:]}
        with ThreadPoolExecutor() as pool:
            list(pool.map(current_digest, sorted(shared)))  # once, as one file may annotate all images
            images = list(pool.map(current_digest, [paths[0] for paths in files.values()]))
        return cls(
            (name, ImageDigests(image, _together(paths[1:])))
            for (name, paths), image in zip(files.items(), images, strict=True)
        )

    def changed(self, other: "Digests") -> list[tuple[str, str]]:
        """Name and part (``image`` or ``annotation``) of what both have, with other content, by name."""
        return [
            (name, part)
            for name in sorted(self.keys() & other.keys())
            for part, one, another in zip(ImageDigests._fields, self[name], other[name], strict=True)
            if one != another
        ]

    def to_csv(self) -> str:
        """A row per image, by name."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(HEADER)
        table.writerows((name, *self[name]) for name in sorted(self))
        return text.getvalue()

    @classmethod
    def read(cls, path: Path) -> "Digests":
        """The table of :meth:`to_csv`. Raises DataError if the file is not one."""
        head, *rows = read_rows(path, LARGE, REMEDY) or [[]]
        if head != HEADER or any(len(row) != 3 for row in rows):
            raise DataError(f"{path}: is not a table of {', '.join(HEADER)}; {REMEDY}")
        return cls((name, ImageDigests(image, annotation)) for name, image, annotation in rows)


def _together(paths: Sequence[Path]) -> str:
    digests = [current_digest(path) for path in paths]
    if len(digests) == 1:
        return digests[0]
    lines = [f"{path.name} {digest}" for path, digest in zip(paths, digests, strict=True)]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def current_digest(path: Path) -> str:
    """SHA-256 of a file as it is now. Raises DataError if it cannot be read."""
    return digest_of(path, state_of(path))


def state_of(path: Path) -> State:
    """Properties of a file of which one changes with its content, without reading it."""
    try:
        state = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); restore it or remove its record") from None
    return state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


@cache
def digest_of(path: Path, state: State) -> str:
    """SHA-256 of a file, read once per state."""
    try:
        return sha256_file(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); restore it or remove its record") from None
