"""Folders of finished runs that classify, with given out-of-fold probabilities and no weights."""

from pathlib import Path

import numpy as np
import yaml
from tests.labelled import CLASSES, words

from phalanx.config.compose import compose
from phalanx.data.label_table import labels_csv
from phalanx.runs.reader import FORMAT, FoldResult
from phalanx.runtime.files import write_json
from phalanx.runtime.metric import Metric
from phalanx.submission.probabilities import write_probabilities


def make_run(run: Path, probabilities: np.ndarray, labels: np.ndarray, head: str, folds: int = 2) -> Path:
    """A run of three classes; image k is ``k.png`` of patient ``P<k // 2>``, in fold ``k // 2 % folds``."""
    names, patients = [f"{k:04d}.png" for k in range(len(labels))], [f"P{k // 2}" for k in range(len(labels))]
    number = np.arange(len(labels)) // 2 % folds
    layout = "folders" if head == "softmax" else "table"
    config = compose(words(run.parent / "set", layout, runs=run.parent, name=run.name, folds=folds))
    for fold in range(folds):
        folder, mine = run / f"fold{fold}", np.flatnonzero(number == fold)
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(f"format: {FORMAT}\n{yaml.safe_dump(config.model_dump(mode='json'))}")
        rows = [f"{name},{patient},{k}\n" for name, patient, k in zip(names, patients, number, strict=True)]
        (folder / "folds.csv").write_text("image_name,group,fold\n" + "".join(rows))
        (folder / "labels.csv").write_text(labels_csv(names, CLASSES, labels))
        hashes = {str(folder): f"{fold:064x}"}
        write_probabilities(
            folder / "oof.csv", [names[k] for k in mine], CLASSES, probabilities[mine], head, run_hashes=hashes
        )
        write_json(folder / "done.json", FoldResult(Metric("macro_auc"), 0.9, len(mine), 1.0, 1.0).to_json())
    return run


def overconfident(count: int, head: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities whose logits are 2.5 times too large, and labels drawn by the honest ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal([0.0, -1.0, 0.5], 1.5, (count, 3))
    if head == "softmax":
        honest = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        drawn = (honest.cumsum(axis=1) > rng.random((count, 1))).argmax(axis=1)
        hot = np.exp(2.5 * logits)
        return hot / hot.sum(axis=1, keepdims=True), np.eye(3)[drawn]
    labels = (rng.random((count, 3)) < 1 / (1 + np.exp(-logits))).astype(float)
    return 1 / (1 + np.exp(-2.5 * logits)), labels
