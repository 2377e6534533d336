"""Small data sets of images with objects: bright rectangles and discs, in three layouts."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np

CLASSES = ["block", "disc"]


def picture(seed: int, side: int = 64, count: int = 3) -> tuple[np.ndarray, list[tuple[str, list[list[float]]]]]:
    """uint8[side, side] and its objects, class and outline in the centres of pixels; no two overlap."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 40, (side, side), np.uint8)
    objects = []
    for number in range(count):
        name = CLASSES[int(rng.integers(2))]
        wide, tall = (int(rng.integers(10, 17)) for _ in range(2))
        x = int(rng.integers(1, side - 18))
        y = 1 + number * (side // max(1, count)) + int(rng.integers(0, 3))
        if name == "block":
            cv2.rectangle(image, (x, y), (x + wide, y + tall), 220, -1)
            outline = [[x, y], [x + wide, y], [x + wide, y + tall], [x, y + tall]]
        else:
            radius = wide / 2
            angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
            ring = np.column_stack([x + radius + radius * np.cos(angles), y + radius + radius * np.sin(angles)])
            cv2.fillPoly(image, [np.round(ring * 16).astype(np.int32)], 150, shift=4)
            outline = ring.round(3).tolist()
        objects.append((name, outline))
    return image, objects


def box_of(outline: list[list[float]]) -> list[float]:
    """x_min, y_min, x_max, y_max on pixel edges."""
    points = np.array(outline)
    return [*points.min(0).tolist(), *(points.max(0) + 1).tolist()]


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())


def make_polygons(root: Path, train: int = 16, test: int = 4, empty: int = 2, side: int = 64) -> Path:
    """The competition's files; two images per patient, the first ``empty`` images of train without an object."""
    for split, count, first in (("train", train, 0), ("test", test, train)):
        for i in range(first, first + count):
            image, objects = picture(i, side, 0 if i < empty else 3)
            place = f"P{i // 2:02d}/{i:03d}"
            write(root / split / "DCM" / f"{place}.png", image)
            path = root / split / ("outputs_json" if split == "train" else "answers_json") / f"{place}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            found = [{"label": name, "points": outline} for name, outline in objects]
            path.write_text(json.dumps({"annotations": found}), encoding="utf-8")
    return root


def make_table(root: Path, train: int = 16, test: int = 4, empty: int = 2) -> Path:
    """The same images with a CSV of boxes."""
    rows: dict[str, list[list[object]]] = {"train": [], "test": []}
    for split, count, first in (("train", train, 0), ("test", test, train)):
        for i in range(first, first + count):
            image, objects = picture(i, count=0 if i < empty else 3)
            write(root / split / "images" / f"{i:03d}.png", image)
            boxes = [[name, *box_of(outline)] for name, outline in objects]
            rows[split] += [[f"{i:03d}.png", f"P{i // 2:02d}", *box] for box in boxes or [[""] * 5]]
        header = ["image_name", "patient", "class", "x_min", "y_min", "x_max", "y_max"]
        with (root / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows[split]])
    return root


def make_coco(root: Path, train: int = 16, empty: int = 2, *, drawn: bool = True) -> Path:
    """The same images in COCO JSON, with outlines or with boxes alone."""
    images, annotations = [], []
    for i in range(train):
        image, objects = picture(i, count=0 if i < empty else 3)
        write(root / "images" / f"P{i // 2:02d}" / f"{i:03d}.png", image)
        images.append({"id": i, "file_name": f"P{i // 2:02d}/{i:03d}.png", "height": 64, "width": 64})
        for name, outline in objects:
            x0, y0, x1, y1 = box_of(outline)
            one = {"id": len(annotations), "image_id": i, "category_id": CLASSES.index(name)}
            shape = [(np.array(outline) + 0.5).ravel().tolist()]
            annotations.append(one | ({"segmentation": shape} if drawn else {"bbox": [x0, y0, x1 - x0, y1 - y0]}))
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES)]
    found = {"images": images, "annotations": annotations, "categories": categories}
    (root / "train.json").write_text(json.dumps(found), encoding="utf-8")
    return root


def words(root: Path, layout: str = "polygons", **changes: object) -> dict[str, str]:
    """Words of `phalanx train` for a tiny recipe on such a set."""
    base = {
        "task": "detect", "data": "teeth_boxes", "model": "faster_rcnn", "loss": "boxes", "model.weights": "none",
        "model.encoder": "test_resnet", "model.width": 32, "model.hidden": 32, "model.levels": "[8]",
        "model.anchors_per_level": 2, "model.candidates": 100, "model.proposals": 32, "model.samples": 16,
        "model.anchor_samples": 64, "data.root": root, "data.layout": layout, "data.pairs": "[]",
        "data.classes": f"[{','.join(CLASSES)}]", "data.size": 64, "folds": 2, "epochs": 2, "batch": 4, "workers": 0,
        "progress": "false", "validate_every": 1, "device": "cpu", "augment": "affine", "optim.lr": "3e-3",
        "optim.ema": 0.5, "report": "false",
    }  # fmt: skip
    return {key: str(value) for key, value in (base | {k.replace("__", "."): v for k, v in changes.items()}).items()}
