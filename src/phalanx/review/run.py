"""``phalanx review``: tables and pictures of the failures of a run, and of several runs side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError, DataError
from ..runtime.files import check_report_folder, not_ours, refuse_link, write_report, write_text
from ..scoring.object_suspects import rank_objects
from ..visualize.review_plots import Curve, draw_curves
from .case import CELLS, NAMES, Reviewed
from .options import ReviewOptions
from .pictures import (
    chosen_images,
    draw_cell,
    draw_measures,
    draw_runs,
    draw_suspects,
    names_of,
    objects_of,
)
from .tables import cells_csv, comparison_csv, curves_csv, suspects_csv

REPORT = "review.json"
SHARED = ("comparison.png", "comparison.csv", "curves.png", "curves.csv")
GENERAL = ("classes.csv", "images.csv", "worst.png", "classes.png", "balance.png", "size.png", "confusion.png")
OWN = ("cells.csv", *(f"{cell}.png" for cell in CELLS), "suspects.csv", "suspects.png", "area.png", "width.png",
       "predicted_width.png")  # fmt: skip


def check_place(out: Path, names: Sequence[str]) -> None:
    """Refuses a folder in which files of other programs would be replaced.

    Args:
        names: of the runs' folders there.

    Raises:
        OutputError: a file to be written is a link, or exists without a ``review.json`` from an earlier call.
    """
    own = [f"{name}/{file}" for name in names for file in OWN]
    for name in names:
        refuse_link(out / name)
        if (out / name).exists() and not (out / name).is_dir():
            raise not_ours(out / name)
    check_report_folder(out, REPORT, "review", [*SHARED, *GENERAL, *own])


def check_names(names: Sequence[str]) -> None:
    """Raises ConfigError if two runs would share a folder."""
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"{twice}: two runs of that name; review one of them at a time, or rename its folder")


def write_review(reviewed: Sequence[Reviewed], options: ReviewOptions) -> str:
    """Writes all tables and pictures of the runs into ``out``; returns the summary.

    Raises:
        DataError: runs that have no image in common. OutputError: ``out`` contains files of other programs.
    """
    check_names([one.name for one in reviewed])
    check_place(options.out, [one.name for one in reviewed])
    common = _common(reviewed)
    # first, so that files of a call that is stopped are known to be ours
    write_report(options.out / REPORT, "review", {"runs": [one.name for one in reviewed], "finished": False})
    lines, about = list[str](), list[dict[str, Any]]()
    for one in reviewed:
        text, values = _write_run(one, options)
        lines += [*text, ""]
        about.append(values)
    picked = chosen_images(reviewed, common, options.rows)
    draw_runs(reviewed, picked, len(common), options.out / "comparison.png")
    write_text(options.out / "comparison.csv", comparison_csv(reviewed, common, picked))
    lines += [_write_curves(reviewed, options.out), f"{options.out}: written"]
    split = {"oof": "out of fold", "test": "test images"}[options.split]
    found = {"split": split, "finished": True, "runs": about, "compared": picked}
    write_report(options.out / REPORT, "review", found)
    return "\n".join(line for line in lines if line is not None)


def common_images(reviewed: Sequence[Reviewed]) -> set[str]:
    """Images of all runs.

    Raises:
        DataError: there is none.
    """
    found = set.intersection(*({case.image for case in one.cases} for one in reviewed))
    if not found:
        names = " and ".join(one.name for one in reviewed)
        raise DataError(f"{names}: have no image in common; review runs of one data set, with the same folds")
    return found


def _common(reviewed: Sequence[Reviewed]) -> list[str]:
    """As :func:`common_images`, sorted; the number of others is printed."""
    found = common_images(reviewed)
    for one in reviewed:
        if other := len(one.cases) - len(found):
            print(f"note: {one.name}: {other} of its images are not of all runs, and not compared", flush=True)
    return sorted(found)


def _write_run(one: Reviewed, options: ReviewOptions) -> tuple[list[str], dict[str, Any]]:
    """The tables and pictures of a run; returns lines for the terminal, and the same as JSON types."""
    folder = options.out / one.name
    for note in one.notes:
        print(f"note: {note}", flush=True)
    write_text(folder / "cells.csv", cells_csv(one))
    for cell in CELLS:
        draw_cell(one, cell, options.worst, folder / f"{cell}.png")
    lines = [one.f1.to_text()]
    lines.append(
        "  ".join(f"{NAMES[cell]} {len(one.f1.images_of(cell))}: {folder / cell}.png" for cell in ("fn", "fp"))
    )
    names, found = names_of(one), []
    if names is not None:
        found = rank_objects(objects_of(one), names)
    if found and names is not None:
        write_text(folder / "suspects.csv", suspects_csv(found, names))
        draw_suspects(one, found, names, options.worst, folder / "suspects.png")
        draw_measures(found, names, options.worst, one.name, folder)
        doubtful = sum(suspect.score > 0.5 for suspect in found)
        lines.append(f"{doubtful} of {len(found)} annotated objects look rather like the other class; the first are:")
        lines += [
            f"  {suspect.score:.2f}  {suspect.object.image}  {names[suspect.object.diseased]}: "
            f"{', '.join(suspect.reasons) or 'no single measure is odd'}"
            for suspect in found[:5]
        ]
    else:
        lines.append("no suspects: there are no objects of two classes to compare")
    values = {
        "name": one.name,
        "folds": [fold.name for fold in one.folds],
        "f1_iou": one.f1.to_json(),
        "suspects": [
            {"image": suspect.object.image, "object": suspect.object.number, "score": round(suspect.score, 6)}
            for suspect in found
        ],
    }
    return lines, values


def _write_curves(reviewed: Sequence[Reviewed], out: Path) -> str:
    """F1 over the iterations, as the runs' logs have it; returns the line about it."""
    curves, rows = list[Curve](), list[tuple[str, str, int, float]]()
    for one in reviewed:
        folds = []
        for fold in one.folds:
            points = [
                (line["step"], line["held_out/image_f1"])
                for line in fold.log("validate")
                if "held_out/image_f1" in line
            ]
            rows += [(one.name, fold.name, int(step), float(value)) for step, value in points]
            if points:
                folds.append(np.array(points, float))
        if folds:
            curves.append(Curve(one.name, folds))
    if not curves:
        return "no curve of F1: the logs have none; train with image_f1= and validate_steps="
    write_text(out / "curves.csv", curves_csv(rows))
    rule = reviewed[0].rule
    what = f"F1 of {rule.positive} at IoU {rule.iou:g}"
    draw_curves(curves, what, "Held-out images during training", out / "curves.png")
    return f"F1 over iterations of {len(curves)} run(s): {out / 'curves.png'}"
