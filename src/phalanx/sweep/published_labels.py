"""Published figures of classifications: whether they are possible at all, beside our own; a section of results.md."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from ..config import Strict, read_plain, validate_as
from ..config.base import Count, Fraction
from ..config.compose import config_folder
from ..errors import ConfigError
from ..runtime.files import format_mark
from ..runtime.reading import LARGE, fault, read_mapping
from ..scoring.possible import possible_row

FILE = "published_classification.yaml"
RANKS = Path("results/classification")
BINARY = ("recall", "specificity", "f1")
OWN = ("accuracy", "macro_auc", "disease_recall", "disease_specificity", "disease_f1")
Unit = Annotated[float, Field(ge=0, le=1)]


class PublishedRow(Strict):
    """The figures of one model, as printed. Of ``disease`` against healthy: recall, specificity and F1."""

    accuracy: Unit
    auc: Fraction
    recall: Unit
    specificity: Unit
    f1: Unit


class PublishedTable(Strict):
    """The rows of one publication."""

    title: str
    source: str
    positives: Count
    negatives: Count
    decimals: Annotated[int, Field(ge=1, le=9)] = 4
    rows: dict[str, PublishedRow]


def read_published_tables() -> dict[str, PublishedTable]:
    """All published tables by key. Raises ConfigError if the file is missing or an entry is wrong."""
    path = config_folder() / FILE
    found = {}
    for key, entry in read_plain(path).items():
        try:
            found[key] = validate_as(PublishedTable, entry)
        except ConfigError as error:
            raise ConfigError(f"{path}: {key}: {error}") from None
    return found


def verdict_of(row: PublishedRow, table: PublishedTable) -> tuple[bool, str]:
    """Whether a row can come from one confusion matrix, and why not.

    The accuracy is that of all classes: every image that it counts as right is right as diseased or healthy, too.
    """
    images, half = table.positives + table.negatives, 10.0**-table.decimals * (0.5 + 1e-9)
    right = round(row.accuracy * images)
    if abs(right / images - row.accuracy) > half:
        return False, f"no number of {images} images gives accuracy {row.accuracy:.{table.decimals}f}"
    figures = {name: getattr(row, name) for name in BINARY}
    found = possible_row(figures, table.positives, table.negatives, table.decimals)
    if not found.possible:
        return False, found.reason
    most = _most_right(row, table, half)
    least = math.ceil((row.accuracy - half) * images)
    if most < least:
        return False, f"accuracy {row.accuracy:.{table.decimals}f} needs {least} right images, and recall and "\
                      f"specificity leave {most}"  # fmt: skip
    return True, ""


def _most_right(row: PublishedRow, table: PublishedTable, half: float) -> int:
    """The most images that can be right as diseased or healthy."""
    found = min(table.positives, math.floor((row.recall + half) * table.positives))
    return found + min(table.negatives, math.floor((row.specificity + half) * table.negatives))


def twins(name: str, table: PublishedTable) -> list[str]:
    """Rows with the same recall, specificity and F1 at another accuracy."""
    row = table.rows[name]
    same = {key: getattr(row, key) for key in BINARY}
    return [
        other
        for other, values in table.rows.items()
        if other != name and values.accuracy != row.accuracy and all(getattr(values, k) == v for k, v in same.items())
    ]


def section(ranks: Path = RANKS) -> list[str]:
    """Lines of Markdown about all published tables, and our own results.

    Raises:
        ConfigError: a published entry is wrong. DataError: a file of ours cannot be read.
    """
    lines = []
    for table in read_published_tables().values():
        lines += ["", f"## {table.title}", "", f"Published: {' '.join(table.source.split())}.", ""]
        lines += [*_intro(table), "", *_published(table), "", *_winners(table)]
    return [*lines, *_own(ranks)]


def _intro(table: PublishedTable) -> list[str]:
    return [
        f"A row is *impossible* if no integer confusion matrix of {table.positives} diseased and {table.negatives} "
        f"healthy images gives its figures to {table.decimals} decimals. F1 is at most 2R / (1 + R) for recall R at "
        "any sizes. That bound is concave, so it also holds for means over classes: a row that exceeds it is "
        "impossible as macro figures, too. A possible row need not be right."
    ]


def _published(table: PublishedTable) -> list[str]:
    head = ["row", "accuracy", "AUC", "recall", "specificity", "F1", "verdict"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, row in table.rows.items():
        possible, why = verdict_of(row, table)
        said = "possible" if possible else f"impossible: {why}"
        if same := twins(name, table):
            said += f"; the same recall, specificity and F1 as {' and '.join(same)} at another accuracy"
        shown = [f"{getattr(row, key):.{table.decimals}f}" for key in ("accuracy", *BINARY)]
        images = table.positives + table.negatives
        cells = [name, f"{shown[0]} ({round(row.accuracy * images)} of {images})", f"{row.auc:.6f}", *shown[1:], said]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _winners(table: PublishedTable) -> list[str]:
    """Who is first by accuracy and by AUC."""
    by = {key: sorted(table.rows, key=lambda name: -getattr(table.rows[name], key)) for key in ("accuracy", "auc")}
    first = by["accuracy"][0]
    same = "is" if first == by["auc"][0] else "is not"
    return [f"The published accuracy winner {same} the AUC winner: {first} by accuracy, {by['auc'][0]} by AUC."]


def _own(ranks: Path) -> list[str]:
    files = sorted(ranks.glob("*.json"))
    if not files:
        return ["", f"Ours: not run; `phalanx rank ... json={ranks}/NAME.json` adds a table here."]
    lines = []
    for file in files:
        values = read_mapping(file, LARGE, "write it again with phalanx rank json=")
        if format_mark("rank").split('"')[3] != values.get("format"):
            raise fault(file, "is not a report of phalanx rank", "write it again, or move it elsewhere")
        try:
            lines += _own_table(file.stem, values)
        except (KeyError, TypeError, AttributeError):
            raise fault(file, "lacks a figure", "write it again with phalanx rank json=") from None
    return lines


def _own_table(name: str, values: Mapping[str, Any]) -> list[str]:
    models: Mapping[str, Mapping[str, Any]] = values["models"]
    columns = [key for key in OWN if all(key in model for model in models.values())]
    head = ["model", *(key.replace("_", " ") for key in columns)]
    lines = ["", f"Ours, {name} ({values['images']} images):", "", "| " + " | ".join(head) + " |"]
    lines.append("|" + "---|" * len(head))
    for model, figures in models.items():
        cells = [model, *("-" if figures[key] is None else f"{figures[key]:.4f}" for key in columns)]
        lines.append("| " + " | ".join(cells).replace("\n", " ") + " |")
    return [*lines, "", str(values["answer"])]
