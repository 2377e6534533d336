"""Grouped folds: all images of a patient lie in the same fold, so no fold is validated on a face it has seen."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import ConfigError, DataError
from ..files import write_text
from .records import Record

Folds = dict[str, int]  # image name -> fold
HEADER = ["image_name", "group", "fold"]


def draw(records: Sequence[Record], count: int, seed: int) -> Folds:
    """Folds of nearly equal size: patients in random order, each to the fold with the fewest images so far."""
    groups: dict[str, list[str]] = {}
    for record in records:
        groups.setdefault(record.group, []).append(record.name)
    if len(groups) < count:
        raise ConfigError(f"folds={count}: only {len(groups)} patients; give folds= at most that")
    order = np.random.default_rng(seed).permutation(sorted(groups))
    sizes, folds = [0] * count, {}
    for group in sorted(order, key=lambda g: -len(groups[g])):  # stable: the random order holds among equals
        fold = sizes.index(min(sizes))
        sizes[fold] += len(groups[group])
        folds.update(dict.fromkeys(groups[group], fold))
    return folds


def read(path: Path, records: Sequence[Record], count: int) -> Folds:
    """Folds from a CSV ``image_name,group,fold``.

    Raises:
        DataError: the file does not fit the data set, splits a patient, or leaves a fold empty.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError:
        raise DataError(f"{path}: no such fold file; make it with `phalanx folds out={path}`") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV in UTF-8 ({error}); save it as one") from None
    if not rows or list(rows[0]) != HEADER:
        raise DataError(f"{path}: expected the header {','.join(HEADER)} and a row an image")
    folds: Folds = {}
    of_group: dict[str, int] = {}
    for line, row in enumerate(rows, 2):
        text = row["fold"] or ""
        if not text.isdecimal() or int(text) >= count:
            raise DataError(f"{path}:{line}: fold {row['fold']!r} is not one of 0..{count - 1} (folds={count})")
        if row["image_name"] in folds:
            raise DataError(f"{path}:{line}: {row['image_name']} stands twice")
        folds[row["image_name"]] = int(text)
        if of_group.setdefault(row["group"], int(text)) != int(text):
            raise DataError(f"{path}:{line}: patient {row['group']} lies in two folds; keep a patient in one")
    for record in records:
        if record.name not in folds:
            raise DataError(f"{path}: has no row for {record.image}; make a new fold file under another name")
        if of_group.setdefault(record.group, folds[record.name]) != folds[record.name]:
            raise DataError(f"{path}: patient {record.group} lies in two folds ({record.name})")
    empty = set(range(count)) - {folds[record.name] for record in records}
    if empty:
        raise DataError(f"{path}: no image in fold {min(empty)}; lower folds= or make a new fold file")
    return {record.name: folds[record.name] for record in records}


def read_plain(path: Path) -> Folds:
    """Folds from a CSV that this program wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        return {row["image_name"]: int(row["fold"]) for row in csv.DictReader(file)}


def write(path: Path, records: Sequence[Record], folds: Folds) -> None:
    """A fold CSV, whole or not at all."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(HEADER)
    table.writerows((record.name, record.group, folds[record.name]) for record in sorted(records))
    write_text(path, text.getvalue())
