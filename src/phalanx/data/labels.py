"""Data sets of images with labels: one folder per class, or a CSV with a row per image.

Labels are float32[C], 1 or 0 for each class and NaN where it is not labelled.
"""

from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import ClassifyData, nearest
from ..errors import DataError, brief
from ..runtime.spelling import nfc
from . import records
from .groups import check_used, read_groups
from .label_table import Labels, one_hot, table_of
from .patients import FOLDERS_KEY, patient_of_name
from .presence import presence_row, presence_truth
from .record_list import RecordList
from .records import Record
from .restored import source_of

if TYPE_CHECKING:
    import pandas as pd


def labels_of(found: Sequence[Record], data: ClassifyData) -> np.ndarray:
    """Labels float32[N, C] of records.

    Raises:
        DataError: a record without labels, or whose file cannot be used.
    """
    labels = np.empty((len(found), len(data.classes)), np.float32)
    for row, record in zip(labels, found, strict=True):
        row[:] = label_row(record, data)
    return labels


def label_row(record: Record, data: ClassifyData) -> Labels:
    """Labels of a record. Raises DataError if it has none, or its file cannot be used."""
    if record.labels is None:
        raise DataError(f"{record.image}: has no label")
    if data.layout == "folders":
        return one_hot([nfc(record.labels.name)], data.classes)
    if data.layout == "presence":
        return presence_row(record.labels, data)
    rows, name = table_of(record.labels, data), source_of(record.name, data)
    row = rows.row(name)
    if row is None:
        raise DataError(f"{record.labels}: has no row of {brief(name)}")
    return rows.labels(row)


def label_strata(found: Sequence[Record], data: ClassifyData) -> "pd.DataFrame":
    """Text by image name, one column per class: with, without or not labelled; what stratified folds balance."""
    import pandas as pd

    labels = np.nan_to_num(labels_of(found, data), nan=2.0).astype(np.int8)
    words = {name: [f"{word} {name}" for word in ("without", "with", "not labelled")] for name in data.classes}
    columns = {name: np.array(words[name], object)[labels[:, i]] for i, name in enumerate(data.classes)}
    return pd.DataFrame(columns, index=[record.name for record in found])


# one folder per class


def folder_records(root: Path, data: ClassifyData, without: Collection[str] = ()) -> Sequence[Record]:
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
    found = RecordList(
        root,
        (
            record._replace(
                labels=folder,
                group=groups.get(record.name) or patient_of_name(record.name, options.group_pattern, FOLDERS_KEY),
            )
            for folder in there.values()
            for record in (records.scan(folder, complete=False) if any(folder.iterdir()) else [])
            if record.name not in without
        ),
    ).sorted()
    for one, other in pairwise(found):
        if one.name == other.name:
            raise DataError(f"{other.image}: the name {one.name} is also that of {one.image}; an image has one class")
    check_used(data.groups_file, groups, [record.name for record in found] if groups else [])
    return records.some(found, f"{root}: no image in the folders of the classes")


def folders_of(data: ClassifyData) -> Any:
    assert data.folders is not None  # the configuration fills in the defaults
    return data.folders


# a CSV


def table_records(data: ClassifyData, without: Collection[str] = ()) -> Sequence[Record]:
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
    places = rows.rows_of(images)
    lost = rows.without(places, without)
    if lost:
        raise DataError(
            f"{path}: lists {brief(lost[0])}, which is not an image below {folder} ({len(lost)} such row(s)); restore "
            "it, or delete the row"
        )
    found, lacking = RecordList(folder), list[str]()
    for record, row in zip(images, places.tolist(), strict=True):
        if record.name in without:
            continue
        if row < 0 or all(value != value for value in rows.labels(row)):
            lacking.append(record.name)
        else:
            found.append(Record(record.name, groups.get(record.name, nfc(rows.group(row))), record.image, path))
    if lacking and not data.skip_unlabelled:
        raise DataError(
            f"{path}: has no label of {brief(lacking[0])} ({len(lacking)} such image(s)). Add what is missing, or "
            "leave such images out with data.skip_unlabelled=true"
        )
    check_used(data.groups_file, groups, [record.name for record in found] if groups else [])
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
