"""Explores a data set of images with objects: how many, how large, of which shape, and what anchors could find."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..config import DetectConfig
from ..data.folds import read as read_folds
from ..data.images import Grid, image_size
from ..data.layouts import test_place, test_records
from ..data.objects import Shape, boxes_of, shapes_of
from ..data.quarantine import kept_records
from ..data.records import Record
from ..errors import DataError
from ..models.anchors import anchors_text, best_anchor_iou
from ..models.detector import anchor_shapes
from ..runtime.files import write_report, write_text
from . import box_plots
from .captions_boxes import captions
from .plots import save
from .report import check_folder, plain

TABLES = ("images", "objects", "classes", "groups", "anchors", "folds")
RARE = 5  # images with a class: with fewer, a held-out part easily has none
FOUND_AT = (0.5, 0.7)  # IoU of an anchor with an object: of the scores, and of an anchor that learns an object
SMALL = 8.0  # pixels of the input: an object with a shorter side covers one place of the finest usual map
POOR = 0.98  # best possible recall below which the summary warns


def explore(config: DetectConfig, out: Path) -> str:
    """Measures the objects at ``data.root`` and writes tables (CSV), ``eda.json`` and plots (PNG) into ``out``.

    Returns:
        The summary, with what was left out and why.

    Raises:
        DataError: no object; a fold file that does not fit; an annotation that cannot be used.
        OutputError: ``out`` contains files of other programs.
    """
    check_folder(out, TABLES, box_plots.PLOTS)
    data = config.data
    records, left_out = kept_records(data), list[str]()
    sizes, shapes = [], []
    for record in records:
        sizes.append(image_size(record.image))
        shapes.append(shapes_of(record, data))
    place, tested = test_place(data), 0
    if place is not None and place.exists():
        tested = len(test_records(data))
    else:
        what = f"{place} does not exist" if place is not None else f"no test set of data.layout={data.layout} is named"
        left_out.append(f"the test set: {what}")
    objects = object_table(records, sizes, shapes, data.classes, data.size)
    if objects.empty:
        raise DataError(f"{data.root}: none of its {len(records)} images has an object")
    images = image_table(records, sizes, shapes, data.classes)
    tables = {
        "images": images,
        "objects": objects,
        "classes": class_table(objects, images, data.classes),
        "groups": group_table(images, data.classes),
        "anchors": anchor_table(config, objects),
        "folds": fold_table(config, records, images),
    }
    if data.folds_file is None:
        left_out.append("classes per fold: data.folds_file is not set")
    if tables["anchors"].empty:
        left_out.append(f"anchors: model.architecture={config.model.architecture} has none")
    facts = facts_of(config, tables, tested) | {"left_out": left_out}
    facts["figures"] = captions(tables, data.classes, tested)
    write_report(out / "eda.json", "eda", plain(facts))  # first: a later call may write into a folder that has it
    for name, table in tables.items():
        write_text(out / f"{name}.csv", table.to_csv(index=False, lineterminator="\n"))
    for name, figure in box_plots.draw_all(tables, data.classes, facts["anchor_shapes"]):
        save(figure, out / f"{name}.png")
    return _summary(facts, tables, out)


def object_table(
    records: Sequence[Record], sizes: Sequence[tuple[int, int]], shapes: Sequence[Sequence[Shape]],
    classes: Sequence[str], side: int,
) -> pd.DataFrame:  # fmt: skip
    """One row per object: its box in pixels of the stored image and of the input, fraction of the image, aspect.

    Args:
        side: of the input, in pixels.
    """
    rows = []
    for record, size, each in zip(records, sizes, shapes, strict=True):
        scale = Grid(*size, side).scale
        boxes = boxes_of(each)
        for corners, label in zip(boxes.corners.tolist(), boxes.classes.tolist(), strict=True):
            width, height = corners[2] - corners[0], corners[3] - corners[1]
            rows.append({
                "image_name": record.name, "patient": record.group, "class": classes[label],
                "x_min": corners[0], "y_min": corners[1], "x_max": corners[2], "y_max": corners[3],
                "width": width, "height": height, "input_width": width * scale, "input_height": height * scale,
                "of_image": width * height / (size[0] * size[1]), "aspect": width / height,
            })  # fmt: skip
    return pd.DataFrame(rows)


def image_table(
    records: Sequence[Record], sizes: Sequence[tuple[int, int]], shapes: Sequence[Sequence[Shape]],
    classes: Sequence[str],
) -> pd.DataFrame:  # fmt: skip
    """One row per training image: its size, its objects, and those of each class (``objects CLASS``)."""
    counts = np.zeros((len(records), len(classes)), int)
    for i, each in enumerate(shapes):
        np.add.at(counts[i], [one.label for one in each], 1)
    table = pd.DataFrame({
        "image_name": [record.name for record in records], "patient": [record.group for record in records],
        "height_px": [size[0] for size in sizes], "width_px": [size[1] for size in sizes],
        "objects": counts.sum(axis=1),
    })  # fmt: skip
    return table.assign(**{f"objects {name}": counts[:, c] for c, name in enumerate(classes)})


def class_table(objects: pd.DataFrame, images: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """One row per class: objects, images and patients with one, objects per such image, size and shape of the boxes."""
    rows = []
    for name in classes:
        own, here = objects[objects["class"] == name], images[images[f"objects {name}"] > 0]
        each = here[f"objects {name}"]
        rows.append({
            "class": name, "objects": len(own), "fraction": len(own) / len(objects), "images": len(here),
            "patients": here["patient"].nunique(), "per_image": each.mean(), "most_per_image": each.max(),
            **{
                f"{column}_{label}": own[column].quantile(q)
                for column in ("input_width", "input_height", "of_image", "aspect")
                for label, q in (("p5", 0.05), ("median", 0.5), ("p95", 0.95))
            },
        })  # fmt: skip
    return pd.DataFrame(rows)


def group_table(images: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """One row per patient: images, images without an object, objects, images with each class."""
    table = pd.DataFrame({"patient": images["patient"], "images": 1, "without": images["objects"] == 0})
    table["objects"] = images["objects"]
    for name in classes:
        table[name] = images[f"objects {name}"] > 0
    return table.groupby("patient", sort=True).sum().reset_index()


def anchor_table(config: DetectConfig, objects: pd.DataFrame) -> pd.DataFrame:
    """One row per class and one for all: the best IoU that an anchor on its grid has with an object, and the fraction
    of the objects that one reaches at each IoU of ``FOUND_AT``, the best possible recall. No row without anchors.

    ``objects`` gets a column ``anchor_iou``.
    """
    columns = ["class", "objects", *(f"recall_{iou:g}" for iou in FOUND_AT), "iou_p5", "iou_median"]
    if config.model.architecture == "fcos":
        return pd.DataFrame(columns=columns)
    sides = objects[["input_width", "input_height"]].to_numpy()
    shapes = anchor_shapes(config, sides)
    scale = objects["input_width"] / objects["width"]
    corners = objects[["x_min", "y_min", "x_max", "y_max"]].to_numpy() * scale.to_numpy()[:, None]
    best = best_anchor_iou(corners, shapes, config.model.levels, config.data.size)
    objects["anchor_iou"] = best
    rows = []
    for name in [*config.data.classes, "all"]:
        own = best if name == "all" else best[(objects["class"] == name).to_numpy()]
        reached = [float((own >= iou).mean()) if len(own) else math.nan for iou in FOUND_AT]
        spread = [float(np.quantile(own, q)) if len(own) else math.nan for q in (0.05, 0.5)]
        rows.append([name, len(own), *reached, *spread])
    return pd.DataFrame(rows, columns=columns)


def fold_table(config: DetectConfig, records: Sequence[Record], images: pd.DataFrame) -> pd.DataFrame:
    """One row per fold of ``data.folds_file``: images, images without an object, patients, objects of each class."""
    names = config.data.classes
    if config.data.folds_file is None:
        return pd.DataFrame(columns=["fold", "images", "without", "patients", *names])
    assigned = read_folds(config.data.folds_file, records, config.folds)
    table = pd.DataFrame({"fold": [assigned[record.name] for record in records], "images": 1})
    table["without"] = images["objects"] == 0
    for name in names:
        table[name] = images[f"objects {name}"]
    found = table.groupby("fold", sort=True).sum().reset_index()
    groups = images.groupby(table["fold"])["patient"].nunique()
    found.insert(3, "patients", groups.loc[found["fold"]].to_numpy())
    return found


def facts_of(config: DetectConfig, tables: dict[str, pd.DataFrame], tested: int) -> dict[str, Any]:
    """What ``eda.json`` has besides the largest tables."""
    images, objects, groups = tables["images"], tables["objects"], tables["groups"]
    per_image = images["objects"].value_counts().sort_index()
    short = objects[["input_width", "input_height"]].min(axis=1)
    patients = groups["images"]
    shapes = anchor_shapes(config, objects[["input_width", "input_height"]].to_numpy())
    return {
        "data": config.data.name, "size": config.data.size, "images": {"train": len(images), "test": tested},
        "without_objects": int((images["objects"] == 0).sum()),
        "objects": len(objects), "objects_per_image": {str(k): int(v) for k, v in per_image.items()},
        "several_classes": int(((images.filter(like="objects ") > 0).sum(axis=1) > 1).sum()),
        "shorter_side": {f"p{q}": float(short.quantile(q / 100)) for q in (0, 5, 50, 95, 100)},
        "below_8_pixels": int((short < SMALL).sum()),
        "patients": {
            "count": len(groups), "images_min": int(patients.min()), "images_median": float(patients.median()),
            "images_max": int(patients.max()), "with_and_without": int(
                ((groups["without"] > 0) & (groups["without"] < groups["images"])).sum()
            ),
        },
        "anchor_shapes": shapes.tolist() if len(tables["anchors"]) else None,
        "anchor_text": anchors_text(shapes, config.model.levels),
        **{name: tables[name].to_dict("records") for name in ("classes", "anchors", "folds")},
    }  # fmt: skip


def _summary(facts: dict[str, Any], tables: dict[str, pd.DataFrame], out: Path) -> str:
    """Returns the summary for the terminal."""
    images, people = facts["images"], facts["patients"]
    lines = [
        f"{images['train']} train images, {images['test']} test images",
        f"{people['count']} training patients with {people['images_min']} to {people['images_max']} images, median "
        f"{people['images_median']:g}; {people['with_and_without']} have images with and without objects",
        f"{facts['objects']} objects; {facts['without_objects']} images without one "
        f"({facts['without_objects'] / images['train']:.1%}), {facts['several_classes']} with several classes",
    ]
    counts = facts["objects_per_image"]
    shown = ", ".join(f"{number}: {counts[number]}" for number in list(counts)[:8])
    lines.append(f"images by their number of objects: {shown}{', ...' if len(counts) > 8 else ''}")
    table = tables["classes"]
    shown_table = table[["class", "objects", "fraction", "images", "patients", "per_image"]].copy()
    for column in ("input_width", "input_height", "aspect"):
        shown_table[column.removeprefix("input_")] = [
            f"{low:.2g} / {mid:.2g} / {high:.2g}" if column == "aspect" else f"{low:.0f} / {mid:.0f} / {high:.0f}"
            for low, mid, high in table[[f"{column}_p5", f"{column}_median", f"{column}_p95"]].to_numpy()
        ]
    lines += [shown_table.to_string(index=False, float_format="{:.3g}".format)]
    lines.append(
        f"width and height in pixels of the input (data.size={facts['size']}), aspect is width / height; 5% / median / "
        "95% of the objects"
    )
    if facts["below_8_pixels"]:
        lines.append(
            f"{facts['below_8_pixels']} objects have a side below {SMALL:g} pixels of the input; raise data.size, or "
            "add a finer level (model.levels)"
        )
    lines += _lines_on_anchors(facts) + _lines_on_folds(facts)
    rare = [row["class"] for row in facts["classes"] if row["images"] < RARE]
    if rare:
        lines.append(f"in fewer than {RARE} images: {', '.join(rare)}; see phalanx folds stratify=label")
    lines += [f"left out: {reason}" for reason in facts["left_out"]]
    return "\n".join([*lines, f"{out}: tables (CSV), eda.json, plots (PNG)"])


def _lines_on_anchors(facts: dict[str, Any]) -> list[str]:
    if not facts["anchors"]:
        return []
    whole = facts["anchors"][-1]
    reached = ", ".join(f"{whole[f'recall_{iou:g}']:.1%} at IoU {iou:g}" for iou in FOUND_AT)
    lines = [f"best possible recall of the recipe's anchors: {reached} ({facts['anchor_text']})"]
    if whole["recall_0.5"] < POOR:
        worst = min(facts["anchors"][:-1], key=lambda row: 1.0 if math.isnan(row["recall_0.5"]) else row["recall_0.5"])
        lines.append(
            f"anchors miss objects, most of {worst['class']} ({worst['recall_0.5']:.1%}): raise "
            "model.anchors_per_level, or add levels (model.levels)"
        )
    return lines


def _lines_on_folds(facts: dict[str, Any]) -> list[str]:
    lines = []
    for row in facts["folds"]:
        lacking = [name for name in row if name not in ("fold", "images", "without", "patients") and not row[name]]
        if lacking:
            lines.append(f"fold {row['fold']} has no {', '.join(lacking)}: draw them with stratify=label")
    return lines
