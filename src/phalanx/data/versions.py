"""Versions of a data set: one row per image with digests of its file, pixels, annotation and labels.

A snapshot is a folder below ``snapshots/`` with such a table, the labels themselves and a description. Its table is
found again by the digests of a run, so that a run names the snapshot that it was trained on.
"""

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DataError
from ..runtime.reading import LARGE, SMALL, fault, read_mapping, read_rows
from .digests import ImageDigests
from .records import Record

SNAPSHOTS = Path("snapshots")  # like folds/: next to the runs, as a data set's folder may be read-only
NAME = "snapshot.json"  # in a snapshot's folder, and in a run's
TABLE = "images.csv"
LABELS = "labels.zip"
FORMAT = "phalanx-snapshot-1"  # of its description
REMEDY = "take the snapshot again under another name"
HEADER = (
    "image_name", "split", "patient", "file", "height", "width", "image", "pixels", "annotation", "labels"
)  # fmt: skip
SHORT = 12  # digits of a digest that stand for a name


class ImageRow(NamedTuple):
    """One image of a version. What is not known is empty or 0.

    Attributes:
        split: train or test.
        file: of the image, from the data set's root on.
        image: SHA-256 of its file.
        pixels: SHA-256 of its shape and pixels, as they are read.
        annotation: SHA-256 of its annotation's files, as runs have it.
        labels: SHA-256 of the labels as a data configuration reads them.
    """

    name: str
    split: str
    patient: str
    file: str = ""
    height: int = 0
    width: int = 0
    image: str = ""
    pixels: str = ""
    annotation: str = ""
    labels: str = ""


Rows = dict[str, ImageRow]


def to_csv(rows: Rows) -> str:
    """A row per image, by name."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(HEADER)
    table.writerows(rows[name] for name in sorted(rows))
    return text.getvalue()


def read_table(path: Path) -> Rows:
    """The table of :func:`to_csv`. Raises DataError if the file is not one."""
    head, *lines = read_rows(path, LARGE, REMEDY) or [[]]
    if tuple(head) != HEADER:
        raise fault(path, "is not the table of a snapshot", REMEDY)
    found: Rows = {}
    for number, line in enumerate(lines, 1):
        whole = len(line) == len(HEADER) and line[4].isdecimal() and line[5].isdecimal()
        if not whole or line[0] in found or line[1] not in ("train", "test"):
            raise fault(path, f"row {number} is not an image of a snapshot", REMEDY)
        name, split, patient, file, height, width, *digests = line
        found[name] = ImageRow(name, split, patient, file, int(height), int(width), *digests)
    return found


def rows_of(records: Sequence[Record], digests: Mapping[str, ImageDigests], root: Path) -> Rows:
    """The training images of a run, as far as it knows them."""
    return {
        one.name: ImageRow(one.name, "train", one.group, relative(one.image, root), 0, 0, digests[one.name].image, "",
                           digests[one.name].annotation)
        for one in records
    }  # fmt: skip


def relative(path: Path, root: Path) -> str:
    """A path from a data set's folder on, if it is below that."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def identity(row: ImageRow) -> tuple[str, ...]:
    """What makes an image of two versions the same: name, patient, place, content of image and annotation.

    The place counts, since a folder may name the patient or the label.
    """
    return row.name, row.patient, row.file, row.image, row.annotation


def digest_of_rows(rows: Rows) -> str:
    """SHA-256 of the training images of a version: of a whole data set."""
    lines = sorted("\0".join(identity(row)) for row in trained(rows).values())
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def trained(rows: Rows) -> Rows:
    """The training images."""
    return {name: row for name, row in rows.items() if row.split == "train"}


def snapshots_in(folder: Path = SNAPSHOTS) -> dict[str, Path]:
    """Folders of the snapshots by name."""
    return {path.parent.name: path.parent for path in sorted(folder.glob(f"*/{NAME}"))}


def about_snapshot(folder: Path) -> dict[str, Any]:
    """What a snapshot's description says. Raises DataError if it is not one."""
    found = read_mapping(folder / NAME, SMALL, REMEDY)
    if found.get("format") != FORMAT:
        raise DataError(f"{folder / NAME}: is not the description of a snapshot; {REMEDY}")
    return found


def named(rows: Rows, folder: Path = SNAPSHOTS) -> dict[str, Any]:
    """The snapshot with the training images of a run, for its ``snapshot.json``.

    A run that leaves out images of a snapshot, as by a quarantine, has that snapshot, and the number left out. Of
    several, the one with the fewest others, then the first by name. Without any, the first digits of the digest of the
    whole set stand as its name. A damaged snapshot is passed over: a training does not depend on it.

    Args:
        rows: of :func:`rows_of`.
    """
    whole, fitting = digest_of_rows(rows), list[tuple[int, str]]()
    ours = {identity(row) for row in rows.values()}
    for name, place in snapshots_in(folder).items():
        try:
            theirs = {identity(row) for row in trained(read_table(place / TABLE)).values()}
        except (DataError, OSError):
            continue
        if ours <= theirs:
            fitting.append((len(theirs) - len(ours), name))
    left_out, name = min(fitting, default=(0, ""))
    return {
        "name": name or whole[:SHORT], "snapshot": bool(name), "digest": whole, "images": len(rows),
        "left_out": left_out,
    }  # fmt: skip
