"""A CSV with a row per image, read and written: its labels, in one column or in one per class, and its patient."""

import csv
import io
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from pathlib import Path

import numpy as np

from ..config import ClassifyData, nearest
from ..errors import DataError, brief
from ..runtime.reading import LARGE, decode, fault, numbered_rows, read_bytes
from ..runtime.spelling import nfc
from . import records
from .digests import State, state_of

MISSING = {"", "-", "na", "n/a", "nan", "none", "null", "unknown", "?"}  # cells of a class that is not labelled
TRUTHS = {"1": 1.0, "1.0": 1.0, "0": 0.0, "0.0": 0.0}
SEPARATORS = ",;\t|"
BETWEEN = "|"  # the class names of a cell
Labels = tuple[float, ...]


def one_hot(names: Collection[str], classes: Sequence[str]) -> Labels:
    """1 for each class that is named, 0 for the others."""
    return tuple(float(name in names) for name in classes)


class Row(tuple[str, Labels]):
    """Patient and labels of an image in a table."""

    @property
    def group(self) -> str:
        return self[0]

    @property
    def labels(self) -> Labels:
        return self[1]


def table_of(path: Path, data: ClassifyData) -> Mapping[str, Row]:
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
) -> Mapping[str, Row]:
    lines = _lines_of(path)
    header = [cell.strip() for cell in lines[0][1]]
    named = [name for name in classes if name != negative]
    wanted = [image, *([group] if group else []), *([label] if label else named)]
    column, _, value = (rows or "").partition("=")
    places = {name: _column(path, header, name) for name in [*wanted, *([column] if rows else [])]}
    found: dict[str, Row] = {}
    for line, cells in lines[1:]:
        where = f"{path}: line {line}"
        if len(cells) != len(header):
            raise DataError(f"{where}: has {len(cells)} fields, its header has {len(header)}")
        if rows and cells[places[column]].strip() != value:
            continue
        name = cells[places[image]].strip()
        if not name:
            raise DataError(f"{where}: the column {image} is empty")
        if name in found:
            raise DataError(f"{where}: {brief(name)} also has a row above; keep one of them")
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
        found[name] = Row((patient, labels))
    if rows and not found:
        raise DataError(f"{path}: data.table.rows={rows}: the column {column} has no {value!r} in any row")
    return found


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
    return [cell.strip() for cell in _lines_of(path)[0][1]]


def _lines_of(path: Path) -> list[tuple[int, list[str]]]:
    """Rows of a CSV with any of ``SEPARATORS``, and the number of the line that each ends in."""
    content = read_bytes(path, LARGE)
    try:
        text = nfc(decode(content))
        first = text.partition("\n")[0]
        lines = numbered_rows(text, max(SEPARATORS, key=first.count))
    except ValueError as error:
        raise fault(path, str(error)) from None
    if not lines:
        raise fault(path, "is empty")
    return lines


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
