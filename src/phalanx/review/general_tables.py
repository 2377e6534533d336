"""Tables of an evaluation: a row per class and a row per image, sorted by what is asked for."""

import math
from collections.abc import Sequence

import numpy as np

from ..scoring.class_figures import WORST_HIGH, ClassFigures, Sort, by, count, figure
from ..scoring.confusion import BinaryCounts
from .evaluated import Evaluated
from .tables import table_csv

SHOWN = 6  # classes in the terminal; all are in classes.csv


def balance(row: ClassFigures) -> float:
    """(FP - FN) / (TP + FN): above 0 a class is over-predicted, below under-predicted. NaN without ground truth."""
    whole = row.tp + row.fn
    return (row.fp - row.fn) / whole if whole else math.nan


def classes_csv(evaluated: Sequence[Evaluated], sort: Sort, chosen: Sequence[int]) -> str:
    """A row per class, in the order of the first evaluation; columns of the others have their names."""
    tables = [{row.label: row for row in one.table()} for one in evaluated]
    first = evaluated[0]
    rows = by([tables[0][first.classes[c]] for c in chosen], sort)
    header = ["class", "images"]
    for k, one in enumerate(evaluated):
        after = f" {one.name}" if k else ""
        header += [f"{name}{after}" for name in (one.metric.name, "tp", "fp", "fn", "precision", "recall", "balance")]
    lines = []
    for row in rows:
        line = [row.label, str(row.present)]
        for table in tables:
            own = table.get(row.label)
            if own is None:
                line += [""] * 7
                continue
            shares = (own.precision, own.recall, balance(own))
            line += [figure(own.value), *map(count, (own.tp, own.fp, own.fn)), *map(figure, shares)]
        lines.append(line)
    return table_csv(header, lines)


def images_csv(evaluated: Sequence[Evaluated], sort: Sort, chosen: Sequence[int]) -> str:
    """A row per image of the first evaluation, over the chosen classes, with the figure of the others."""
    first, some = evaluated[0], list(chosen)
    sums = BinaryCounts(*(side[:, some].sum(axis=1) for side in first.counts))
    columns = {"fp": sums.fp, "fn": sums.fn, "precision": sums.precision, "recall": sums.recall}
    order = ranked(first, chosen)
    if sort == "name":
        order = sorted(order, key=lambda k: first.names[k])
    elif sort != "value":
        values = columns[sort]
        order = sorted(
            order, key=lambda k: (bool(np.isnan(values[k])), -values[k] if sort in WORST_HIGH else values[k])
        )
    header = ["image_name", "patient", "fold", first.per_image_name, "fp", "fn", "precision", "recall", "worst class"]
    header += [f"{first.per_image_name} {one.name}" for one in evaluated[1:]]
    lines = []
    for k in order:
        image, own = first.images[k], first.per_class[k, some]
        worst = "" if np.isnan(own).all() else first.classes[some[int(np.nanargmin(own))]]
        fold = "" if image.fold is None else str(image.fold)
        line = [image.name, image.patient, fold, figure(float(first.per_image[k]))]
        line += [count(columns[name][k]) for name in ("fp", "fn")]
        line += [figure(float(columns[name][k])) for name in ("precision", "recall")] + [worst]
        for one in evaluated[1:]:
            line.append(figure(float(one.per_image[one.number[image.name]])) if image.name in one.number else "")
        lines.append(line)
    return table_csv(header, lines)


def ranked(one: Evaluated, chosen: Sequence[int]) -> list[int]:
    """Numbers of the images, the worst first; over some classes if not all are chosen."""
    return one.ranked(tuple(chosen) if len(chosen) < len(one.classes) else ())


def to_text(one: Evaluated, sort: Sort, chosen: Sequence[int]) -> str:
    """The value with its interval, and the classes from the worst, for the terminal."""
    span = one.interval
    interval = f" [{span[0]:.4f}, {span[1]:.4f}]" if span else ""
    every = by([row for c, row in enumerate(one.table()) if c in set(chosen)], sort)
    rows = every if sort == "name" else every[:SHOWN]
    lines = [
        f"{one.name}: {one.metric.name} {one.value:.4f}{interval} of {len(one.images)} images, counts in {one.unit}"
    ]
    wide = max(len(row.label) for row in rows)
    lines.append(f"  {'class':<{wide}}  {'value':>7}  {'FP':>9}  {'FN':>9}  {'precision':>9}  {'recall':>7}  balance")
    for row in rows:
        cells = [figure(row.value), count(row.fp), count(row.fn), figure(row.precision), figure(row.recall)]
        cells = [cell or "-" for cell in cells]
        share = balance(row)
        sign = "-" if math.isnan(share) else f"{share:+.1%}"
        lines.append(
            f"  {row.label:<{wide}}  {cells[0]:>7}  {cells[1]:>9}  {cells[2]:>9}  {cells[3]:>9}  {cells[4]:>7}  {sign}"
        )
    if len(rows) < len(every):
        lines.append(f"  and {len(every) - len(rows)} more classes; the worst by {sort} are first (sort=)")
    return "\n".join(lines)
