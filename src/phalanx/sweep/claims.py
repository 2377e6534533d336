"""docs/results.md from the tables and the results of their rows: published and ours, and whether they agree."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..runtime.metric import Metric
from ..scoring.resampling import RESAMPLES
from . import label_claims, published_labels
from .label_claims import LabelScores, PairedLabels, span_text
from .published import Published
from .results import RESULTS, SweepResult, changed, label_fault, read_labels, read_results
from .table import SweepRow, Table, read_table, runs_at, table_names
from .verdict import PRIOR, Gain, Paired, gain_of, verdict

INTRO = f"""\
# Published claims and our results

Made by `phalanx claims` from `configs/sweep/` and `results/sweep/`; no number here is typed by hand. `phalanx sweep
TABLE` runs what is missing.

The published numbers were measured on private X-rays at 2048 pixels, ours on the data and at the scale given above
each table. So the values are not comparable; the *gains* are: a row's Dice minus that of its baseline, on the same
held-out patients, with the same seed. Dice is out of fold, computed from a submission, at the original size; ± is the
standard deviation over seeds. A row that names classes is about their mean only.

Some tables are scored on the test images, whose patients no fold has seen, or on the rotated hands among them; this is
noted there. In these tables a row may be a vote: its members are trained by the same sweep, compared with each other as
`ensemble.sh` does, and voted. If a claim is about the gap, the gain is that in test Dice minus that out of fold: above
zero, the row loses less than its baseline. Intervals there borrow their spread over seeds only from tables that are
scored on the same images.

A published Dice is that of validation unless noted; `configs/published.yaml` has its recipe.

**The interval** (95%) accounts for seeds and patients. Its variance is the sum of two: that of the gain over seeds,
divided by their number, and that of the mean over patients, where a patient that several seeds hold out is one draw.
Two seeds alone say little about their spread. So a row's variance over seeds is averaged with that of all other
comparisons at the scale, which count {PRIOR} degrees of freedom at most (a moderated t-interval; Smyth, 2004). Each
seed draws its own folds, so the first part contains some of the second: the intervals are rather too wide. Of twenty
rows without any effect, one is still expected to be decided.

**Labels.** A table of classifications (`task: classify`) has several scores, each a metric over some of the test
images, of the mean probabilities of all trained folds. F1 and AUC are not means over patients, so the patients' part
of the variance is that of a bootstrap: in each of {RESAMPLES} draws of patients, the same for all rows and seeds, the
row's figure minus the baseline's, averaged over seeds. The seeds' part and the interval are as above. Seeds share the
test images here and differ in folds, weights and order. A softmax that may name one class only is scored against all
labels of an image, class by class. Results have the probabilities of every image, to compute other figures from.

**The verdict.** *agrees*: published as "worked" and our interval is above zero, or as "did not help" and it is below.
*disagrees*: the other way round. *undecided*: the interval contains zero; a difference within noise is neither. So "did
not help" agrees only if we find harm: a few seeds cannot separate no effect from a small one. *open: better* or
*worse*: the source left it open or contradicts itself, and this is what we see. *not run*: no result of the present
recipe. For a metric of which less is better, above and below zero change places.
"""


@dataclass(frozen=True)
class Place:
    """A scale with a data set, and the valid results there by (table, row); those of labels also with their scores."""

    scale: str
    data: str
    results: dict[tuple[str, str], list[SweepResult]]
    stale: list[str]
    labels: dict[tuple[str, str], list[LabelScores]]

    def paired(self, table: Table, row: SweepRow) -> Paired | PairedLabels | None:
        """The row paired with its baseline; None if there is nothing to pair."""
        if table.task == "classify":
            one, two = (self.labels.get((table.name, name or ""), []) for name in (row.name, row.baseline))
            found = PairedLabels.of(one, two)
            return found if found.pairs else None
        ours, other = (self.results.get((table.name, name or ""), []) for name in (row.name, row.baseline))
        pair = Paired.of(ours, other, gap=table.gap)
        return pair if pair.values else None

    def metric(self, table: Table) -> Metric | None:
        """The metric of a table's results; None if it has none here."""
        return next((rows[0].metric for (name, _), rows in self.results.items() if name == table.name), None)


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
            why = misplaced(result, table) or changed(result, table.recipe(row, result.scale, result.seed))
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


def misplaced(result: SweepResult, table: Table) -> str | None:
    """Why a result does not belong in a table, whatever its recipe; None if it does."""
    if result.scored_on != table.scored_on:
        return f"was scored on {result.scored_on}, the table is on {table.scored_on}"
    return "has no out-of-fold result, which the gap needs" if table.gap and result.held_out is None else None


def value_text(results: list[SweepResult], classes: list[str]) -> str:
    """Mean over seeds, and their standard deviation."""
    if not results:
        return ""
    metric, seeds = results[0].metric, dict[int, list[tuple[int, float]]]()
    for result in results:
        chosen = [result.classes.index(name) for name in classes or result.classes]
        for name, images in result.images.items():
            seeds.setdefault(result.seed, []).append((images, float(np.mean(np.take(result.patients[name], chosen)))))
    means = [np.average([value for _, value in rows], weights=[n for n, _ in rows]) for rows in seeds.values()]
    spread = f" ± {metric.text(float(np.std(means, ddof=1)))}" if len(means) > 1 else ""
    return f"{metric.text(float(np.mean(means)))}{spread} ({len(means)})"


def gap_text(results: list[SweepResult], classes: list[str]) -> str:
    """The out-of-fold metric of the same trainings, to follow that of the test images."""
    held_out = [
        replace(result, patients=result.held_out["patients"], images=result.held_out["images"])
        for result in results
        if result.held_out
    ]
    return f"; out of fold {value_text(held_out, classes)}" if held_out else ""


def published_text(number: Published | None) -> str:
    """A published Dice, and what it was measured on if that was not validation; or a gap from validation."""
    if number is not None and number.gap is not None:
        return f"gap {number.gap:+.4f}"
    if number is None or number.dice is None:
        return ""
    return f"{number.dice:.4f}" + {"validation": "", "fold": " (one fold)"}.get(number.score, f" ({number.score})")


def gain_text(gain: Gain | None, decimals: int) -> str:
    """Mean, interval and the single seeds."""
    if gain is None:
        return ""

    def signed(value: float) -> str:
        return f"{value:+.{decimals}f}"

    interval = f" [{signed(gain.interval[0])}, {signed(gain.interval[1])}]" if gain.interval else ""
    return f"{signed(gain.mean)}{interval}; {', '.join(map(signed, gain.by_seed))}"


def section(
    table: Table, place: Place | None, others: Mapping[tuple[str, str], Paired | PairedLabels]
) -> tuple[list[str], Counter]:
    """The Markdown table of a table's rows at a place (None: nothing was run), and its verdicts."""
    if table.task == "classify":
        found = {row: scores for (name, row), scores in place.labels.items() if name == table.name} if place else {}
        pairs = {key: pair for key, pair in others.items() if isinstance(pair, PairedLabels)}
        return label_claims.section(table, found, pairs, place.scale if place else None)
    return masks_section(table, place, {key: pair for key, pair in others.items() if isinstance(pair, Paired)})


def masks_section(
    table: Table, place: Place | None, others: Mapping[tuple[str, str], Paired]
) -> tuple[list[str], Counter]:
    """As :func:`section`, of a segmentation."""
    metric = place.metric(table) if place else None
    shown = figure_names(table, place)
    head = [
        "row",
        "baseline",
        "published",
        "published gain",
        "outcome",
        f"our {metric.title if metric else 'result'} (seeds)",
        *shown,
        "our gain; by seed",
        "verdict",
    ]
    lines, verdicts = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)], Counter[str]()
    for row in table.rows:
        ours = place.results.get((table.name, row.name), []) if place else []
        gain = None
        if place and row.baseline and (pair := others.get((table.name, row.name))):
            chosen = [ours[0].classes.index(name) for name in row.classes or ours[0].classes]
            rest = [other for key, other in others.items() if key != (table.name, row.name)]
            gain = gain_of(pair, rest, chosen)
        found: str = "" if ours else "not run"
        if row.outcome:
            found = verdict(row.outcome, gain, metric) if metric else "not run"
        if found == "not run" and place and not runs_at(row, place.scale):
            found = f"not run (scale {', '.join(row.scales or [])})"
        elif row.outcome:
            verdicts[found] += 1
        number, published = table.published(row), table.published_gain(row)
        cells = [
            row.name + (f" ({', '.join(row.classes)})" if row.classes else ""),
            row.baseline or "",
            published_text(number),
            "" if published is None else f"{published:+.4f}",
            row.outcome or "",
            value_text(ours, row.classes) + (gap_text(ours, row.classes) if table.gap else ""),
            *(figure_text(ours, name) for name in shown),
            gain_text(gain, metric.decimals if metric else 4),
            found,
        ]
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return lines, verdicts


def figure_names(table: Table, place: Place | None) -> list[str]:
    """Names of the figures that a table's results have, in their order; none if the table asks for none."""
    results = [r for (name, _), rows in place.results.items() if name == table.name for r in rows] if place else []
    return list(dict.fromkeys(name for result in results for name in result.figures or {})) if table.figures else []


def figure_text(results: list[SweepResult], name: str) -> str:
    """A figure's mean over seeds, and their standard deviation."""
    values = [result.figures[name] for result in results if result.figures and name in result.figures]
    return span_text(values) if values else ""


SCORED_ON = {"test": "the test images", "rotated_test": "the rotated hands of the test images"}


def members_text(row: SweepRow) -> str:
    """The members of a vote, with their folds if those are not the first alone."""
    named = []
    for member in row.members:
        folds = f" (fold{'s' * (len(member.folds) > 1)} {', '.join(map(str, member.folds))})"
        named.append(member.row + (folds if member.folds != [0] else ""))
    return f". {(row.vote or '').capitalize()} vote of {', '.join(named)}" if named else ""


def document(results: Path = RESULTS) -> str:
    """The whole of docs/results.md.

    Raises:
        ConfigError: a table is wrong. DataError: a file is not a result.
    """
    tables = [read_table(name) for name in table_names()]
    found = places(tables, results)
    pairs = [
        {(t.name, row.name): pair for t in tables for row in t.rows if row.baseline and (pair := place.paired(t, row))}
        for place in found
    ]
    measures = {table.name: (table.task, table.scored_on, table.gap, table.columns) for table in tables}
    body: list[str] = []
    totals = [Counter[str]() for _ in found]
    for table in tables:
        body += ["", f"## {table.title}", "", " ".join(table.why.split()), ""]
        if table.task == "classify":
            body += label_claims.columns_text(table)
        elif table.scored_on != "out_of_fold":
            body += [f"Scored on {SCORED_ON[table.scored_on]}{', compared with out of fold' if table.gap else ''}.", ""]
        body += [f"- {row.name}: {row.source}{members_text(row)}" for row in table.rows]
        shown = [i for i, place in enumerate(found) if any(name == table.name for name, _ in place.results)]
        for i in shown:
            others = {key: pair for key, pair in pairs[i].items() if measures[key[0]] == measures[table.name]}
            lines, verdicts = section(table, found[i], others)
            totals[i] += verdicts
            body += ["", f"Scale {found[i].scale}, on {found[i].data}:", "", *lines]
        if not shown:
            body += ["", *section(table, None, {})[0]]
            for place, total in zip(found, totals, strict=True):
                total["not run"] += sum(row.outcome is not None and runs_at(row, place.scale) for row in table.rows)
    return "\n".join([INTRO.rstrip(), *summary(found, totals), *body, *published_labels.section()]) + "\n"


def summary(found: list[Place], totals: list[Counter]) -> list[str]:
    """What was run, where, and how many claims came out how."""
    lines = ["", "## What was run", ""]
    if not found:
        return [*lines, "Nothing yet."]
    lines += ["| scale | data | trainings | seeds | verdicts | machine | commit |", "|" + "---|" * 7]
    for place, total in zip(found, totals, strict=True):
        results = [result for rows in place.results.values() for result in rows]
        trained = {
            (str(result.recipe), fold)
            for result in results if "vote" not in result.recipe
            for fold in result.folds or [result.fold]
        }  # fmt: skip
        cells = [
            place.scale,
            place.data,
            str(len(trained)),
            str(len({result.seed for result in results})),
            ", ".join(f"{count} {name}" for name, count in sorted(total.items())),
            "; ".join(sorted({result.machine for result in results})),
            ", ".join(sorted({(result.commit or "unknown")[:7] for result in results})),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    stale = [line for place in found for line in place.stale]
    return [*lines, *(["", "Results by another recipe than the present one, not counted:", ""] if stale else []),
            *(f"- {line}" for line in stale)]  # fmt: skip
