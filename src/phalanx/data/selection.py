"""Which images a run trains on, how often, with whose labels, and why: one table over all rules of ``data.*``.

The table covers the whole data set, not one fold, so that all folds of a run share it. An image that a rule drops is
left out of training only: it stays in its fold and is predicted and scored there. An image in quarantine is in no fold.
"""

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import ConfigError, brief
from ..runtime.reading import LARGE, fault, read_rows
from ..runtime.spelling import nfc
from .records import Record

CHOOSING = ("hard",)  # rules that leave out whatever they did not choose
HEADER = ("image_name", "weight", "source", "rule", "reason")
SHOWN = 40  # images left out, as training lists them


class SelectionRow(NamedTuple):
    """One image of a selection.

    Attributes:
        weight: mean appearances per epoch; 0: never trained on.
        source: of the labels: ``annotation``, ``restored`` if the image was made from one with that label, or
            ``none`` if no label of the image is read.
        rule: key of ``data`` that decided, such as ``drop``; empty for an ordinary image of weight 1.
        reason: what the rule found.
    """

    image: str
    weight: float = 1.0
    source: str = "annotation"
    rule: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Selection:
    """The rows of all training images of a data set, sorted by image name."""

    rows: tuple[SelectionRow, ...]

    @cached_property
    def by_image(self) -> dict[str, SelectionRow]:
        """Rows by image name."""
        return {row.image: row for row in self.rows}

    @property
    def left_out(self) -> list[SelectionRow]:
        """Rows of the images that are never trained on."""
        return [row for row in self.rows if not row.weight]

    @property
    def trained_weights(self) -> dict[str, float]:
        """Weights of the images that are trained on: what a run must not change while it lasts."""
        return {row.image: row.weight for row in self.rows if row.weight}

    def trained(self, records: Sequence[Record]) -> list[Record]:
        """The records that are trained on.

        Raises:
            ConfigError: none is left.
        """
        left = [record for record in records if self.by_image[record.name].weight]
        if not left:
            rules = " and ".join(sorted({f"data.{self.by_image[record.name].rule}" for record in records}))
            raise ConfigError(f"{rules}: leaves no training image; choose a limit that fewer images cross")
        return left

    def weights(self, records: Sequence[Record]) -> np.ndarray | None:
        """float64[N] of the records; None if every image that is trained on has weight 1."""
        if set(self.trained_weights.values()) <= {1.0}:
            return None
        return np.array([self.by_image[record.name].weight for record in records])

    def left_out_text(self, records: Sequence[Record]) -> str:
        """Lines that list which of the records are left out, and why; empty if none is. A rule that chooses what is
        trained on, not what is left out, has one line."""
        rows = [row for record in records if not (row := self.by_image[record.name]).weight]
        if not rows:
            return ""
        named = [row for row in rows if row.rule not in CHOOSING]
        lines = [f"{len(rows)} of {len(records)} training images left out"]
        lines += [f"  {row.image} (data.{row.rule}: {row.reason})" for row in named[:SHOWN]]
        lines += [f"  and {len(named) - SHOWN} more, in selection.csv"] if len(named) > SHOWN else []
        for rule in CHOOSING:
            reasons = [row.reason for row in rows if row.rule == rule]
            lines += [f"  {len(reasons)} images (data.{rule}: {reasons[0]})"] if reasons else []
        return "\n".join(lines)

    def difference(self, other: "Selection") -> str:
        """The first image with another weight, in words; empty if all have the same. Reasons may differ."""
        ours, theirs = self.trained_weights, other.trained_weights
        for image in sorted(ours.keys() | theirs.keys()):
            was, now = ours.get(image, 0.0), theirs.get(image, 0.0)
            if was != now:
                return f"{image} had weight {was:g}, now {now:g}"
        return ""

    def to_csv(self) -> str:
        """All rows, weights with every digit."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(HEADER)
        table.writerows(_cells(row, repr(row.weight)) for row in self.rows)
        return text.getvalue()

    @classmethod
    def read(cls, path: Path) -> "Selection":
        """The table of :meth:`to_csv`.

        Raises:
            DataError: the file cannot be read, or is another table.
        """
        rows = read_rows(path, LARGE, "restore it, or train under another name=")
        if not rows or tuple(rows[0]) != HEADER:
            head = brief(",".join(rows[0]) if rows else "")
            raise fault(path, f"not a selection of training images (its header is {head}, not {','.join(HEADER)})")
        found: dict[str, SelectionRow] = {}
        for row in rows[1:]:
            weight = _weight(row[1]) if len(row) == len(HEADER) else None
            image = nfc(row[0])
            if weight is None or image in found:
                why = "is a second row of its image" if image in found else "has another form"
                raise fault(path, f"not a selection of training images (the row {brief(','.join(row))} {why})")
            found[image] = SelectionRow(image, weight, *row[2:])
        return cls(tuple(found.values()))

    def to_text(self, *, every: bool = False) -> str:
        """Counts per rule, then the rows that a rule decided.

        Args:
            every: list the ordinary images as well.
        """
        weights = self.trained_weights
        lines = [
            f"{len(self.rows)} training images: {len(weights)} trained on, {sum(weights.values()):g} appearances per "
            f"epoch, {len(self.left_out)} left out"
        ]
        counts = Counter(row.rule for row in self.rows)
        for rule in sorted(rule for rule in counts if rule):
            found = sorted({row.weight for row in self.rows if row.rule == rule})
            span = f"{found[0]:g}" if len(found) == 1 else f"{found[0]:g} to {found[-1]:g}"
            lines.append(f"  data.{rule}: {counts[rule]} image(s), weight {span}")
        shown = [row for row in self.rows if row.rule or every]
        if not shown:
            return "\n".join([*lines, "  no rule applies: every image has weight 1"])
        cells = [HEADER, *(_cells(row, f"{row.weight:g}") for row in shown)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        table = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
        return "\n".join([*lines, "", *table])


def _weight(text: str) -> float | None:
    """A weight as :func:`to_csv` writes it; None if it is not one."""
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?(e[+-]?[0-9]{1,3})?", text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def _cells(row: SelectionRow, weight: str) -> tuple[str, ...]:
    return row.image, weight, row.source, row.rule, row.reason
