"""A CSV with a row per image, read and written: its labels, in one column or in one per class, and its patient."""

import csv
import io
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..config import ClassifyData, nearest
from ..errors import DataError, brief
from ..runtime.columns import TextIndex, Texts
from ..runtime.reading import fault, stream_rows
from ..runtime.spelling import nfc
from . import records
from .digests import State, state_of
from .record_list import names_of

MISSING = {"", "-", "na", "n/a", "nan", "none", "null", "unknown", "?"}  # cells of a class that is not labelled
TRUTHS = {"1": 1.0, "1.0": 1.0, "0": 0.0, "0.0": 0.0}
SEPARATORS = ",;\t|"
BETWEEN = "|"  # the class names of a cell
Labels = tuple[float, ...]


def one_hot(names: Collection[str], classes: Sequence[str]) -> Labels:
    """1 for each class that is named, 0 for the others."""
    return tuple(float(name in names) for name in classes)


class Row(NamedTuple):
    """Patient and labels of an image in a table."""

    group: str
    labels: Labels


class LabelTable(Mapping[str, Row]):
    """Patient and labels by image name; a row takes its texts, a byte per class and about 30 bytes."""

    def __init__(self, path: Path, classes: Sequence[str]):
        self.path, self.classes = path, tuple(classes)
        self.names, self._groups, self._labels, self._lines = Texts(), Texts(), bytearray(), array("I")
        self._index: TextIndex | None = None

    def append(self, line: int, name: str, group: str, labels: Labels) -> None:
        """Adds a row of the file."""
        self.names.append(name)
        self._groups.append("" if group == name else group)
        self._labels += bytes(map(_code, labels))
        self._lines.append(line)

    def finish(self) -> "LabelTable":
        """Makes rows found by name. Raises DataError if two have the same."""
        self._index = TextIndex(self.names)
        if (row := self._index.doubled()) is not None:
            name = brief(self.names[row])
            raise DataError(f"{self.path}: line {self._lines[row]}: {name} also has a row above; keep one of them")
        return self

    def row(self, image: str) -> int | None:
        """The row of an image: by its name, or by its name without ending, as many tables have it."""
        assert self._index is not None
        row = self._index.find(image)
        return row if row is not None else self._index.find(records.stem_of(image))

    def group(self, row: int) -> str:
        """The patient of a row."""
        return self._groups[row] or self.names[row]

    def labels(self, row: int) -> Labels:
        """The labels of a row."""
        count = len(self.classes)
        return tuple(map(VALUES.__getitem__, self._labels[row * count : (row + 1) * count]))

    def rows_of(self, images: Sequence[records.Record]) -> np.ndarray:
        """int32[N]: the row of each image, -1 if there is none.

        Raises:
            DataError: two images whose names differ in their ending alone are listed by what they have in common.
        """
        places = map(self.row, names_of(images))
        found = np.fromiter((-1 if row is None else row for row in places), np.int32, len(images))
        order = np.argsort(found, kind="stable")
        shared = np.flatnonzero((found[order][1:] == found[order][:-1]) & (found[order][1:] >= 0))
        if len(shared):
            several = {int(row) for row in found[order[shared]]}
            owner: dict[int, str] = {}
            for image, row in zip(images, found.tolist(), strict=True):
                if row in several and (other := owner.setdefault(row, image.name)) != image.name:
                    name, two = self.names[row], f"{other} and of {image.name}"
                    raise DataError(f"{name}: is the row of {two}; list both with their endings")
        return found

    def without(self, rows: np.ndarray, names: Collection[str]) -> list[str]:
        """Names of the rows that are not among some rows or names, sorted."""
        left = np.ones(len(self), bool)
        left[rows[rows >= 0]] = False
        return sorted({self.names[int(row)] for row in np.flatnonzero(left)} - set(names))

    def __getitem__(self, name: str) -> Row:
        assert self._index is not None
        row = self._index.find(name)
        if row is None:
            raise KeyError(name)
        return Row(self.group(row), self.labels(row))

    def __contains__(self, name: object) -> bool:
        assert self._index is not None
        return isinstance(name, str) and self._index.find(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


VALUES = (0.0, 1.0, float("nan"))


def _code(value: float) -> int:
    """The place of a label in VALUES."""
    return 2 if value != value else int(value)


def table_of(path: Path, data: ClassifyData) -> LabelTable:
    """Patient and labels by image name of a CSV; read once per state of the file.

    Raises:
        DataError: it is not a CSV with the columns of ``data.table``, or has a row that cannot be used.
    """
    assert data.table is not None  # the configuration fills in the defaults
    options = data.table
    columns = options.image, options.group, options.label
    return _read_table(path, state_of(path), tuple(data.classes), *columns, options.rows, data.negative)


@lru_cache(maxsize=16)
def _read_table(
    path: Path,
    state: State,
    classes: tuple[str, ...],
    image: str,
    group: str | None,
    label: str | None,
    rows: str | None,
    negative: str | None,
) -> LabelTable:
    lines = _lines_of(path)
    header = _header(path, lines)
    named = [name for name in classes if name != negative]
    wanted = [image, *([group] if group else []), *([label] if label else named)]
    column, _, value = (rows or "").partition("=")
    places = {name: _column(path, header, name) for name in [*wanted, *([column] if rows else [])]}
    found = LabelTable(path, classes)
    for line, cells in lines:
        where = f"{path}: line {line}"
        if len(cells) != len(header):
            raise DataError(f"{where}: has {len(cells)} fields, its header has {len(header)}")
        if rows and cells[places[column]].strip() != value:
            continue
        name = cells[places[image]].strip()
        if not name:
            raise DataError(f"{where}: the column {image} is empty")
        patient = cells[places[group]].strip() if group else name
        if not patient:
            raise DataError(f"{where}: the column {group} is empty, so the patient of {brief(name)} is unknown")
        if label:
            labels = _named(where, cells[places[label]], classes)
        else:
            truths = {name: _truth(where, name, cells[places[name]]) for name in named}
            if negative is not None:
                truths[negative] = _none_of([*truths.values()])
            labels = tuple(truths[name] for name in classes)
        found.append(line, name, patient, labels)
    if rows and not found:
        raise DataError(f"{path}: data.table.rows={rows}: the column {column} has no {value!r} in any row")
    return found.finish()


def keys_of(rows: Collection[str], images: Sequence[str]) -> dict[str, str]:
    """The row of each image that has one: by its name, or by its name without ending, as many tables have it.

    Raises:
        DataError: two images whose names differ in their ending alone are listed by what they have in common.
    """
    found, owner = dict[str, str](), dict[str, str]()
    for name in images:
        key = name if name in rows else records.stem_of(name)
        if key not in rows:
            continue
        if (other := owner.setdefault(key, name)) != name:
            raise DataError(f"{key}: is the row of {other} and of {name}; list both with their endings")
        found[name] = key
    return found


def header_of_table(path: Path) -> list[str]:
    """The columns of a CSV. Raises DataError if it cannot be read."""
    return _header(path, _lines_of(path))


def _header(path: Path, lines: Iterator[tuple[int, list[str]]]) -> list[str]:
    first = next(lines, None)
    if first is None:
        raise fault(path, "is empty")
    return [cell.strip() for cell in first[1]]


def _lines_of(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Rows of a CSV with any of ``SEPARATORS``, and the number of the line that each ends in."""
    return stream_rows(path, separators=SEPARATORS, change=nfc)


def _column(path: Path, header: list[str], name: str) -> int:
    if header.count(name) > 1:
        raise DataError(f"{path}: has the column {name} twice; rename one of them")
    if name not in header:
        raise DataError(f"{path}: has no column {name}{nearest(name, header)}")
    return header.index(name)


def _truth(where: str, name: str, cell: str) -> float:
    text = cell.strip().lower()
    if text in MISSING:
        return float("nan")
    if text not in TRUTHS:
        raise DataError(f"{where}: {brief(cell)} of class {name} is not 0, 1 or, if it is not labelled, nothing")
    return TRUTHS[text]


def _none_of(truths: Sequence[float]) -> float:
    """Whether an image has none of the classes; NaN if that is not known."""
    return 0.0 if 1.0 in truths else float("nan") if any(value != value for value in truths) else 1.0


def _named(where: str, cell: str, classes: tuple[str, ...]) -> Labels:
    """Labels of a cell of class names; an empty one means that nothing is labelled."""
    names = [part.strip() for part in cell.split(BETWEEN) if part.strip()]
    if not names or names[0].lower() in MISSING - set(classes):
        return (float("nan"),) * len(classes)
    for name in names:
        if name not in classes:
            raise DataError(f"{where}: {brief(name)} is not a class{nearest(name, classes)}")
    return one_hot(names, classes)


def labels_csv(images: Sequence[str], classes: Sequence[str], labels: np.ndarray) -> str:
    """A CSV of labels, sorted by image: a column per class with 1, 0 or, where it is not labelled, nothing."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image_name", *classes])
    for image, row in sorted(zip(images, labels.tolist(), strict=True), key=itemgetter(0)):
        table.writerow([image, *("" if value != value else f"{value:.0f}" for value in row)])
    return text.getvalue()
