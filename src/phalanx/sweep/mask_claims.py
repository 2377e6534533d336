"""The tables of segmentations in docs/results.md: Dice or IoU by row, further figures, paired gains, verdicts."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from .iou_claims import PairedIoU, collapse_text, collapse_title, counts_by_seed, iou_of
from .label_claims import span_text
from .places import Place
from .published import Published
from .results import SweepResult
from .table import Table, runs_at
from .verdict import Gain, Paired, gain_of, verdict


def section(
    table: Table, place: Place | None, others: Mapping[tuple[str, str], Paired | PairedIoU]
) -> tuple[list[str], Counter]:
    """The Markdown table of a table's rows at a place (None: nothing was run), and its verdicts."""
    metric = place.metric(table) if place else None
    shown = figure_names(table, place)
    head = [
        "row",
        "baseline",
        "published",
        "published gain",
        "outcome",
        f"our {measure_text(table, place)} (seeds)",
        *shown,
        *([collapse_title(table.collapse)] if table.collapse else []),
        "our gain; by seed",
        "verdict",
    ]
    lines, verdicts = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)], Counter[str]()
    for row in table.rows:
        ours = place.results.get((table.name, row.name), []) if place else []
        gain = None
        if place and row.baseline and (pair := others.get((table.name, row.name))):
            chosen = numbers(ours[0], table.classes_of(row))
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
        value = iou_text if table.claims == "iou" else value_text
        cells = [
            row.name + (f" ({', '.join(row.classes)})" if row.classes else ""),
            row.baseline or "",
            published_text(number),
            "" if published is None else f"{published:+.4f}",
            row.outcome or "",
            value(ours, table.classes_of(row)) + (gap_text(ours, row.classes) if table.gap else ""),
            *(figure_text(ours, name) for name in shown),
            *([collapse_text(ours, table.collapse)] if table.collapse else []),
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


def value_text(results: list[SweepResult], classes: list[str]) -> str:
    """Mean over seeds, and their standard deviation."""
    if not results:
        return ""
    metric, seeds = results[0].metric, dict[int, list[tuple[int, float]]]()
    for result in results:
        chosen = numbers(result, classes)
        for name, images in result.images.items():
            seeds.setdefault(result.seed, []).append((images, float(np.mean(np.take(result.patients[name], chosen)))))
    means = [np.average([value for _, value in rows], weights=[n for n, _ in rows]) for rows in seeds.values()]
    spread = f" ± {metric.text(float(np.std(means, ddof=1)))}" if len(means) > 1 else ""
    return f"{metric.text(float(np.mean(means)))}{spread} ({len(means)})"


def measure_text(table: Table, place: Place | None) -> str:
    """What the claims of a table are about."""
    metric = place.metric(table) if place else None
    if metric is None or table.claims == "dice":
        return metric.title if metric else "result"
    return " ".join([metric.name, *(["of", ", ".join(table.classes)] if table.classes else [])])


def iou_text(results: list[SweepResult], classes: list[str]) -> str:
    """IoU over the pixels of all images, mean over seeds, and their standard deviation."""
    if not results:
        return ""
    seeds, chosen = counts_by_seed(results), numbers(results[0], classes)
    return f"{span_text([iou_of(counts, chosen) for counts in seeds.values()])} ({len(seeds)})"


def numbers(result: SweepResult, classes: list[str]) -> list[int]:
    """Numbers of classes in a result's order; none named: of all."""
    return [result.classes.index(name) for name in classes or result.classes]


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
