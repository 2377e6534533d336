"""The CSV of probabilities ``image_name,CLASS,CLASS,...``, one row per image: read whole and checked, written whole.

Numbers have ``DECIMALS`` decimals, so what is read differs from what was written by at most half a unit of the last.
Fewer would make equal what a confident network orders.
"""

import os
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..config.base import nearest
from ..config.classify_loss import Head
from ..errors import DataError, brief
from ..runtime.columns import Texts
from ..runtime.reading import LARGE, fault, stream_rows
from ..runtime.sidecar import Sidecar, Size, checked_size, read_sidecar
from ..runtime.spelling import nfc
from .rows import HEADER as MASK_HEADER
from .table import check_name, csv_field
from .writing import write_with_sidecar

IMAGE_COLUMN = "image_name"
DECIMALS = 9
SUM_TOLERANCE = 0.01  # of a softmax's row: others may round to two or three decimals
LIMIT = LARGE  # bytes: millions of images
MAX_COLUMNS = 10_000
MAX_NAME = 1000  # bytes of an image's or class's name, as in a table of masks
MAX_NUMBER = 40  # characters
_NUMBER = re.compile(r" *[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})? *")
_OTHER_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}
REMEDY = "write it again, or export it as UTF-8 with commas and decimal points"


@dataclass(frozen=True)
class Probabilities:
    """Probabilities of every image and class.

    Attributes:
        name: what errors and tables call it: the file's path.
        images: sorted.
        values: float64[N, C], from 0 to 1.
        head: what made them, which decides whether rows add up to 1; None if it is not known.
        sizes: (height, width) of the images whose size its sidecar records.
        run_hashes: name to hash of the training runs it was made from, if its sidecar records them.
        notes: what the user should know; no errors.
        calibration: digest of what they were calibrated with, if its sidecar records that.
    """

    name: str
    images: tuple[str, ...]
    classes: tuple[str, ...]
    values: np.ndarray
    head: Head | None = None
    sizes: Mapping[str, Size] = field(default_factory=dict)
    run_hashes: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    calibration: str | None = None

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str],
        classes: Sequence[str] | None = None,
        head: Head | None = None,
        images: Sequence[str] | None = None,
        known: tuple[str, ...] = (),
    ) -> "Probabilities":
        """Reads a CSV and its sidecar, if there is one. Rows and columns may be in any order.

        Args:
            classes: the classes there must be, and their order; by default the sidecar's, or else the file's.
            head: of the network; by default the sidecar's. Rows of a softmax must add up to 1 within ``SUM_TOLERANCE``.
            images: the images there must be; by default any.
            known: images of another table, which this one shares if it has the same.

        Raises:
            DataError: with the file and, if it applies, line, image and class: not a CSV of probabilities, a missing,
                unknown or doubled column, a missing, unknown or doubled row, a value that is not a number from 0 to 1,
                a row that does not add up, a sidecar of another file or head.
        """
        path = Path(path)
        sidecar, notes = read_sidecar(path)
        if sidecar is not None and head is not None and sidecar.head not in (None, head):
            raise DataError(
                f"{path}: was written with head={sidecar.head}, and head={head} is given; give the right one"
            )
        if sidecar is not None:
            head = head or ("softmax" if sidecar.head == "softmax" else "sigmoid" if sidecar.head else None)
        rows = stream_rows(path, LIMIT, REMEDY)
        first = next(rows, None)
        if first is None:
            raise fault(path, "is empty", f"it starts with {IMAGE_COLUMN},CLASS,...")
        wanted = sidecar.classes if sidecar is not None and classes is None else classes
        columns = _header(path, first[1], wanted)
        names, values = _rows(path, rows, columns, head, known)
        _check_images(path, names, images)
        if wanted is not None and [*map(nfc, wanted)] != columns:
            values = values[:, [columns.index(nfc(name)) for name in wanted]]
        labels = tuple(wanted) if wanted is not None else tuple(columns)
        sizes = {nfc(image): size for image, size in sidecar.sizes.items()} if sidecar is not None else {}
        hashes = sidecar.run_hashes if sidecar is not None else {}
        by = sidecar.calibration if sidecar is not None else None
        return cls(str(path), names, labels, values, head, sizes, hashes, tuple(notes), by)

    def reorder(self, classes: Sequence[str]) -> "Probabilities":
        """The same rows with the classes in another order."""
        order = [self.classes.index(name) for name in classes]
        return replace(self, classes=tuple(classes), values=self.values[:, order])

    def only(self, images: Sequence[str]) -> "Probabilities":
        """The same rows without the images that are not among ``images``."""
        wanted = set(images)
        kept = [i for i, image in enumerate(self.images) if image in wanted]
        return replace(self, images=tuple(self.images[i] for i in kept), values=self.values[kept])


def write_probabilities(
    path: str | os.PathLike[str],
    images: Sequence[str],
    classes: Sequence[str],
    values: np.ndarray,
    head: Head,
    *,
    sizes: Mapping[str, Size] | None = None,
    run_hashes: Mapping[str, str] | None = None,
    vote: Mapping[str, Any] | None = None,
    key: str | None = None,
    calibration: str | None = None,
) -> str:
    """Writes ``FILE.csv``, sorted by image, and its sidecar ``FILE.json``; a write that fails leaves nothing.

    Args:
        path: ends in .csv; its folder is made. Existing files may be replaced: see ``table.check_target``.
        values: float[N, C] from 0 to 1.
        sizes: (height, width) per image, if known.
        run_hashes: name to hash of the training runs the probabilities come from.
        vote: what the sidecar records of a vote.
        key: of all that a prediction depends on.
        calibration: digest of what the probabilities were calibrated with.

    Returns:
        sha256 of the CSV.

    Raises:
        DataError: no image, a doubled one, a name no row can have, a value out of range, a softmax's row that does not
            add up to 1.
        TrainingError, OutputError: as ``table.write``.
    """
    path = Path(path)
    check_name(path)
    values = np.asarray(values, float)
    names, labels = [nfc(image) for image in images], [nfc(name) for name in classes]
    order: Sequence[int] = range(len(names))
    if any(one > other for one, other in pairwise(names)):
        order = sorted(order, key=names.__getitem__)
    ordered = (names[i] for i in order)
    for what, given, one in (("image", names, ordered), ("class", labels, iter(sorted(labels)))):
        doubled = next((a for a, b in pairwise(one) if a == b), None)
        if not given or doubled is not None:
            raise DataError(
                f"{path}: {'no ' + what if doubled is None else f'{what} {doubled!r} twice'}; give each once"
            )
        for name in given:
            if not _is_name(name):
                raise DataError(f"{path}: {brief(name)} cannot be an image or class name in a CSV")
    if values.shape != (len(names), len(labels)):
        raise DataError(f"{path}: values {list(values.shape)} for {len(names)} images x {len(labels)} classes")
    wrong = ~((values >= 0) & (values <= 1)).all(axis=1)
    if head == "softmax":
        wrong |= np.abs(values.sum(axis=1) - 1) > SUM_TOLERANCE
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{path}: image {names[row]!r} has {brief(values[row].tolist(), 60)}, no probabilities of a {head}"
        )
    listed = set(names) if sizes else set()
    known = {nfc(image): checked_size(size, image) for image, size in (sizes or {}).items() if nfc(image) in listed}

    def blocks() -> Iterator[bytes]:
        yield (",".join([IMAGE_COLUMN, *map(csv_field, labels)]) + "\n").encode()
        for i in order:
            cells = (f"{value:.{DECIMALS}f}" for value in values[i].tolist())
            yield (",".join([csv_field(names[i]), *cells]) + "\n").encode()

    def about(digest: str) -> Sidecar:
        return Sidecar(digest, labels, known, dict(run_hashes or {}), vote, key, head, calibration)

    return write_with_sidecar(path, blocks(), about)


def _is_name(name: str) -> bool:
    """Whether a CSV of ours can have it."""
    try:
        return 0 < len(name.encode()) <= MAX_NAME and not any(letter in name for letter in "\r\n\0")
    except UnicodeEncodeError:
        return False


def _header(path: Path, row: list[str], classes: Sequence[str] | None) -> list[str]:
    """Classes of the columns, as the file has them."""
    start = f"it starts with {IMAGE_COLUMN},CLASS,..."
    if tuple(row) == MASK_HEADER:
        raise fault(path, "is a CSV of masks, not of probabilities", start)
    if row[0] != IMAGE_COLUMN:
        for mark, word in _OTHER_DELIMITERS.items():
            if row[0].split(mark)[0].strip('" ') == IMAGE_COLUMN:
                raise fault(path, f"line 1: has {word} between its fields", REMEDY)
        raise fault(path, f"line 1: begins with {brief(row[0])}", start)
    names = [nfc(name) for name in row[1:]]
    if not names:
        raise fault(path, "line 1: has no class", start)
    if len(names) > MAX_COLUMNS:
        raise fault(path, f"line 1: has {len(names)} classes, {MAX_COLUMNS} at most", REMEDY)
    for column, name in enumerate(names, 2):
        if not _is_name(name):
            raise fault(path, f"line 1: column {column} has {brief(name)}, which is not a class name", REMEDY)
        if names.index(name) < column - 2:
            raise fault(path, f"line 1: column {brief(name)} appears twice", "keep one of them")
    if classes is None:
        return names
    known = [nfc(name) for name in classes]
    if len(set(known)) < len(known):
        raise DataError(f"{path}: the class list {brief(list(classes))} names a class twice")
    for name in names:
        if name not in known:
            raise fault(path, f"line 1: unknown class {brief(name)} of {len(known)} known{nearest(name, known)}")
    missing = [name for name in known if name not in names]
    if missing:
        raise fault(path, f"line 1: has no column {brief(missing[0])} ({len(missing)} of {len(known)} missing)", REMEDY)
    return names


def _rows(
    path: Path,
    rows: Iterator[tuple[int, list[str]]],
    columns: Sequence[str],
    head: Head | None,
    known: tuple[str, ...],
) -> tuple[tuple[str, ...], np.ndarray]:
    """The images, sorted, and their values float64[N, C] in the order of the columns."""
    names, found, lines = Texts(), array("d"), array("I")
    for line, row in rows:
        if len(row) != len(columns) + 1:
            raise fault(path, f"line {line}: has {len(row)} fields, the header has {len(columns) + 1}", REMEDY)
        image = nfc(row[0])
        if not _is_name(image):
            raise fault(path, f"line {line}: {brief(image)} is not an image name", REMEDY)
        values = [_number(path, line, image, *cell) for cell in zip(columns, row[1:], strict=True)]
        if head == "softmax" and abs(sum(values) - 1) > SUM_TOLERANCE:
            raise fault(
                path, f"line {line} (image {brief(image)}): adds up to {sum(values):.4f}, and a softmax to 1",
                "give head=sigmoid if classes are independent, or write the probabilities of all classes",
            )  # fmt: skip
        names.append(image)
        found.extend(values)
        lines.append(line)
    if not names:
        raise fault(path, "has no rows", "there is one row per image")
    order = names.order()
    ordered = (names[row] for row in map(int, order))
    same = len(known) == len(names) and all(one == other for one, other in zip(known, ordered, strict=True))
    images = known if same else tuple(names[row] for row in map(int, order))
    pairs = zip(pairwise(map(int, order)), pairwise(images), strict=True)
    doubled = [(lines[b], lines[a], one) for (a, b), (one, other) in pairs if one == other]
    if doubled:
        later, line, image = min(doubled)
        raise fault(path, f"lines {line} and {later}: doubled row for image {brief(image)}", "keep one of them")
    return images, np.frombuffer(found).reshape(len(names), len(columns))[order]


def _number(path: Path, line: int, image: str, column: str, cell: str) -> float:
    if len(cell) <= MAX_NUMBER and _NUMBER.fullmatch(cell):
        value = float(cell)
        if 0 <= value <= 1:
            return value
        what = "is not from 0 to 1"
    else:
        what = "is not a number with a decimal point"
    raise fault(path, f"line {line} (image {brief(image)}, class {brief(column)}): {brief(cell, 50)} {what}", REMEDY)


def _check_images(path: Path, names: Sequence[str], images: Sequence[str] | None) -> None:
    if images is None:
        return
    wanted, found = {nfc(image) for image in images}, set(names)
    missing, unknown = sorted(wanted - found), sorted(found - wanted)
    if missing:
        raise fault(path, f"has no row for {len(missing)} of {len(wanted)} images, first {brief(missing[0])}")
    if unknown:
        raise fault(path, f"has {len(unknown)} rows of other images, first {brief(unknown[0])}", "leave them out")
