"""Explores a data set before training: rotation, shift from train to test, sizes, overlaps, outliers."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..config import SegmentData
from ..data.brightness import BRIGHT
from ..data.layouts import test_place, test_records
from ..data.metadata import SHEETS, match, mismatch, read_metadata
from ..data.quarantine import kept_records
from ..data.records import Record
from ..data.rotation import BASE, LIMIT, TIP, has_rule, tilt_of_stack
from ..errors import DataError, OutputError
from ..runtime.files import check_report_folder, write_report, write_text
from ..runtime.processes import process_map
from ..submission.table import Submission
from . import plots as eda_plots
from .captions import captions
from .measure import Measured, measure
from .tables import PROPORTIONS, class_table, image_table, overlap_table, sex_table, shift_table, size_table

TABLES = ("images", "shift", "size", "sex", "classes", "overlap")


def explore(data: SegmentData, out: Path, *, csv: Path | None = None, workers: int = -1, progress: bool = True) -> str:
    """Measures the data set at ``data.root`` and writes tables (CSV), ``eda.json`` and plots (PNG) into ``out``.

    Args:
        csv: a submission or out-of-fold CSV to measure rotation on too; for test images there is no other way.
        workers: processes; -1: one per core.

    Returns:
        The summary, with what was left out and why.

    Raises:
        DataError: no usable image, or a CSV of other images.
        OutputError: ``out`` contains files of other programs.
    """
    assert data.root is not None
    if csv is not None:
        check_csv(csv, out)
    check_folder(out, TABLES, eda_plots.PLOTS)
    work = [(record, "train") for record in kept_records(data)]
    left_out: list[str] = []
    place = test_place(data)
    if place is not None and place.exists():
        work += [(record, "test") for record in test_records(data)]
    elif place is not None:
        left_out.append(f"the test set: {place.relative_to(data.root)} does not exist")
    else:
        left_out.append(f"the test set: data.{data.layout}.test is not set")
    measured = _measure_all(work, data, workers, progress)
    broken = [row for row in measured if row.problem]
    measured = [row for row in measured if not row.problem]
    if broken:
        left_out.append(f"{len(broken)} unusable image(s), such as {broken[0].problem}")
    if not measured:
        raise DataError(f"{data.root}: no usable image; {broken[0].problem}")
    patients = {row.group for row in measured}
    sheet = read_metadata(data.root, patients)
    if sheet is None:
        left_out.append(f"everything about sex, age, height and weight: {' or '.join(SHEETS)} does not exist")
    else:
        left_out += sheet.attrs["notes"]
        lacking = patients - match(sheet, patients).keys()
        if fault := mismatch(sheet, patients):
            left_out.append(fault)
        elif lacking:
            left_out.append(f"metadata of {len(lacking)} patient(s) without a row, such as {min(lacking)}")
    images = image_table(measured, sheet)
    if not has_rule(data.classes):
        left_out.append(f"rotation: it is measured from {BASE} to {TIP}, and the data set lacks one of these classes")
    else:
        left_out += _without_bones(measured)
    if has_rule(data.classes) and csv is not None:
        images["degrees_csv"] = _tilts_of_csv(csv, images, data.classes, left_out)
    elif has_rule(data.classes) and (images["split"] == "test").any():
        left_out.append("rotation of the test set: give predictions to measure it on with csv=")
    tables = {
        "images": images,
        "shift": shift_table(images),
        "size": size_table(images),
        "sex": sex_table(images),
        "classes": class_table(measured, images, data.classes),
        "overlap": overlap_table(measured, data.classes),
    }
    annotated = sum(bool(row.areas) for row in measured)
    facts = {"data": data.name, "left_out": left_out, "annotated": annotated, **_facts(images)}
    for name in ("shift", "size", "sex", "overlap", "classes"):
        facts[name] = tables[name].to_dict("records")
    facts["figures"] = captions(images)
    # first: a later call may write into a folder that has it
    write_report(out / "eda.json", "eda", plain(facts))
    for name, table in tables.items():
        write_text(out / f"{name}.csv", table.to_csv(index=False, lineterminator="\n"))
    for name, figure in eda_plots.draw_all(tables, LIMIT):
        eda_plots.save(figure, out / f"{name}.png")
    return _summary(facts, out)


def _without_bones(measured: Sequence[Measured]) -> list[str]:
    """Returns a reason for the annotated images that lack one of the bones that rotation is measured from."""
    lacking = [row.name for row in measured if row.areas and math.isnan(row.degrees)]
    if not lacking:
        return []
    return [f"rotation of {len(lacking)} annotated image(s) without {BASE} or {TIP}, such as {lacking[0]}"]


def check_folder(out: Path, tables: Sequence[str], plots: Sequence[str]) -> None:
    """Refuses a folder in which files of other programs would be replaced. Raises as `check_report_folder`."""
    files = [*(f"{name}.csv" for name in tables), *(f"{name}.png" for name in plots)]
    check_report_folder(out, "eda.json", "eda", files)


def check_csv(csv: Path, out: Path) -> None:
    """Raises OutputError if the CSV that is read would be replaced by a table."""
    if csv.resolve().parent == out.resolve() and csv.stem in TABLES:
        raise OutputError(f"csv={csv}: would be replaced by the table of that name; give another out=")


def _measure_all(work: list[tuple[Record, str]], data: SegmentData, workers: int, progress: bool) -> list[Measured]:
    """Measures all images in several processes, in order."""
    do = partial(_measure_one, data=data)
    return process_map(do, work, workers=workers, name="measure", unit="image", progress=progress, least=16)


def _measure_one(item: tuple[Record, str], *, data: SegmentData) -> Measured:
    return measure(item[0], split=item[1], data=data)


def _tilts_of_csv(path: Path, images: pd.DataFrame, classes: Sequence[str], left_out: list[str]) -> list[float]:
    """Returns the tilt of each image of the table by a CSV's masks; NaN for images it does not contain."""
    rows = zip(images["image_name"], images["height_px"], images["width_px"], strict=True)
    sizes = {name: (int(height), int(width)) for name, height, width in rows}
    submission = Submission.read(path, classes, sizes)
    strangers = [name for name in submission.images if name not in sizes]
    if len(strangers) == len(submission.images):
        raise DataError(f"{path}: has no image of this data set (such as {strangers[0]}); name its own data.root=")
    if strangers:
        left_out.append(f"{len(strangers)} image(s) of {path} that the data set lacks, such as {strangers[0]}")
    bones, held = submission.reorder([BASE, TIP]), set(submission.images)
    degrees = []
    for name, (height, width) in sizes.items():
        degrees.append(math.nan)
        if name in held:
            stack = bones.stack(name, (height, width))
            degrees[-1] = tilt_of_stack(stack, [BASE, TIP], width)
    empty = [name for name, tilt in zip(sizes, degrees, strict=True) if name in held and math.isnan(tilt)]
    if empty:
        left_out.append(f"rotation of {len(empty)} image(s) of {path} without {BASE} or {TIP}, such as {empty[0]}")
    return degrees


def _facts(images: pd.DataFrame) -> dict[str, Any]:
    """Returns counts over images, by split and source."""
    facts: dict[str, Any] = {"images": images["split"].value_counts().to_dict(), "rotation": {}}
    for source, column in (("annotations", "degrees"), ("csv", "degrees_csv")):
        for split, rows in images.groupby("split"):
            degrees = rows[column].dropna().to_numpy() if column in rows else np.zeros(0)
            if len(degrees):
                rotated, median = int((degrees >= LIMIT).sum()), float(np.median(degrees))
                facts["rotation"][f"{split}, {source}"] = {"images": len(degrees), "rotated": rotated, "median": median}
    facts["bright_outliers"] = images.loc[images["bright_outlier"], "image_name"].tolist()
    banded = images[images["noise_band"]]
    facts["noise_bands"] = {
        "images": banded["image_name"].tolist(),
        "top_median": float(banded["noise_top"].median()),
        "left_median": float(banded["noise_left"].median()),
        **_blackout(banded),
    }
    return facts


def _blackout(banded: pd.DataFrame) -> dict[str, int]:
    """Returns the data.blackout that hides 90% of the noise bands, robust to a false one, and their number."""
    depth = banded[["noise_top", "noise_left"]].max(axis=1) / banded[["height_px", "width_px"]].max(axis=1)
    needed = np.ceil(2048 * depth.to_numpy())
    pixels = int(np.quantile(needed, 0.9, method="higher")) if len(needed) else 0
    return {"blackout": pixels, "hidden": int((needed <= pixels).sum())}


def _summary(facts: dict[str, Any], out: Path) -> str:
    """Returns the summary for the terminal."""
    lines = [", ".join(f"{count} {split} images" for split, count in sorted(facts["images"].items(), reverse=True))]
    for source, found in facts["rotation"].items():
        count, images = found["rotated"], found["images"]
        lines.append(
            f"rotated, {LIMIT:g} degrees or more ({source}): {count} of {images} images ({count / images:.1%})"
        )
    if facts["shift"]:
        lines.append("shift from train to test, by patients, with 95% intervals:")
    for row in facts["shift"]:
        proportion = row["effect"] == PROPORTIONS
        sides = [f"{row[split]:.1%}" if proportion else f"{row[split]:.1f}" for split in ("train", "test")]
        values = [f"{row[key]:+.1%}" if proportion else f"{row[key]:+.2f}" for key in ("value", "low", "high")]
        lines.append(
            f"  {row['attribute']}: train {sides[0]}, test {sides[1]} (x{row['ratio']:.2f}); "
            f"{row['effect']} {values[0]} [{values[1]}, {values[2]}]"
        )
    for relation in ("correlation", "regression"):
        rows = [row for row in facts["size"] if row["relation"] == relation]
        if rows:
            effects = ", ".join(f"{row['attribute']} {row['value']:+.2f}" for row in rows)
            also = f" (R2 {rows[0]['r_squared']:.2f})" if relation == "regression" else ""
            lines.append(f"area of the bones, {relation}: {effects}{also}")
    annotated, rarest = facts["annotated"], min(facts["classes"], key=lambda row: row["images"])
    if rarest["images"] < annotated:
        lines.append(f"not every image has every class; {rarest['class']} is in {rarest['images']} of {annotated}")
    if facts["overlap"]:
        most = facts["overlap"][0]
        lines.append(
            f"{len(facts['overlap'])} pairs of classes overlap; the most {most['class']} and {most['other']}, "
            f"{most['of_smaller_mean']:.0%} of the smaller class"
        )
    bands = facts["noise_bands"]
    bright = facts["bright_outliers"]
    lines.append(f"{len(bright)} images with unusually many pixels >= {BRIGHT} outside noise bands")
    if bands["images"]:
        size = f"top {bands['top_median']:.0f}, left {bands['left_median']:.0f} pixels (medians)"
        lines.append(
            f"{len(bands['images'])} images with noise bands: {size}; "
            f"data.blackout={bands['blackout']} hides {bands['hidden']} of them"
        )
    for row in facts["sex"]:
        measured = f"{row['value']:+.2f} {row['unit']} [{row['low']:+.2f}, {row['high']:+.2f}]"
        how = "" if row["attribute"] == "area" else ", jointly regressed on sex"
        lines.append(f"{row['attribute']} of male less female patients{how}: {measured}")
    lines += [f"left out: {reason}" for reason in facts["left_out"]]
    return "\n".join([*lines, f"{out}: tables (CSV), eda.json, plots (PNG)"])


def plain(value: Any) -> Any:
    """Returns plain values for JSON: no numpy types, null for NaN."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
