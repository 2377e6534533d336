"""Data sets of images with labels: one folder per class, or a CSV with a row per image.

Labels are float32[C], 1 or 0 for each class and NaN where it is not labelled.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import ClassifyData, nearest
from ..errors import DataError, brief
from ..runtime.reading import LARGE, decode, fault, numbered_rows, read_bytes
from ..runtime.spelling import nfc
from . import records
from .digests import State, state_of
from .groups import check_used, read_groups
from .presence import presence_row, presence_truth
from .records import Record
from .restored import source_of

if TYPE_CHECKING:
    import pandas as pd

MISSING = {"", "-", "na", "n/a", "nan", "none", "null", "unknown", "?"}  # cells of a class that is not labelled
TRUTHS = {"1": 1.0, "1.0": 1.0, "0": 0.0, "0.0": 0.0}
SEPARATORS = ",;\t|"
BETWEEN = "|"  # the class names of a cell
Labels = tuple[float, ...]


def labels_of(found: Sequence[Record], data: ClassifyData) -> np.ndarray:
    """Labels float32[N, C] of records.

    Raises:
        DataError: a record without labels, or whose file cannot be used.
    """
    rows = [label_row(record, data) for record in found]
    return np.array(rows, np.float32).reshape(len(rows), len(data.classes))


def label_row(record: Record, data: ClassifyData) -> Labels:
    """Labels of a record. Raises DataError if it has none, or its file cannot be used."""
    if record.labels is None:
        raise DataError(f"{record.image}: has no label")
    if data.layout == "folders":
        return _one_hot([nfc(record.labels.name)], data.classes)
    if data.layout == "presence":
        return presence_row(record.labels, data)
    rows, name = table_of(record.labels, data), source_of(record.name, data)
    return rows[keys_of(rows, [name])[name]].labels


def label_strata(found: Sequence[Record], data: ClassifyData) -> "pd.DataFrame":
    """Text by image name, one column per class: with, without or not labelled; what stratified folds balance."""
    import pandas as pd

    words = np.array(["without", "with", "not labelled"])
    labels = np.nan_to_num(labels_of(found, data), nan=2.0).astype(int)
    columns = {name: [f"{word} {name}" for word in words[labels[:, i]]] for i, name in enumerate(data.classes)}
    return pd.DataFrame(columns, index=[record.name for record in found])


def _one_hot(names: Collection[str], classes: Sequence[str]) -> Labels:
    return tuple(float(name in names) for name in classes)


# one folder per class


def folder_records(root: Path, data: ClassifyData, without: Collection[str] = ()) -> list[Record]:
    """Images of ``<root>/<class>``, sorted by name; the folder of the class is the place of the label.

    Raises:
        DataError: a folder is missing, empty or not of a class; a name appears twice, also in two classes' folders.
    """
    options, groups = folders_of(data), read_groups(data.groups_file)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected the layout {root}/<class>/<image>")
    there = {nfc(path.name): path for path in sorted(root.iterdir()) if path.is_dir() and path.name[:1] != "."}
    unknown = [name for name in there if name not in data.classes]
    if unknown:
        raise DataError(
            f"{there[unknown[0]]}: {brief(unknown[0])} is not a class{nearest(unknown[0], data.classes)} (data.classes "
            "lists them); rename the folder, or move it elsewhere"
        )
    absent = [name for name in data.classes if name not in there]
    if absent:
        raise DataError(f"{root}: has no folder of class {absent[0]!r}; it may be empty, but must exist")
    found = [
        record._replace(labels=folder, group=groups.get(record.name) or group_of(record.name, options.group_pattern))
        for folder in there.values()
        for record in (records.scan(folder, complete=False) if any(folder.iterdir()) else [])
        if record.name not in without
    ]
    found.sort()
    for one, other in pairwise(found):
        if one.name == other.name:
            raise DataError(f"{other.image}: the name {one.name} is also that of {one.image}; an image has one class")
    check_used(data.groups_file, groups, [record.name for record in found])
    return records.some(found, f"{root}: no image in the folders of the classes")


def folders_of(data: ClassifyData) -> Any:
    assert data.folders is not None  # the configuration fills in the defaults
    return data.folders


def group_of(name: str, pattern: str | None, key: str = "data.folders.group_pattern") -> str:
    """The patient of an image by its name: what the first group of a regular expression matches, or the name itself.

    Raises:
        DataError: the expression does not match.
    """
    if pattern is None:
        return name
    match = re.search(pattern, name)
    if match is None or not match[1]:
        raise DataError(
            f"{name}: {key}={pattern} does not match this name, so its patient is unknown; give "
            "another pattern, or null if each image is of its own patient"
        )
    return match[1]


# a CSV


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
    return _one_hot(names, classes)


def table_records(data: ClassifyData, without: Collection[str] = ()) -> list[Record]:
    """Images of ``data.table.images`` with a row in ``data.table.train``, sorted by name.

    Raises:
        DataError: a file or folder is missing, an image has no row, a row no image, or an image no label at all
            (unless ``data.skip_unlabelled``, which leaves out images without a row or label).
    """
    assert data.table is not None
    root = records.root_of(data)
    path, folder = root / data.table.train, root / data.table.images
    rows, groups = table_of(path, data), read_groups(data.groups_file)
    images = records.scan(folder, f"data.table.images={data.table.images} names it", complete=False)
    keys = keys_of(rows, [record.name for record in images])
    lost = sorted(rows.keys() - set(keys.values()) - set(without))
    if lost:
        raise DataError(
            f"{path}: lists {brief(lost[0])}, which is not an image below {folder} ({len(lost)} such row(s)); restore "
            "it, or delete the row"
        )
    found, lacking = list[Record](), list[str]()
    for record in images:
        row = rows[keys[record.name]] if record.name in keys else None
        if record.name in without:
            continue
        if row is None or all(value != value for value in row.labels):
            lacking.append(record.name)
        else:
            found.append(Record(record.name, groups.get(record.name, nfc(row.group)), record.image, path))
    if lacking and not data.skip_unlabelled:
        raise DataError(
            f"{path}: has no label of {brief(lacking[0])} ({len(lacking)} such image(s)). Add what is missing, or "
            "leave such images out with data.skip_unlabelled=true"
        )
    check_used(data.groups_file, groups, [record.name for record in found])
    return records.some(found, f"{path}: no labelled image")


# the truth of a submission


def read_labels(place: Path, data: ClassifyData) -> tuple[dict[str, Labels], dict[str, str]]:
    """Labels and patients by image name of a CSV, or of a folder: one folder per class, or annotations by patient.

    Raises:
        DataError: neither, or one that cannot be used.
    """
    if place.is_dir() and data.layout == "presence":
        return presence_truth(place, data)
    if place.is_dir():
        kind = data.model_copy(update={"layout": "folders", "folders": data.folders or _folders()})
        found = folder_records(place, kind)
        return {one.name: label_row(one, kind) for one in found}, {one.name: one.group for one in found}
    if not place.is_file():
        raise DataError(f"{place}: no such file or folder of labels")
    rows = table_of(place, data if data.table else data.model_copy(update={"table": _table(place)}))
    groups = read_groups(data.groups_file)
    check_used(data.groups_file, groups, rows)
    patients = {name: groups.get(name, row.group) for name, row in rows.items()}
    return {name: row.labels for name, row in rows.items()}, patients


def _folders() -> Any:
    from ..config import Folders

    return Folders()


def _table(place: Path) -> Any:
    from ..config import Table

    return Table(train=place.name)


def empty_planes(record: Record, data: Any, grid: Any) -> np.ndarray:
    """One empty bit-plane uint8[side, side, 1]: labels have no masks, but samples are cached with some."""
    return np.zeros((grid.side, grid.side, 1), np.uint8)
