"""Truth of pet X-rays: label maps, a table of images or boxes, COCO JSON."""

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .dataset import Rows

CORNERS = ("x_min", "y_min", "x_max", "y_max")


def label_map(outline: np.ndarray, value: int, size: int) -> np.ndarray:
    """uint8[size, size]: ``value`` inside an outline on pixel edges, 0 elsewhere."""
    labels = np.zeros((size, size), np.uint8)
    cv2.fillPoly(labels, [np.round((outline - 0.5) * 16).astype(np.int32)], value, shift=4)
    return labels


def box_of(outline: np.ndarray, size: int) -> list[int]:
    """The smallest box of whole pixels around an outline: x_min, y_min, x_max, y_max on pixel edges."""
    low = np.clip(np.floor(outline.min(0)), 0, size - 1).astype(int)
    high = np.clip(np.ceil(outline.max(0)), low + 1, size).astype(int)
    return [int(v) for v in (*low, *high)]


def write_table(rows: Rows, truth: str, path: Path) -> None:
    """A CSV: of masks a row per image with its class, of boxes a row per box or an empty one per image without any."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        if truth == "masks":
            table.writerow(["image_name", "class", "patient"])
            table.writerows([row["image"], row["class"], row["patient"]] for row in rows)
            return
        table.writerow(["image_name", "class", *CORNERS, "patient"])
        for row in rows:
            if not row["objects"]:
                table.writerow([row["image"], *[""] * 5, row["patient"]])
            for item in row["objects"]:
                table.writerow([row["image"], item["class"], *item["box"], row["patient"]])


def coco(rows: Rows, classes: tuple[str, ...], size: int, outlines: dict[str, list[list[float]]]) -> dict[str, Any]:
    """The same as COCO JSON; its points lie on pixel edges.

    Args:
        outlines: of the single object of an image, x, y, x, y, ... by its name; empty if there are boxes only.
    """
    images: Rows = []
    annotations: Rows = []
    for number, row in enumerate(rows, 1):
        file = f"{row['patient']}/{row['image']}.png"
        images.append({"id": number, "file_name": file, "width": size, "height": size, "patient": row["patient"]})
        for item in row["objects"]:
            x0, y0, x1, y1 = item["box"]
            entry: dict[str, Any] = {
                "id": len(annotations) + 1, "image_id": number, "category_id": classes.index(item["class"]) + 1,
                "bbox": [x0, y0, x1 - x0, y1 - y0], "area": item.get("area", (x1 - x0) * (y1 - y0)), "iscrowd": 0,
            }  # fmt: skip
            if row["image"] in outlines:
                entry["segmentation"] = outlines[row["image"]]
            annotations.append(entry)
    categories = [{"id": k, "name": name} for k, name in enumerate(classes, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_coco(found: dict[str, Any], path: Path) -> None:
    """Writes COCO JSON."""
    path.write_text(json.dumps(found, separators=(",", ":")) + "\n", encoding="utf-8")
