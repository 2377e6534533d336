"""The tables of classifications in docs/results.md: scores by column, paired gains, verdicts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..runtime.metric import Metric
from ..scoring.label_table import SUBSETS, LabelTable
from .results import SweepResult
from .table import Column, SweepRow, Table, runs_at
from .verdict import Gain, gain_of, verdict


class LabelScores:
    """The figures of one result by column, each computed once."""

    def __init__(self, result: SweepResult, labels: LabelTable):
        assert result.predicted is not None
        self.result, self._labels, self._made = result, labels, result.predicted.arrays
        self._values: dict[tuple[str, str], tuple[float, np.ndarray]] = {}

    def figures(self, column: Column) -> tuple[float, np.ndarray]:
        """A column's value, and its values float64[RESAMPLES] in draws of patients, the same for all results."""
        key = column.metric, column.images
        if key not in self._values:
            score = self._labels.score(self.result.row, self._made, column.images)
            self._values[key] = score.value(column.metric), score.resampled(column.metric)
        return self._values[key]


@dataclass(frozen=True)
class PairedLabels:
    """Differences of two recipes on the same test images: by seed, and in draws of patients, averaged over seeds.

    A draw has the same patients under every seed, so that the spread over draws is that of the mean over seeds.
    """

    pairs: tuple[tuple[LabelScores, LabelScores], ...]  # of each seed: the row, its baseline

    @classmethod
    def of(cls, ours: Sequence[LabelScores], baseline: Sequence[LabelScores]) -> "PairedLabels":
        """Pairs the seeds and folds that both recipes have."""

        def key(scores: LabelScores) -> tuple[int, tuple[int, ...]]:
            result = scores.result
            return result.seed, tuple(result.folds or [result.fold])

        others = {key(other): other for other in baseline}
        return cls(tuple((one, other) for one in ours if (other := others.get(key(one)))))

    @cached_property
    def seeds(self) -> int:
        """Number of pairs."""
        return len(self.pairs)

    def by_seed(self, column: Column) -> np.ndarray:
        """float64[S]: the difference of each seed."""
        return np.array([one.figures(column)[0] - other.figures(column)[0] for one, other in self.pairs])

    def patient_variance(self, column: Column) -> float:
        """Variance of the mean over seeds that comes from which patients were drawn."""
        drawn = np.mean([one.figures(column)[1] - other.figures(column)[1] for one, other in self.pairs], axis=0)
        defined = drawn[~np.isnan(drawn)]
        return float(defined.var(ddof=1)) if 2 * len(defined) >= len(drawn) else float("inf")


def span_text(values: Sequence[float]) -> str:
    """Mean over seeds, and their standard deviation."""
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def cell_text(ours: Sequence[LabelScores], gain: Gain | None, column: Column) -> str:
    """A column's value with its spread, and the gain over the baseline with its interval."""
    if not ours:
        return ""
    text = span_text([scores.figures(column)[0] for scores in ours])
    if gain is None:
        return text
    interval = f" [{gain.interval[0]:+.3f}, {gain.interval[1]:+.3f}]" if gain.interval else ""
    return f"{text}; {gain.mean:+.3f}{interval}"


def column_title(column: Column) -> str:
    """A column's head.

    >>> column_title(Column(name="two", metric="macro_f1", images="two_labels"))
    'two: macro f1'
    """
    return f"{column.name}: {column.metric.replace('_', ' ')}"


def columns_text(table: Table) -> list[str]:
    """What the columns are, and which one the verdicts are about."""
    named = [f"*{one.name}*: {one.metric.replace('_', ' ')} on {SUBSETS[one.images]}" for one in table.columns]
    return [f"{'; '.join(named)}. The verdict is about *{table.main}*.", ""]


def section(
    table: Table,
    found: Mapping[str, Sequence[LabelScores]],
    pairs: Mapping[tuple[str, str], PairedLabels],
    scale: str | None,
) -> tuple[list[str], Counter]:
    """The Markdown table of a table's rows, and its verdicts.

    Args:
        found: scores by row.
        pairs: comparisons by (table, row) at the scale, which lend each other their spread over seeds.
    """
    head = ["row", "baseline", "outcome", "seeds", *map(column_title, table.columns), "verdict"]
    lines, verdicts = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)], Counter[str]()
    main = table.by_column[table.main or ""]
    for row in table.rows:
        ours, pair = found.get(row.name, []), pairs.get((table.name, row.name))
        rest = [other for key, other in pairs.items() if key != (table.name, row.name)]
        gains = {one.name: gain_of(pair, rest, one) if pair else None for one in table.columns}
        reached = _verdict(row, ours, gains[main.name], main, scale)
        if row.outcome and not reached.startswith("not run (scale"):
            verdicts[reached] += 1
        cells = [row.name, row.baseline or "", row.outcome or "", str(len(ours)) if ours else ""]
        cells += [cell_text(ours, gains[one.name], one) for one in table.columns]
        lines.append("| " + " | ".join([*cells, reached]) + " |")
    return lines, verdicts


def _verdict(row: SweepRow, ours: Sequence[LabelScores], gain: Gain | None, main: Column, scale: str | None) -> str:
    if scale is not None and not runs_at(row, scale):
        return f"not run (scale {', '.join(row.scales or [])})"
    if not ours:
        return "not run"
    return verdict(row.outcome, gain, Metric(main.metric)) if row.outcome else ""
