"""Grouped folds: all images of a patient are in the same fold, so no fold is validated on a patient it has seen."""

import csv
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ConfigError, DataError, brief
from ..runtime.columns import Texts
from ..runtime.files import write_parts
from ..runtime.reading import MissingFile, fault, numbered_rows, read_text
from ..runtime.spelling import nfc
from ..runtime.terminal import say
from .record_list import groups_of, names_of
from .records import Record

if TYPE_CHECKING:  # slow to load, and training needs no table
    import pandas as pd

Folds = dict[str, int]  # image name -> fold
HEADER = ["image_name", "group", "fold"]
PART = 1 << 16  # characters that are written at once
DRAWS = 20  # orders of the patients that a stratified draw tries


def draw(records: Sequence[Record], count: int, seed: int) -> Folds:
    """Folds of nearly equal size: patients in random order, each into the fold with the fewest images so far."""
    numbers = draw_numbers(records, count, seed)
    return {record.name: fold for record, fold in zip(records, numbers.tolist(), strict=True)}


def draw_numbers(records: Sequence[Record], count: int, seed: int) -> np.ndarray:
    """int32[N]: as :func:`draw`, the fold of each record, without an object for each."""
    patients, of_patient = patients_of(records)
    check_count(patients, count)
    images = np.bincount(of_patient, minlength=patients)
    order = np.random.default_rng(seed).permutation(patients)
    sizes, fold_of = [0] * count, np.empty(patients, np.int32)
    for patient in order[np.argsort(-images[order], kind="stable")].tolist():  # the random order holds among equals
        fold = sizes.index(min(sizes))
        sizes[fold] += int(images[patient])
        fold_of[patient] = fold
    return fold_of[of_patient]


def patients_of(records: Sequence[Record]) -> tuple[int, np.ndarray]:
    """Number of patients, and int32[N] that of each record in the order of their names."""
    groups = Texts(groups_of(records))
    of_patient, number, before = np.empty(len(groups), np.int32), -1, None
    for row in map(int, groups.order()):
        if (group := groups[row]) != before:
            number, before = number + 1, group
        of_patient[row] = number
    return number + 1, of_patient


def check_count(patients: int, count: int) -> None:
    """Raises ConfigError if there are fewer patients than folds."""
    if patients < 2 <= count:
        raise ConfigError(
            f"folds={count}: only one patient, so none can be held out; train on all images with fold=all"
        )
    if patients < count:
        raise ConfigError(f"folds={count}: only {patients} patients; give folds= at most that")


def draw_stratified(records: Sequence[Record], count: int, seed: int, strata: "pd.DataFrame") -> Folds:
    """Folds by patient in which every stratum has nearly its fraction of the whole set.

    scikit-learn's StratifiedGroupKFold assigns patients greedily in one pass, which can leave a rare stratum uneven.
    Of ``DRAWS`` orders, the one with the most even folds in all columns is used (chi-squared).

    Args:
        strata: text, indexed by image name, one column per attribute, as ``attributes.strata`` returns it.

    Raises:
        ConfigError: too few patients, or so uneven ones that a fold is empty.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    check_count(len({record.group for record in records}), count)
    ordered = sorted(records)  # whatever order the disk lists them in
    table = strata.loc[[record.name for record in ordered]]
    joined, groups = table.agg(", ".join, axis=1).to_numpy(), [record.group for record in ordered]
    members = np.stack([np.ones(len(ordered)), *((table[c] == v) for c in table for v in table[c].unique())])
    best, least = np.zeros(0, int), np.inf
    for state in np.random.default_rng((seed, DRAWS)).integers(0, 2**32, DRAWS):
        splitter = StratifiedGroupKFold(count, shuffle=True, random_state=int(state))
        number = np.zeros(len(ordered), int)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of strata smaller than the folds: the printed table shows them
            try:
                for fold, (_, held_out) in enumerate(splitter.split(joined, joined, groups)):
                    number[held_out] = fold
            except ValueError as error:
                raise ConfigError(f"stratify=: {error}; name fewer columns, or lower folds=") from None
        seen = np.stack([members[:, number == fold].sum(1) for fold in range(count)], axis=1)
        expected = members.sum(1, keepdims=True) / count
        uneven = ((seen - expected) ** 2 / expected).sum()
        if uneven < least:
            best, least = number, uneven
    folds = {record.name: int(fold) for record, fold in zip(ordered, best, strict=True)}
    check(records, folds, count)
    return folds


def check(records: Sequence[Record], folds: Folds, count: int) -> None:
    """Raises ConfigError if folds split a patient or leave one of ``count`` empty."""
    of_group: dict[str, int] = {}
    for record in records:
        if of_group.setdefault(record.group, folds[record.name]) != folds[record.name]:
            raise ConfigError(f"patient {record.group} is in two folds ({record.name}); keep a patient in one")
    empty = set(range(count)) - set(folds.values())
    if empty:
        raise ConfigError(f"fold {min(empty)} would have no image; lower folds=, or name fewer columns in stratify=")


def balance(
    records: Sequence[Record], folds: "Folds | np.ndarray", count: int, strata: "pd.DataFrame | None" = None
) -> str:
    """A table of images, patients and, in percent of the fold's images, every stratum; one row per fold and one of all.

    Args:
        folds: or int[N], the fold of each record.
        strata: indexed by image name, one column per attribute, as ``attributes.strata`` returns it.
    """
    numbers = folds if isinstance(folds, np.ndarray) else np.array([folds[record.name] for record in records])
    _, of_patient = patients_of(records)
    columns = dict[str, np.ndarray]()
    if strata is not None:
        table = strata.loc[[record.name for record in records]]
        columns = {name: table[name].to_numpy() for name in table.columns}
    names = [(column, value) for column in columns for value in sorted(set(columns[column]))]
    rows = [["fold", "images", "patients", *(value for _, value in names)]]
    for fold in [*range(count), None]:
        inside = np.ones(len(numbers), bool) if fold is None else numbers == fold
        row = ["all" if fold is None else str(fold), str(int(inside.sum())), str(len(np.unique(of_patient[inside])))]
        row += [f"{100 * (columns[column][inside] == value).mean():.1f}%" for column, value in names]
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(f"{cell:>{w}}" for cell, w in zip(row, widths, strict=True)) for row in rows)


def read(path: Path, records: Sequence[Record], count: int) -> Folds:
    """Folds from a CSV ``image_name,group,fold``. Prints how many of its rows are of other images.

    Raises:
        DataError: the file does not fit the data set, splits a patient, or leaves a fold empty.
    """
    folds: Folds = {}
    of_group: dict[str, int] = {}
    for line, name, group, text in _rows(path):
        fold = int(text) if re.fullmatch("[0-9]{1,9}", text) else count
        if fold >= count:
            raise DataError(f"{path}:{line}: fold {brief(text)} is not one of 0..{count - 1} (folds={count})")
        if name in folds:
            raise DataError(f"{path}:{line}: {name} appears twice")
        folds[name] = fold
        if of_group.setdefault(group, fold) != fold:
            raise DataError(f"{path}:{line}: patient {group} is in two folds; keep a patient in one")
    for record in records:
        if record.name not in folds:
            raise DataError(f"{path}: has no row for {record.image}; make a new fold file under another name")
        if of_group.setdefault(record.group, folds[record.name]) != folds[record.name]:
            raise DataError(f"{path}: patient {record.group} is in two folds ({record.name})")
    empty = set(range(count)) - {folds[record.name] for record in records}
    if empty:
        raise DataError(f"{path}: no image in fold {min(empty)}; lower folds= or make a new fold file")
    others = sorted(folds.keys() - {record.name for record in records})
    if others:
        say(f"note: {path}: {len(others)} row(s) are of images that are not trained on here, such as {others[0]}")
    return {record.name: folds[record.name] for record in records}


def _rows(path: Path) -> list[tuple[int, str, str, str]]:
    """Line, image, patient and fold of each row of a fold file; rows may be padded, as Excel does, with empty cells."""
    expected, remedy = f"expected the header {','.join(HEADER)} and one row per image", "save it as a CSV in UTF-8"
    try:
        text = read_text(path, remedy=remedy)
    except MissingFile:
        raise DataError(f"{path}: no such fold file; make it with `phalanx folds out={path}`") from None
    head = text.lstrip().partition("\n")[0]
    try:
        listed = numbered_rows(text, next((mark for mark in ";\t" if mark in head), ","))
    except ValueError as error:
        raise fault(path, str(error), remedy) from None
    rows = [(line, [nfc(cell.strip()) for cell in row]) for line, row in listed]
    rows = [(line, row) for line, row in rows if any(row)]
    for line, row in rows:
        while len(row) > len(HEADER) and not row[-1]:
            row.pop()
        if len(row) != len(HEADER) and row is not rows[0][1]:
            raise DataError(f"{path}:{line}: {len(row)} cells; {expected}")
    if len(rows) < 2 or rows[0][1] != HEADER:
        raise DataError(f"{path}: {expected}")
    return [(line, row[0], row[1], row[2]) for line, row in rows[1:]]


def write(path: Path, records: Sequence[Record], folds: "Folds | np.ndarray") -> None:
    """A fold CSV, whole or not at all. ``folds``: or int[N], the fold of each record."""
    pairs = zip(names_of(records), groups_of(records), strict=True)
    order = Texts(f"{name}\0{group}" for name, group in pairs).order()

    def parts() -> Iterator[bytes]:
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(HEADER)
        for row in map(int, order):
            name, group, *_ = records[row]
            table.writerow((name, group, folds[row] if isinstance(folds, np.ndarray) else folds[name]))
            if text.tell() > PART:
                yield text.getvalue().encode()
                text.seek(0)
                text.truncate()
        yield text.getvalue().encode()

    write_parts(path, parts())
