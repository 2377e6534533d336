"""Small data sets of images with labels: what a class shows is a bright bar at an angle of its own."""

import csv
from pathlib import Path

import cv2
import numpy as np

CLASSES = ["up", "flat", "slant"]


def picture(shown, seed: int, side: int = 48, colour: bool = False) -> np.ndarray:
    """uint8[side, side] with a bar for each class that is shown, on noise; in colour the bars are blue."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 40, (side, side), np.uint8)
    ends = {"up": ((0, 1), (0, -1)), "flat": ((1, 0), (-1, 0)), "slant": ((1, 1), (-1, -1))}
    bars = np.zeros_like(image)
    for name in shown:
        middle = rng.integers(side // 3, 2 * side // 3, 2)
        one, other = (tuple((middle + np.array(end) * side // 3).tolist()) for end in ends[name])
        cv2.line(bars, one, other, 200, 3)
    if not colour:
        return cv2.max(image, bars)
    return np.dstack([cv2.max(image, bars), image, image])


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())


def make_folders(root: Path, train: int = 24, test: int = 6, colour: bool = False) -> Path:
    """One class per image, in folders; two images per patient."""
    for split, count, first in (("train", train, 0), ("test", test, train)):
        for i in range(first, first + count):
            name = CLASSES[i % 3]
            write(root / split / name / f"P{i // 6 * 3 + i % 3:02d}-{i:03d}.png", picture([name], i, colour=colour))
    return root


def make_table(root: Path, train: int = 24, test: int = 6) -> Path:
    """Any number of classes per image, in a table; two images per patient; every eighth label is missing."""
    rows = {"train": [], "test": []}
    for split, count, first in (("train", train, 0), ("test", test, train)):
        for i in range(first, first + count):
            shown = [name for bit, name in enumerate(CLASSES) if (i * 5 + i // 7) >> bit & 1]
            write(root / split / "images" / f"P{i // 2}" / f"{i:03d}.png", picture(shown, i))
            cells = [
                "" if (i + bit) % 8 == 0 and split == "train" else int(name in shown)
                for bit, name in enumerate(CLASSES)
            ]
            rows[split].append([f"{i:03d}.png", f"P{i // 2}", *cells])
    for split, file in (("train", "train.csv"), ("test", "answers.csv")):
        with (root / file).open("w", newline="", encoding="utf-8") as out:
            csv.writer(out).writerows([["image_name", "patient", *CLASSES], *rows[split]])
    return root


def words(root: Path, layout: str, **changes: object) -> dict[str, str]:
    """Words of `phalanx train` for a tiny recipe on such a set."""
    head = "softmax" if layout == "folders" else "sigmoid"
    base = {
        "task": "classify", "data": "brain" if layout == "folders" else "ultrasound", "model": "resnet18",
        "loss": "ce" if layout == "folders" else "bce", "model.head": head, "model.weights": "none",
        "model.encoder": "test_resnet", "data.root": root, "data.classes": f"[{','.join(CLASSES)}]", "data.size": 32,
        "folds": 2, "epochs": 2, "batch": 4, "workers": 0, "progress": "false", "validate_every": 1, "device": "cpu",
        "augment": "affine", "optim.lr": "5e-3", "optim.ema": 0.5, "metric": "macro_auc", "report": "false",
    }  # fmt: skip
    return {key: str(value) for key, value in (base | {k.replace("__", "."): v for k, v in changes.items()}).items()}
