"""docs/results.md from the tables and the results of their rows: published and ours, and whether they agree."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from ..scoring.resampling import RESAMPLES
from . import label_claims, mask_claims, published_labels
from .iou_claims import PairedIoU
from .label_claims import PairedLabels
from .places import Place, places
from .results import RESULTS
from .table import SweepRow, Table, read_table, runs_at, table_names
from .verdict import PRIOR, Paired

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

Where most images lack a class, a table's claims are about IoU over the pixels of all test images together
(`claims: iou`), as Dice by image would reward a network that never predicts the class. A patient's part in the interval
is then by how much its pixels move the ratio.

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


def section(
    table: Table, place: Place | None, others: Mapping[tuple[str, str], Paired | PairedIoU | PairedLabels]
) -> tuple[list[str], Counter]:
    """The Markdown table of a table's rows at a place (None: nothing was run), and its verdicts."""
    if table.task == "classify":
        found = {row: scores for (name, row), scores in place.labels.items() if name == table.name} if place else {}
        pairs = {key: pair for key, pair in others.items() if isinstance(pair, PairedLabels)}
        return label_claims.section(table, found, pairs, place.scale if place else None)
    masks = {key: pair for key, pair in others.items() if isinstance(pair, Paired | PairedIoU)}
    return mask_claims.section(table, place, masks)


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
    measures = {table.name: (table.task, table.scored_on, table.claims, table.gap, table.columns) for table in tables}
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
