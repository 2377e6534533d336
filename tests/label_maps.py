"""A tiny set of label maps, as of an organ that is normal or diseased: a disc, of which the diseased one has a hole."""

import csv
from pathlib import Path

import cv2
import numpy as np

CLASSES = ["normal", "diseased"]


def picture(diseased: bool, seed: int, height: int = 48, width: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """An image uint8[H, W] and its label map, of 0, 1 and 2."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, (height, width), np.uint8)
    labels = np.zeros((height, width), np.uint8)
    middle = (int(rng.integers(14, width - 14)), int(rng.integers(14, height - 14)))
    radius = int(rng.integers(8, 11))
    cv2.circle(labels, middle, radius, 2 if diseased else 1, -1)
    image[labels > 0] = rng.integers(150, 220, int((labels > 0).sum()))
    if diseased:
        cv2.circle(image, middle, radius // 2, 20, -1)
    return image, labels


def make(root: Path, train: int = 16, test: int = 4, every: int = 4) -> Path:
    """Each ``every``-th image is diseased; two images per animal, in one folder, whose animal a table names."""
    for split, count, first in (("train", train, 0), ("test", test, train)):
        rows = []
        for i in range(first, first + count):
            image, labels = picture(i % every == 0, i)
            for kind, array in (("images", image), ("labels" if split == "train" else "answers", labels)):
                path = root / split / kind / f"x{i:03d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(cv2.imencode(".png", array)[1].tobytes())
            rows.append([f"x{i:03d}.png", f"A{i // 2}"])
        table = root / ("train.csv" if split == "train" else "test/answers.csv")
        with table.open("w", newline="", encoding="utf-8") as out:
            csv.writer(out).writerows([["image_name", "patient"], *rows])
    return root


def words(root: Path, **changes: object) -> dict[str, str]:
    """Words of `phalanx train` for a tiny softmax on such a set."""
    base = {
        "data": "pet", "data.root": root, "data.masks.patients": "train.csv",
        "data.size": 32, "model.head": "softmax", "model.arch": "unet",
        "model.encoder": "tu-test_resnet", "model.weights": "none", "model.pointrend": "null",
        "model.options": "{decoder_channels:[32,32,16,16,16]}", "loss.stages": "[{weights:{ce:1,dice:1}}]",
        "folds": 2, "epochs": 2, "batch": 4, "workers": 0, "progress": "false", "validate_every": 1, "device": "cpu",
        "augment": "affine", "optim.lr": "1e-2", "optim.ema": 0.5,
    }  # fmt: skip
    return {key: str(value) for key, value in (base | {k.replace("__", "."): v for k, v in changes.items()}).items()}
