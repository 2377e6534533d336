"""Whole trainings for bench/gpu.py: a race of equal time, and how long commands take to start."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from nnunet import nnunet
from phalanx.cli import main as phalanx
from phalanx.config import Data
from phalanx.config.compose import compose
from phalanx.data.records import test_records, train_records
from phalanx.data.truth import read_truth
from phalanx.runtime.device import open_device
from phalanx.scoring.score import score
from phalanx.submission.table import Submission
from plain import plain_script

WORKERS = 8 if torch.cuda.is_available() else 1  # loader processes


def race(root: str, recipe: str, model: str, size: int, batch: int, seconds: float, who: str) -> dict[str, Any]:
    """Trains from scratch for so many seconds, start and validation left out; Dice on the test images.

    Args:
        who: ours, plain or nnunet.
    """
    config = compose({"experiment": recipe, "data.root": root, "model": model, "model.weights": "none"})
    device, classes = open_device("auto", "auto"), config.data.classes
    if who == "nnunet":
        with tempfile.TemporaryDirectory() as folder:
            made, steps, spent = nnunet(Path(root), classes, device, seconds, side=size, folder=Path(folder))
        return {"dice": dice_of(made, config.data), "steps": steps, "seconds": spent}
    if who == "plain":
        made, steps, spent = plain_script(Path(root), classes, device, seconds, seed=0, side=size,
                                   encoder=config.model.encoder, batch=batch, flip=False)  # fmt: skip
        return {"dice": dice_of(made, config.data), "steps": steps, "seconds": spent}
    with tempfile.TemporaryDirectory() as folder:
        words = [f"experiment={recipe}", f"data.root={root}", f"model={model}", f"data.size={size}", f"batch={batch}"]
        return raced(config.data, Path(folder), *words, seconds=seconds)


def raced(data: Data, folder: Path, *words: str, seconds: float) -> dict[str, Any]:
    """A run of as many epochs as the time allows, by the pace of a pilot, and its prediction of the test images."""
    fixed = ["train", "fold=all", "model.weights=none", f"workers={WORKERS}", "progress=false",
             "validate_every=100000", f"runs={folder}", *words]  # fmt: skip
    if phalanx([*fixed, "name=pilot", "epochs=3"]):
        raise SystemExit("the pilot run failed")
    paces = [event for event in events(folder / "pilot") if event.get("event") == "epoch"]
    per_epoch = paces[-1]["time"] - paces[-2]["time"] if len(paces) > 1 else seconds
    epochs = max(1, int(seconds / per_epoch))
    if phalanx([*fixed, "name=race", f"epochs={epochs}"]):
        raise SystemExit("the run failed")
    seen = events(folder / "race")
    file = folder / "race.csv"
    began = time.monotonic()
    infer = [sys.executable, "-m", "phalanx", "infer", "experiment=race", f"runs={folder}", f"data.root={data.root}"]
    subprocess.run([*infer, f"out={file}", "progress=false"], check=True, stdout=sys.stderr)
    spent = time.monotonic() - began
    made = Submission.read(file)
    trained = [event for event in seen if event.get("event") == "epoch"]
    return {"dice": dice_of(made, data), "steps": trained[-1]["step"], "seconds": per_epoch * epochs,
            "infer": spent, "images": len(made.images)}  # fmt: skip


def events(run: Path) -> list[dict[str, Any]]:
    """The log of a run's only fold."""
    (log,) = run.glob("*/log.jsonl")
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def dice_of(made: Submission, data: Data) -> float:
    """Mean Dice of a submission on the answers beside the data set."""
    assert data.root is not None
    truth, patients = read_truth(Path(data.root) / "test" / "answers_json", data, made.sizes)
    return score(made, truth, patients).mean


def start(root: str, model: str, size: int) -> dict[str, Any]:
    """Seconds from the command to the end of the only step of an epoch, and of the command that predicts an image.

    The disk cache is one that an earlier call has filled.
    """
    images = len(train_records(Path(root)))
    with tempfile.TemporaryDirectory() as folder:
        common = [f"data.root={root}", f"runs={folder}", "progress=false"]
        train = [*common, f"model={model}", "model.weights=none", f"data.size={size}", "fold=all", f"batch={images}",
                 "data.cache=disk", f"data.cache_dir={folder}/cache", "epochs=1", "validate_every=0"]  # fmt: skip
        for name in ("cold", "warm"):
            began = time.time()
            command("train", *train, f"name={name}")
            epoch = next(event for event in events(Path(folder) / name) if event["event"] == "epoch")
        found = {"train": epoch["time"] - began, "images": images}
        one = Path(folder) / "one"
        link_first_image(Path(root), one)
        began = time.time()
        command(
            "infer", "experiment=warm", f"data.root={one}", f"runs={folder}", "progress=false", f"out={folder}/out.csv"
        )
        return found | {"infer": time.time() - began}


def link_first_image(root: Path, out: Path) -> None:
    """A data set of one test image."""
    image = test_records(root)[0].image
    there = out / image.relative_to(root)
    there.parent.mkdir(parents=True)
    there.symlink_to(image)


def command(*words: str) -> None:
    """A command of phalanx, in a process of its own."""
    subprocess.run([sys.executable, "-m", "phalanx", *words], check=True, stdout=sys.stderr)
