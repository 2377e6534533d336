"""Do the synthetic brain slices look like real ones, to statistics and to a classifier?

Compares grey levels, black background and the radial power spectrum with a folder of real slices, one folder per class
(`<root>/train/<class>`, `<root>/test/<class>`); without it only the synthetic set is measured. `baseline` in the JSON
is the real statistic. A regression on histograms of oriented gradients at 96 pixels says how hard the classes are, for
unseen patients (real: test images whose pixels do not occur in train). Another one on the upper corners and the sides
of the image says whether the background gives the class away: without a confound (.5 is chance), and with one.

    python bench/brain_look.py [--quick] [--root DIR] [--json FILE]
"""

import hashlib
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from common import flags, keep
from phalanx.phantom.brain import make_brain
from phalanx.phantom.brain_lesion import CLASSES

SIDE = 96  # pixels of the classifier's input
CELL, BINS = 8, 9  # of the histograms of oriented gradients
RINGS = (4, 16, 64, 100)  # cycles per image
BLACK, DARK = 10, 25  # grey levels


def statistics(images: list[np.ndarray]) -> dict[str, float]:
    """Means over images uint8[H, W] of grey levels and of the spectrum."""
    rows, spectra = [], []
    for image in images:
        grey = image.astype(np.float32)
        rows.append([(grey < BLACK).mean(), (grey < DARK).mean(), *np.percentile(grey[grey >= DARK], (10, 50, 90))])
        if min(image.shape) >= 240:
            spectra.append(spectrum(cv2.resize(grey, (256, 256))))
    names = [f"fraction darker than {BLACK}", f"fraction darker than {DARK}"]
    names += [f"{q} of the brighter pixels" for q in ("10th percentile", "median", "90th percentile")]
    found = dict(zip(names, np.mean(rows, axis=0), strict=True))
    for ring, value in zip(RINGS, np.mean(spectra, axis=0), strict=True):
        found[f"log10 of the relative power at {ring} cycles per image"] = value
    return {name: float(value) for name, value in found.items()}


def spectrum(grey: np.ndarray) -> np.ndarray:
    """log10 of the power of single frequencies over that of all, at each of ``RINGS``."""
    window = np.hanning(len(grey))
    power = np.abs(np.fft.fft2((grey - grey.mean()) * window[:, None] * window)) ** 2
    f = np.fft.fftfreq(len(grey)) * len(grey)
    radius = np.hypot(f[:, None], f)
    return np.array([np.log10(power[np.abs(radius - ring) < 1].mean() / power.sum()) for ring in RINGS])


def gradients(images: list[np.ndarray]) -> np.ndarray:
    """Histograms of oriented gradients with normalised blocks of 2x2 cells (Dalal and Triggs, 2005)."""
    found = []
    rows, columns = np.indices((SIDE, SIDE)) // CELL
    for image in images:
        grey = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
        gx, gy = cv2.Sobel(grey, cv2.CV_32F, 1, 0, ksize=1), cv2.Sobel(grey, cv2.CV_32F, 0, 1, ksize=1)
        angle = np.floor((np.arctan2(gy, gx) % np.pi) / np.pi * BINS).astype(int) % BINS
        cells = np.zeros((SIDE // CELL, SIDE // CELL, BINS), np.float32)
        np.add.at(cells, (rows, columns, angle), np.hypot(gx, gy))
        blocks = np.concatenate([cells[:-1, :-1], cells[1:, :-1], cells[:-1, 1:], cells[1:, 1:]], axis=-1)
        found.append((blocks / (np.linalg.norm(blocks, axis=-1, keepdims=True) + 5)).ravel())
    return np.array(found)


def background(images: list[np.ndarray]) -> np.ndarray:
    """Air only: mean, spread and black pixels of the upper corners and the upper sides, as fractions of the size."""
    found = []
    for image in images:
        grey, n = image.astype(np.float32), len(image)
        corner, edge = n // 10, max(n // 64, 1)
        sides = grey[corner : n // 2, :edge], grey[corner : n // 2, -edge:]
        parts = (grey[:corner, :corner], grey[:corner, -corner:], grey[:edge], *sides)
        found.append([v for p in parts for v in (np.log1p(p.mean()), np.log1p(p.std()), (p == 0).mean())])
    return np.array(found)


def regression(strength: float) -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=500))


def macro_auc(labels: np.ndarray, probabilities: np.ndarray) -> float:
    return float(roc_auc_score(labels, probabilities, multi_class="ovr"))


def made(out: Path, patients: int, size: int, seed: int, **options: Any) -> tuple[list[np.ndarray], list[dict]]:
    """A synthetic set without faults: images and manifest rows."""
    options = {"duplicates": 0.0, "wrong_labels": 0.0, "workers": 1, "progress": False, **options}
    rows = make_brain(out, patients=patients, size=size, seed=seed, **options)["images"]
    return [cv2.imread(str(out / r["split"] / r["class"] / f"{r['image']}.png"), 0) for r in rows], rows


def real_set(root: Path, split: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Grey images and labels of a folder of real slices."""
    files = [(k, file) for k, name in enumerate(CLASSES) for file in sorted((root / split / name).iterdir())]
    return [cv2.imread(str(file), 0) for _, file in files], np.array([k for k, _ in files])


def unseen(train: list[np.ndarray], test: list[np.ndarray]) -> np.ndarray:
    """Which test images have pixels that no training image has."""
    known = {hashlib.sha256(image.tobytes()).digest() for image in train}
    return np.array([hashlib.sha256(image.tobytes()).digest() not in known for image in test])


def main() -> None:
    parser = flags(__doc__, quick="few patients: shows that it runs")
    parser.add_argument("--root", type=Path, help="real slices")
    args = parser.parse_args()
    patients = 16 if args.quick else 240
    real: dict[str, float] = {}
    hardness = None
    if args.root is not None:
        images, labels = real_set(args.root, "train")
        tested, answers = real_set(args.root, "test")
        real = statistics(images)
        new = unseen(images, tested)
        model = regression(1e-3).fit(gradients(images), labels)
        hardness = macro_auc(answers[new], model.predict_proba(gradients(tested))[new])
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        begun = time.process_time()
        images, listed = made(Path(folder) / "large", patients // 4, 256, 1)
        speed = len(images) / (time.process_time() - begun)
        for name, value in statistics(images).items():
            rows.append({"claim": name, "ours": value, "baseline": real.get(name), "unit": "mean over images"})
        images, listed = made(Path(folder) / "small", patients, 128, 2)
        labels = np.array([CLASSES.index(row["true_class"]) for row in listed])
        train = np.array([row["split"] == "train" for row in listed])
        features = gradients(images)
        guess = regression(1e-3).fit(features[train], labels[train]).predict_proba(features[~train])
        claim, ours = "regression on gradients, unseen patients", macro_auc(labels[~train], guess)
        rows.append({"claim": claim, "ours": ours, "baseline": hardness, "unit": "macro AUC"})
        for confound in (0.0, 0.9):
            # not cross-validated: sources are balanced exactly, so a left-out patient's class is rarer in the rest
            options = {"confound": confound, "test_patients": patients // 2}
            images, listed = made(Path(folder) / f"confound{confound}", patients // 2, 128, 3, **options)
            labels = np.array([CLASSES.index(row["true_class"]) for row in listed])
            train, features = np.array([row["split"] == "train" for row in listed]), background(images)
            guess = regression(0.1).fit(features[train], labels[train]).predict_proba(features[~train])
            claim, ours = f"regression on the background alone, confound {confound}", macro_auc(labels[~train], guess)
            rows.append({"claim": claim, "ours": ours, "baseline": 0.5, "unit": "macro AUC"})
        rows.append({"claim": "drawing 256-pixel images, one process", "ours": speed, "unit": "images per CPU second"})
    for row in rows:
        ours, baseline = row["ours"], row.get("baseline")
        row["ratio"] = ours / baseline if baseline and baseline > 0 else None
        print(f"{row['claim']:60} {ours:8.3f} {'' if baseline is None else f'{baseline:8.3f}':8} {row['unit']}")
    keep(rows, args.json)


if __name__ == "__main__":
    main()
