"""Classes of a prediction: the figure of each, true and false positives and negatives; sorted, and of two side by side.

False positives and negatives of a class say which way it errs, which its Dice, F1 or AUC does not.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from ..errors import ConfigError
from .confusion import BinaryCounts

Unit = Literal["pixels", "boxes", "images"]  # what true and false positives are counted in
Sort = Literal["value", "fp", "fn", "precision", "recall", "name"]
SORTS: tuple[Sort, ...] = ("value", "fp", "fn", "precision", "recall", "name")
WORST_HIGH = ("fp", "fn")  # of the other figures the lowest are the worst


class ClassFigures(NamedTuple):
    """A class over some images.

    Attributes:
        value: the metric of this class alone; NaN if it is not defined.
        present: images whose ground truth has the class.
        tp, fp, fn: in the unit of the table.
        precision, recall: NaN if not defined.
    """

    label: str
    value: float
    present: int
    tp: float
    fp: float
    fn: float
    precision: float
    recall: float


class ClassTable(NamedTuple):
    """The classes of a prediction.

    Attributes:
        name: of the prediction.
        figure: what ``value`` of the rows is.
        rows: in the order of the classes.
    """

    name: str
    figure: str
    unit: Unit
    rows: tuple[ClassFigures, ...]


def class_rows(
    classes: Sequence[str], values: np.ndarray, present: np.ndarray, counts: BinaryCounts
) -> tuple[ClassFigures, ...]:
    """Rows of arrays [C]."""
    columns = (counts.tp, counts.fp, counts.fn, counts.precision, counts.recall)
    return tuple(
        ClassFigures(label, float(values[c]), int(present[c]), *(float(column[c]) for column in columns))
        for c, label in enumerate(classes)
    )


def check_sort(sort: str, own: Sequence[str] = ()) -> None:
    """Raises ConfigError if classes cannot be sorted by that; ``own``: further columns of a table."""
    known = list(dict.fromkeys([*SORTS, *own]))
    if sort not in known:
        from ..config import nearest  # which loads pydantic

        raise ConfigError(f"sort={sort}: no such column{nearest(sort, known)}; one of {', '.join(known)}")


def by(rows: Sequence[ClassFigures], sort: str) -> list[ClassFigures]:
    """Classes from the worst; those without the figure last. By name: in the order of the classes."""
    return [rows[c] for c in order_by(rows, sort)]


def order_by(rows: Sequence[ClassFigures], sort: str, own: Mapping[str, np.ndarray] | None = None) -> list[int]:
    """Numbers of the classes from the worst, as :func:`by`.

    Args:
        own: further columns float[C] of a table, by their names; the lowest are the worst.
    """
    if sort == "name":
        return list(range(len(rows)))
    of_rows = sort in ClassFigures._fields
    values = [float(getattr(row, sort)) if of_rows else float((own or {})[sort][c]) for c, row in enumerate(rows)]
    sign = -1 if sort in WORST_HIGH else 1
    return sorted(range(len(rows)), key=lambda c: (math.isnan(values[c]), sign * values[c]))


def count(value: float) -> str:
    """Pixels, boxes or images."""
    return f"{value:.0f}"


def figure(value: float, decimals: int = 4) -> str:
    """A number for a table; empty if it is not defined."""
    if math.isnan(value):
        return ""
    return f"{value:.{decimals}f}"


def side_by_side(first: ClassTable, second: ClassTable, sort: str) -> str:
    """Figures of the classes of two predictions, the worst of the second first, for the terminal."""
    before = {row.label: row for row in first.rows}
    rows = by([row for row in second.rows if row.label in before], sort)
    heads = ["class", second.figure, "FP", "FN", "precision", "recall"]
    lines = [heads]
    for row in rows:
        old = before[row.label]
        pairs = [(old.value, row.value, figure), (old.fp, row.fp, count), (old.fn, row.fn, count),
                 (old.precision, row.precision, figure), (old.recall, row.recall, figure)]  # fmt: skip
        lines.append([row.label, *(f"{show(a) or '-'} > {show(b) or '-'}" for a, b, show in pairs)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines]
    about = f"{first.name} > {second.name}, classes of each by all of its images; FP and FN in {second.unit}"
    return "\n".join([about, *text])


def tables_json(first: ClassTable, second: ClassTable) -> dict[str, Any]:
    """Both sides of each class that both have, as JSON types; what is not defined is null."""
    before = {row.label: row for row in first.rows}
    return {
        "unit": second.unit,
        "figure": second.figure,
        "classes": {
            row.label: {"first": _row_json(before[row.label]), "second": _row_json(row)}
            for row in second.rows
            if row.label in before
        },
    }


def _row_json(row: ClassFigures) -> dict[str, float | None]:
    return {key: None if math.isnan(value) else value for key, value in row._asdict().items() if key != "label"}
