"""Sections about what runs are worth: summary, runs beside each other, classes, groups of images, charts."""

from collections.abc import Sequence

import numpy as np

from ..review.evaluated import Evaluated
from ..scoring.class_figures import ClassFigures
from .compare import Common, Subset, differences, subsets
from .document import Cell, Facts, Plot, Section, Table, Text, count, number, span, table
from .svg import Chart, Estimate, Forest

NAN = float("nan")


def summary(evaluations: Sequence[Evaluated]) -> Section:
    """The metric of each run with its interval, and of each of its folds with their mean."""
    first = evaluations[0]
    name, decimals = first.metric.name, first.metric.decimals
    rows = list[list[Cell | str]]()
    for one in evaluations:
        own = _folds(one)
        values = [value for _, value, _, _ in own]
        rows.append([
            one.name, number(one.value, decimals), span(one.interval, decimals), count(len(one.images)),
            count(len({image.patient for image in one.images})) if one.grouped else "not known", count(len(own)),
            number(float(np.mean(values)) if values else NAN, decimals),
            number(float(np.std(values, ddof=1)) if len(values) > 1 else NAN, decimals),
        ])  # fmt: skip
    over = "patients" if first.grouped else "images, as patients are not known: it is too narrow"
    better = "higher" if first.metric.higher_is_better else "lower"
    whole = table(
        "summary", f"{first.metric.title}; {better} is better",
        ["run", name, "95% interval", "images", "patients", "folds", "mean of folds", "SD of folds"], rows,
        note=f"The interval is over draws of {over}. Every image was predicted by a fold that held it out, unless a "
             "line below says something else.",
    )  # fmt: skip
    folds: list[list[Cell | str]] = [
        [one.name, fold, number(value, decimals), count(images), count(patients)]
        for one in evaluations
        for fold, value, images, patients in _folds(one)
    ]
    blocks: list[Facts | Table | Text] = [
        Facts((
            ("Task", first.task), ("Data set", str(first.config.data.name)), ("Metric", name),
            ("Classes", str(len(first.classes))), ("Images are ranked by", first.per_image_name),
        )),
        whole,
    ]  # fmt: skip
    if folds:
        blocks.append(table("folds", "Folds", ["run", "fold", name, "images", "patients"], folds))
    notes = tuple(dict.fromkeys(note for one in evaluations for note in one.notes))
    if notes:
        blocks.append(Text(notes, listed=True))
    return Section("summary", "Summary", tuple(blocks))


def _folds(one: Evaluated) -> list[tuple[str, float, int, int]]:
    """Name, metric, images and patients of each fold that held images out."""
    found = []
    of_image = np.array([-1 if image.fold is None else image.fold for image in one.images])
    for fold in sorted(set(of_image.tolist()) - {-1}):
        chosen = of_image == fold
        people = len(set(one.patient_of[chosen].tolist()))
        found.append((f"fold {fold}", one.value_of(chosen), int(chosen.sum()), people))
    return found


def side_by_side(evaluations: Sequence[Evaluated]) -> Section | None:
    """Runs on the images that all have: values and paired differences from the first; None for a single run."""
    if len(evaluations) < 2:
        return None
    common, first = Common(evaluations), evaluations[0]
    decimals = first.metric.decimals
    if not common.names:
        return Section("runs", "Runs compared", (Text(("The runs have no image in common.",)),))
    gaps = [differences(common, k) for k in range(1, len(evaluations))]
    start: list[Cell | str] = [first.name, number(common.values[0][0], decimals), number(NAN), span(None)]
    rows: list[list[Cell | str]] = [[*start, "the others are compared with it"]]
    forest = []
    for one, values, gap in zip(evaluations[1:], common.values[1:], gaps, strict=True):
        rows.append([
            one.name, number(values[0], decimals), number(gap[0].value, decimals, sign=True),
            span(gap[0].interval, decimals, sign=True), _verdict(gap[0].interval, first),
        ])  # fmt: skip
        forest.append(Estimate(f"{one.name} − {first.name}", gap[0].value, *(gap[0].interval or (NAN, NAN))))
    each: list[list[Cell | str]] = [
        [label, *(number(values[1 + c], decimals) for values in common.values),
         *(cell for gap in gaps for cell in (number(gap[1 + c].value, decimals, sign=True),
                                             span(gap[1 + c].interval, decimals, sign=True)))]
        for c, label in enumerate(common.labels)
    ]  # fmt: skip
    others = [text for one in evaluations[1:] for text in (f"{one.name} − {first.name}", "95% interval")]
    left_out = len(set().union(*(one.names for one in evaluations))) - len(common.names)
    note = f"{len(common.names)} images of {common.patients} patients that all runs have"
    note += f"; {left_out} others are left out." if left_out else "."
    note += " The same draws of patients are used for all runs, so differences are paired."
    return Section("runs", "Runs compared", (
        table("differences", f"Paired differences of {first.metric.name}",
              ["run", first.metric.name, "difference", "95% interval", "what that says"], rows, note=note),
        Plot((Forest(f"Difference of {first.metric.name}", f"difference from {first.name}, 95% interval", forest, 0.0,
                     decimals=decimals),)),
        table("class-differences", f"{first.metric.name} of each class", [
            "class", *(one.name for one in evaluations), *others], each, folded=len(each) > 12),
    ))  # fmt: skip


def _verdict(interval: tuple[float, float] | None, one: Evaluated) -> str:
    if interval is None:
        return "a single patient: nothing"
    low, high = interval
    if low <= 0 <= high:
        return "no difference beyond chance"
    return "better" if (low > 0) == one.metric.higher_is_better else "worse"


def classes(evaluations: Sequence[Evaluated]) -> Section:
    """A table per run: the metric of each class, and its true and false positives and misses."""
    blocks = []
    for k, one in enumerate(evaluations):
        decimals, places = one.metric.decimals, 4
        rows = [_class_row(row, decimals, places) for row in one.table()]
        unit = {"pixels": "pixels", "boxes": "boxes", "images": "images"}[one.unit]
        blocks.append(table(
            f"classes-{k}", f"Classes of {one.name}; false and true positives in {unit}",
            ["class", one.metric.name, "images with it", "true positives", "false positives", "false negatives",
             "precision", "recall", "false − missed"], rows,
            note="“False − missed”: false positives less false negatives, as a fraction of what is there. Above zero "
                 "the class is predicted too large or too often.",
        ))  # fmt: skip
    return Section("classes", "Classes", tuple(blocks))


def _class_row(row: ClassFigures, decimals: int, places: int) -> list[Cell | str]:
    there = row.tp + row.fn
    return [
        row.label, number(row.value, decimals), count(row.present), count(row.tp), count(row.fp), count(row.fn),
        number(row.precision, places), number(row.recall, places),
        number((row.fp - row.fn) / there if there else NAN, places, sign=True),
    ]  # fmt: skip


def groups(evaluations: Sequence[Evaluated]) -> Section:
    """The metric by sex, rotation and other attributes, as far as they are known."""
    rows, plots = list[list[Cell | str]](), list[Forest]()
    for one in evaluations:
        found = subsets(one, one.attributes())
        decimals = one.metric.decimals
        rows += [
            [one.name, part.attribute, part.name, number(part.value, decimals), span(part.interval, decimals),
             count(part.images), count(part.patients)] for part in found
        ]  # fmt: skip
        if found:
            estimates = [Estimate(_full_name(part), part.value, *(part.interval or (NAN, NAN))) for part in found]
            plots.append(Forest(one.name, f"{one.metric.name}, 95% interval over patients", estimates))
    if not rows:
        text = "The data set says nothing about its patients that images could be divided by."
        return Section("groups", "Groups of images", (Text((text,)),))
    columns = ["run", "attribute", "value", evaluations[0].metric.name, "95% interval", "images", "patients"]
    note = "Numbers are divided into thirds. Intervals are over the patients of the group."
    return Section(
        "groups", "Groups of images", (table("groups", "Metric by group", columns, rows, note=note), Plot(tuple(plots)))
    )


def _full_name(part: Subset) -> str:
    """Attribute and value, as some values repeat what they are of."""
    return part.name if part.name.startswith(part.attribute) else f"{part.attribute} {part.name}"


def charts(evaluations: Sequence[Evaluated]) -> Section:
    """Charts over thresholds and of calibration, as each task has them."""
    plots, lacking = list[Chart](), list[str]()
    for one in evaluations:
        made = one.charts()
        if not made:
            lacking.append(
                f"{one.name}: no charts over thresholds, as probabilities of its images are not stored; of masks, "
                "predict.oof_prob=true of the same phalanx train command makes them"
            )
        prefix = f"{one.name}: " if len(evaluations) > 1 else ""
        plots += [Chart(chart._replace(title=f"{prefix}{chart.title}")) for chart in made]
    blocks: list[Plot | Text] = [Plot(tuple(plots))] if plots else []
    if lacking:
        blocks.append(Text(tuple(lacking), listed=True))
    return Section("thresholds", "Thresholds and calibration", tuple(blocks))
