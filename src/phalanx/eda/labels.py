"""Explores a data set of images with labels: classes, co-occurrence, missing labels, sizes, intensities, folds."""

import math
from array import array
from collections.abc import Iterator, Sequence
from itertools import combinations, compress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from ..config import ClassifyData
from ..data.folds import read as read_folds
from ..data.images import read_grey
from ..data.items import SPLITS, Items
from ..data.labels import labels_of
from ..data.layouts import test_place, test_records
from ..data.quarantine import kept_records
from ..data.record_list import groups_of, names_of
from ..data.records import Record, root_of
from ..errors import DataError
from ..runtime.files import write_parts, write_report
from ..runtime.processes import process_imap
from . import label_plots
from .captions_labels import captions
from .plots import save
from .report import check_folder, plain
from .stats import Effect, cohens_d

TABLES = ("images", "patients", "classes", "cooccurrence", "sizes", "shift", "folds")
PIXELS = ("height_px", "width_px")
MEASURES = (*PIXELS, "mean", "sd", "p1", "median", "p99", "black", "white")
ROWS = 10_000  # of a table that are written at once
RARE = 5  # images with or without a class: with fewer, a held-out part easily has none
NOTABLE = 0.5  # Cohen's d from which a difference in intensity is named in the summary (Cohen, 1988: medium)


def explore(data: ClassifyData, out: Path, *, folds: int = 5, workers: int = -1, progress: bool = True) -> str:
    """Measures the data set at ``data.root`` and writes tables (CSV), ``eda.json`` and plots (PNG) into ``out``.

    Args:
        folds: number of those in ``data.folds_file``, if one is given.
        workers: processes; -1: one per core.

    Returns:
        The summary, with what was left out and why.

    Raises:
        DataError: no usable image; a fold file that does not fit.
        OutputError: ``out`` contains files of other programs.
    """
    check_folder(out, TABLES, label_plots.PLOTS)
    records, left_out = kept_records(data), list[str]()
    labels = labels_of(records, data)
    work = Items(root_of(data), ((record, "train") for record in records))
    place = test_place(data)
    if place is not None and place.exists():
        work += ((record, "test") for record in test_records(data))
    else:
        what = f"{place} does not exist" if place is not None else f"data.{data.layout}.test is not set"
        left_out.append(f"the test set: {what}")
    known, broken = measured(work, workers=workers, progress=progress)
    if broken:
        left_out.append(f"{len(broken)} unusable image(s), such as {next(iter(broken.values()))}")
    usable = np.setdiff1d(np.arange(len(work)), list(broken))
    for i, name in enumerate(data.classes):  # the labels of test images are not read: they are for scores
        column = np.concatenate([labels[:, i], np.full(len(work) - len(records), np.nan, np.float32)])
        known[f"label {name}"] = column[usable]
    if known.empty:
        raise DataError(f"{data.root}: no usable image; {next(iter(broken.values()))}")
    fold_table, kinds = _no_folds(data.classes), [f"label {name}" for name in data.classes]
    if data.folds_file is not None:
        assigned = read_folds(data.folds_file, records, folds)
        fold_table = folds_of(records, labels, [assigned[record.name] for record in records], data.classes)
    else:
        left_out.append("classes per fold: data.folds_file is not set")
    tables = {
        "images": known,
        "patients": patients_of(records, labels, data.classes),
        "classes": classes_of(known.loc[known["split"] == "train", ["mean", *kinds]], records, labels, data.classes),
        "cooccurrence": together(labels, data.classes),
        "sizes": known.groupby(["split", "height_px", "width_px"], observed=True).size().reset_index(name="images"),
        "shift": shift_of(known),
        "folds": fold_table,
    }
    facts: dict[str, Any] = {
        "data": data.name,
        "left_out": left_out,
        "images": {split: count for split in SPLITS if (count := work.count(split))},
    }
    facts |= {name: list(tables[name].to_dict("records")) for name in TABLES[2:]}
    facts["patients"] = _patient_facts(tables["patients"])
    facts["figures"] = captions(tables, data.classes, len(broken))
    write_report(out / "eda.json", "eda", plain(facts))  # first: a later call may write into a folder that has it
    for name, table in tables.items():
        write_parts(out / f"{name}.csv", _parts(table))
    for name, figure in label_plots.draw_all(tables, data.classes):
        save(figure, out / f"{name}.png")
    return _summary(facts, tables, out)


def measured(work: Items, *, workers: int, progress: bool) -> tuple[pd.DataFrame, dict[int, str]]:
    """A row per usable image, in columns from the start: there may be a million; and what is wrong with others, by
    their number."""
    columns, broken = {name: array("d") for name in MEASURES}, dict[int, str]()
    found = process_imap(_measure, work, workers=workers, name="measure", unit="image", progress=progress, least=16)
    for number, values in enumerate(found):
        if isinstance(values, str):
            broken[number] = values
            continue
        for column, value in zip(columns.values(), values, strict=True):
            column.append(value)
    records = work.records
    usable = np.array([i not in broken for i in range(len(work))], bool)
    table = pd.DataFrame({
        "image_name": [name for i, name in enumerate(names_of(records)) if usable[i]],
        "patient": pd.Categorical(list(compress(groups_of(records), usable))),
        "split": pd.Categorical([work.split(i) for i in np.flatnonzero(usable).tolist()]),
    })  # fmt: skip
    for name in MEASURES:
        table[name] = np.array(columns.pop(name), np.int64 if name in PIXELS else np.float64)
    return table, broken


def _measure(item: tuple[Record, str]) -> tuple[float, ...] | str:
    """MEASURES of one image: size and grey levels; or what makes it unusable."""
    cv2.setNumThreads(1)  # the images are processed in parallel already
    try:
        grey = read_grey(item[0].image)
    except DataError as error:
        return str(error)
    low, median, high = np.percentile(grey, (1, 50, 99))
    return (
        grey.shape[0], grey.shape[1], float(grey.mean()), float(grey.std()), float(low), float(median), float(high),
        float((grey == 0).mean()), float((grey == 255).mean()),
    )  # fmt: skip


def _parts(table: pd.DataFrame) -> Iterator[bytes]:
    """A table as a CSV, in parts."""
    yield table[:0].to_csv(index=False, lineterminator="\n").encode()
    for first in range(0, len(table), ROWS):
        part = table.iloc[first : first + ROWS]
        yield part.to_csv(index=False, header=False, lineterminator="\n").encode()


def patients_of(records: Sequence[Record], labels: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """One row per patient of train: images, and images with each class."""
    numbers, patients = pd.factorize(np.array([record.group for record in records], object), sort=True)
    found = pd.DataFrame({"patient": patients, "images": np.bincount(numbers, minlength=len(patients))})
    for i, name in enumerate(classes):
        found[name] = np.bincount(numbers[labels[:, i] == 1], minlength=len(patients))
    return found


def classes_of(
    train: pd.DataFrame, records: Sequence[Record], labels: np.ndarray, classes: Sequence[str]
) -> pd.DataFrame:
    """One row per class: images with, without and not labelled, patients with, and grey levels with against without."""
    numbers, rows = pd.factorize(np.array([record.group for record in records], object))[0], []
    for i, name in enumerate(classes):
        present, absent = labels[:, i] == 1, labels[:, i] == 0
        here, there = (train.loc[train[f"label {name}"] == value, "mean"] for value in (1, 0))
        effect = cohens_d(there.to_numpy(float), here.to_numpy(float))
        rows.append({
            "class": name, "images": int(present.sum()), "without": int(absent.sum()),
            "not_labelled": int(np.isnan(labels[:, i]).sum()),
            "fraction": present.sum() / max(1, present.sum() + absent.sum()),
            "patients": len(np.unique(numbers[present])), "alone": int((present & ((labels == 1).sum(1) == 1)).sum()),
            "mean_grey": here.mean(), "sd_of_mean_grey": here.std(), "mean_grey_without": there.mean(),
            "d": effect.value, "d_low": effect.low, "d_high": effect.high,
        })  # fmt: skip
    return pd.DataFrame(rows)


def together(labels: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """One row per pair of classes, over the images in which both are labelled.

    ``both``: images with both; ``expected``: if they were independent; ``phi``: correlation of the two labels
    (Yule, 1912), NaN where either is constant.
    """
    rows = []
    for i, j in combinations(range(len(classes)), 2):
        one, other = labels[~np.isnan(labels[:, [i, j]]).any(1)][:, [i, j]].T
        varies = len(one) > 1 and one.std() > 0 and other.std() > 0
        rows.append({
            "class": classes[i], "other": classes[j], "labelled": len(one), "both": int((one * other).sum()),
            "expected": one.sum() * other.sum() / len(one) if len(one) else math.nan,
            "phi": float(np.corrcoef(one, other)[0, 1]) if varies else math.nan,
        })  # fmt: skip
    columns = ["class", "other", "labelled", "both", "expected", "phi"]
    return pd.DataFrame(rows, columns=columns).sort_values(["both", "class", "other"], ascending=[False, True, True])


def shift_of(images: pd.DataFrame) -> pd.DataFrame:
    """Size and grey levels of train and test, by patients' means, with Cohen's d of test minus train."""
    columns = ["attribute", "train", "test", "d", "low", "high"]
    if (images["split"] == "test").sum() == 0:
        return pd.DataFrame(columns=columns)
    names = ["height_px", "width_px", "mean", "sd", "black"]
    by_patient = images.groupby(["split", "patient"], observed=True)[names].mean()
    rows = []
    for name in names:
        values = by_patient[name]
        train, test = (values.xs(split, level="split").to_numpy(float) for split in ("train", "test"))
        effect: Effect = cohens_d(train, test)
        rows.append([name, train.mean(), test.mean(), *effect])
    return pd.DataFrame(rows, columns=columns)


def folds_of(
    records: Sequence[Record], labels: np.ndarray, folds: Sequence[int], classes: Sequence[str]
) -> pd.DataFrame:
    """One row per fold: images, patients, and images with each class."""
    table = pd.DataFrame(labels == 1, columns=list(classes)).astype(int)
    table.insert(0, "images", 1)
    table.insert(0, "fold", list(folds))
    found = table.groupby("fold", sort=True).sum().reset_index()
    groups = pd.Series([record.group for record in records]).groupby(np.array(folds)).nunique()
    found.insert(2, "patients", groups.loc[found["fold"]].to_numpy())
    return found


def _no_folds(classes: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(columns=["fold", "images", "patients", *classes])


def _patient_facts(patients: pd.DataFrame) -> dict[str, Any]:
    images = patients["images"]
    return {
        "count": len(patients), "images_min": int(images.min()), "images_median": float(images.median()),
        "images_max": int(images.max()),
    }  # fmt: skip


def _summary(facts: dict[str, Any], tables: dict[str, pd.DataFrame], out: Path) -> str:
    """Returns the summary for the terminal."""
    lines = [", ".join(f"{count} {split} images" for split, count in sorted(facts["images"].items(), reverse=True))]
    own = facts["patients"]
    lines.append(
        f"{own['count']} training patients with {own['images_min']} to {own['images_max']} images, median "
        f"{own['images_median']:g}"
    )
    shown = tables["classes"][["class", "images", "without", "not_labelled", "patients", "alone"]]
    lines += [shown.to_string(index=False)]
    rare = shown[shown[["images", "without"]].min(axis=1) < RARE]
    if len(rare):
        lines.append(
            f"fewer than {RARE} images with or without: {', '.join(rare['class'])}; see phalanx folds stratify="
        )
    pairs = tables["cooccurrence"]
    if len(pairs) and pairs.iloc[0]["both"]:
        most = pairs.iloc[0]
        lines.append(
            f"together most often: {most['class']} and {most['other']}, {most['both']} images (expected "
            f"{most['expected']:.1f} if independent)"
        )
    sizes = tables["sizes"].groupby(["height_px", "width_px"])["images"].sum().sort_values(ascending=False)
    height, width = sizes.index[0]
    lines.append(f"{len(sizes)} size(s) of images; {height} x {width} pixels in {sizes.iloc[0]} of {sizes.sum()}")
    for row in facts["classes"]:
        if abs(row["d"]) >= NOTABLE:
            side = "brighter" if row["d"] > 0 else "darker"
            lines.append(
                f"images with {row['class']} are {side} than those without: d {row['d']:+.2f} "
                f"[{row['d_low']:+.2f}, {row['d_high']:+.2f}]; see phalanx confound"
            )
    for row in facts["shift"]:
        if abs(row["d"]) >= NOTABLE:
            lines.append(
                f"shift from train to test, {row['attribute']}: {row['train']:.3g} to {row['test']:.3g}, d "
                f"{row['d']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]"
            )
    for row in facts["folds"]:
        lacking = [name for name in row if name not in ("fold", "images", "patients") and not row[name]]
        if lacking:
            lines.append(f"fold {row['fold']} has no image with {', '.join(lacking)}: draw them with stratify=label")
    lines += [f"left out: {reason}" for reason in facts["left_out"]]
    return "\n".join([*lines, f"{out}: tables (CSV), eda.json, plots (PNG)"])
