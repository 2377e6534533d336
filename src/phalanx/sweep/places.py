"""The results of a scale and data set that belong to the present recipes, and how a row is paired with its baseline."""

from dataclasses import dataclass
from pathlib import Path

from ..runtime.metric import Metric
from .figures import has_figures
from .iou_claims import PairedIoU
from .label_claims import LabelScores, PairedLabels
from .results import RESULTS, SweepResult, changed, label_fault, read_labels, read_results
from .table import SweepRow, Table, runs_at
from .verdict import Paired


@dataclass(frozen=True)
class Place:
    """A scale with a data set, and the valid results there by (table, row); those of labels also with their scores."""

    scale: str
    data: str
    results: dict[tuple[str, str], list[SweepResult]]
    stale: list[str]
    labels: dict[tuple[str, str], list[LabelScores]]

    def paired(self, table: Table, row: SweepRow) -> Paired | PairedIoU | PairedLabels | None:
        """The row paired with its baseline; None if there is nothing to pair."""
        if table.task == "classify":
            one, two = (self.labels.get((table.name, name or ""), []) for name in (row.name, row.baseline))
            found = PairedLabels.of(one, two)
            return found if found.pairs else None
        ours, other = (self.results.get((table.name, name or ""), []) for name in (row.name, row.baseline))
        if table.claims == "iou":
            pixels = PairedIoU.of(ours, other)
            return pixels if pixels.pairs else None
        pair = Paired.of(ours, other, gap=table.gap)
        return pair if pair.values else None

    def metric(self, table: Table) -> Metric | None:
        """The metric of a table's claims; None if it has no results here."""
        found = next((rows[0].metric for (name, _), rows in self.results.items() if name == table.name), None)
        return Metric("IoU") if found and table.claims == "iou" else found


def places(tables: list[Table], results: Path = RESULTS) -> list[Place]:
    """Every scale and data set with results; those by another recipe than the present one are stale."""
    by_name = {table.name: table for table in tables}
    found: dict[tuple[str, str], Place] = {}
    for result in read_results(results):
        place = found.setdefault((result.scale, result.data), Place(result.scale, result.data, {}, [], {}))
        table = by_name.get(result.table)
        row = next((row for row in table.rows if row.name == result.row), None) if table else None
        if table is None or row is None:
            why: str | None = "the row no longer exists"
        elif not runs_at(row, result.scale):
            why = "the row no longer runs at this scale"
        else:
            why = misplaced(result, table, row) or changed(result, table.recipe(row, result.scale, result.seed))
        if why is None and table is not None and row is not None and table.task == "classify":
            truth = read_labels(results, result.scale, result.data)
            why = label_fault(result, row.thresholds is not None, truth)
            if why is None and truth is not None:
                place.labels.setdefault((result.table, result.row), []).append(LabelScores(result, truth))
        if why is None:
            place.results.setdefault((result.table, result.row), []).append(result)
        else:
            place.stale.append(f"`{result.path(results).relative_to(results)}`: {why}")
    return [found[key] for key in sorted(found, key=lambda key: (key[0] != "small", key))]


def misplaced(result: SweepResult, table: Table, row: SweepRow) -> str | None:
    """Why a result does not belong in a row of a table, whatever its recipe; None if it does."""
    if result.scored_on != table.scored_on:
        return f"was scored on {result.scored_on}, the table is on {table.scored_on}"
    if table.gap and result.held_out is None:
        return "has no out-of-fold result, which the gap needs"
    if not has_figures(result.figures, table.figures):
        return "lacks a figure that the table has"
    if table.claims == "iou" and result.pixels is None:
        return "has no pixels, which IoU needs"
    if table.collapse and not row.vote and result.iou_curve is None:
        return "has no curve of IoU"
    return None
