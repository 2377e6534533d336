"""The ledger as a leaderboard: public and private scores beside the out-of-fold metric, and the gap between them."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ..config import nearest
from ..errors import ConfigError, PhalanxError, one_line
from ..runs.ledger import LedgerRow, about
from ..runs.reader import FoldRun, folds_of
from ..runtime.sidecar import read_sidecar
from .standing import Group

SORTS = ("public", "private", "oof", "gap", "date")
BEST = "*"
UNKNOWN = "unknown"
HEAD = (
    "public", "private", "out of fold", "gap", "metric", "kind", "name", "model", "folds or members", "commit",
    "sha256", "date", "note",
)  # fmt: skip


class Entry(NamedTuple):
    """A row with its numbers, None where there is none, and the numbers that are the best of its group."""

    row: LedgerRow
    group: Group
    public: float | None
    private: float | None
    oof: float | None
    best: frozenset[str] = frozenset()

    @property
    def gap(self) -> float | None:
        """The public score less the metric out of fold."""
        return None if self.public is None or self.oof is None else self.public - self.oof


def entries(rows: Sequence[LedgerRow], sort: str = "") -> list[Entry]:
    """Rows in groups of one task, data set and metric, each sorted, with the best of each column.

    Args:
        sort: one of ``SORTS``; "": by the public score, then the private one, then out of fold, then the newest.

    Raises:
        ConfigError: another sort.
    """
    if sort and sort not in SORTS:
        raise ConfigError(f"sort={sort}: nothing of that name to sort by{nearest(sort, SORTS)}")
    found = [_entry(_filled(row)) for row in rows]
    known = {entry.group for entry in found if entry.group.task != UNKNOWN and entry.group.metric}
    grouped: dict[Group, list[Entry]] = {}
    for entry in found:
        group = _joined(entry.group, known)
        grouped.setdefault(group, []).append(entry._replace(group=group))
    ordered = sorted(grouped, key=lambda group: (group.task == UNKNOWN, group))
    return [entry for group in ordered for entry in _ranked(grouped[group], sort)]


def _joined(group: Group, known: set[Group]) -> Group:
    """The only group that a row of unknown metric, task or data can be of; its own if there are none, or several."""
    able = [
        other
        for other in known
        if group.metric in ("", other.metric)
        and (group.metric == "" or group.higher_is_better == other.higher_is_better)
        and group.task in (UNKNOWN, other.task)
        and group.data in ("", other.data)
    ]
    return able[0] if len(able) == 1 else group


def _entry(row: LedgerRow) -> Entry:
    group = Group(row.task or UNKNOWN, row.metric, row.higher_is_better != "false", row.data)
    return Entry(row, group, number(row.public), number(row.private), number(row.out_of_fold))


def _filled(row: LedgerRow) -> LedgerRow:
    """A row of an earlier ledger with task, data set and model, if what it is of is still there."""
    if row.task:
        return row
    path = Path(row.file) if row.file else Path()
    try:
        if row.kind == "run":
            return replace(row, **about(folds_of(path)[:1])) if row.file and path.is_dir() else row
        sidecar, _ = read_sidecar(path, verify=False) if row.file else (None, [])
        folds = [FoldRun(Path(folder.rpartition(": ")[2])) for folder in sidecar.run_hashes] if sidecar else []
        return replace(row, **about(folds)) if folds else row
    except (PhalanxError, OSError):
        return row


def _ranked(rows: Sequence[Entry], sort: str) -> list[Entry]:
    higher = rows[0].group.higher_is_better
    sign = 1 if higher else -1

    def order(value: float | None) -> float:
        return -math.inf if value is None else sign * value

    def of(name: str, entry: Entry) -> Any:
        value = getattr(entry, name)
        return order(value)

    names = {"": ("public", "private", "oof"), "gap": ("gap",), "date": ()}.get(sort, (sort,))
    ranked = sorted(rows, key=lambda one: (*(of(name, one) for name in names), one.row.time), reverse=True)
    tops = {name: max(of(name, one) for one in rows) for name in ("public", "private", "oof")}
    counts = {name: sum(getattr(one, name) is not None for one in rows) for name in tops}
    return [
        one._replace(
            best=frozenset(
                name for name, top in tops.items() if counts[name] > 1 and math.isfinite(top) and of(name, one) == top
            )
        )
        for one in ranked
    ]


def number(text: str) -> float | None:
    """A finite number; None of other text."""
    try:
        found = float(text)
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def to_text(found: Sequence[Entry]) -> str:
    """A table for the terminal, one for each group."""
    groups = list(dict.fromkeys(entry.group for entry in found))
    parts = []
    for group in groups:
        lines = [HEAD, *(_line(entry) for entry in found if entry.group == group)]
        cells = [[one_line(cell) for cell in line] for line in lines]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        table = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]
        parts.append("\n".join([f"{_title(group)}:"] * (len(groups) > 1) + table))
    notes = []
    if any(entry.best for entry in found):
        notes.append(f"{BEST} the best of its column")
    if any(entry.gap is not None for entry in found):
        notes.append("gap: public score less out of fold")
    return "\n\n".join([*parts, *["; ".join(notes)] * bool(notes)])


def _title(group: Group) -> str:
    return "of unknown task" if group.task == UNKNOWN else group.title


def _line(entry: Entry) -> tuple[str, ...]:
    row = entry.row
    gap = "-" if entry.gap is None else f"{entry.gap:+.4f}"
    return (
        *(
            f"{text}{BEST if name in entry.best else ''}" if text else "-"
            for name, text in (("public", row.public), ("private", row.private), ("oof", row.out_of_fold))
        ),
        gap, row.metric or "-", row.kind, row.name, row.model or "-", _short(_made_of(row)), row.commit[:8],
        row.sha256[:8], row.time[:10], row.note,
    )  # fmt: skip


def _made_of(row: LedgerRow) -> str:
    """Folds of a run; of a vote how it was made, and of which files and runs."""
    if row.kind == "run" or not row.members:
        return row.folds
    how, *members = row.members.split("; ")
    if row.kind == "vote":
        return "; ".join([how, *(Path(name).stem for name in members)])
    return ", ".join(dict.fromkeys(Path(folder).parent.name or folder for folder in row.members.split("; ")))


def _short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def to_json(found: Sequence[Entry]) -> dict[str, Any]:
    """All entries as JSON types: the ledger's fields as numbers where they are some, and what is the best."""
    return {
        "rows": [
            {
                **vars(entry.row), "public": entry.public, "private": entry.private, "out_of_fold": entry.oof,
                "gap": entry.gap, "best": sorted(entry.best),
            }
            for entry in found
        ]
    }  # fmt: skip
