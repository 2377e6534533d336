"""nnU-Net (Isensee et al., 2021) as it configures itself in 2D, on the competition's layout, for a race of equal time.

Its labels exclude each other: where classes overlap, the last one counts. All training images are trained on. The
learning rate falls over the time given as it would over its epochs. It is not compiled, which would take most of a
short race. Needs nnunetv2.
"""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from phalanx.data.records import test_records, train_records
from phalanx.masks.rle import encode
from phalanx.runtime.device import Device
from phalanx.runtime.files import write_json
from phalanx.runtime.processes import cores
from phalanx.submission.table import Submission
from plain import grey, plain_sample

NAME, NUMBER = "Dataset001_race", 1
WARM_UP = 2  # steps before the time begins, in which cuDNN chooses


def nnunet(
    root: Path, classes: Sequence[str], device: Device, seconds: float, *, side: int, folder: Path
) -> tuple[Submission, int, float]:
    """Trains for so many seconds and predicts the test images; with the number of steps, and the seconds they took.

    Args:
        side: to which images are squeezed.
        folder: for its files.
    """
    processes = max(1, min(8, cores() - 1))
    os.environ |= {f"nnUNet_{kind}": str(folder / kind) for kind in ("raw", "preprocessed", "results")}
    os.environ |= {"nnUNet_compile": "false", "nnUNet_n_proc_DA": str(processes), "nnUNet_def_n_proc": str(processes)}
    write_raw(folder / "raw" / NAME, root, classes, side)
    trainer = planned(folder, device, processes)
    steps, spent = trained(trainer, seconds)
    return predicted(trainer, root, classes, side), steps, spent


def write_raw(out: Path, root: Path, classes: Sequence[str], side: int) -> None:
    """The training images and their labels, from 1, as nnU-Net reads them."""
    for kind in ("imagesTr", "labelsTr"):
        (out / kind).mkdir(parents=True)
    records = train_records(root)
    for number, record in enumerate(records):
        image, masks = (part.numpy() for part in plain_sample(record, classes, side))
        labels = np.zeros((side, side), np.uint8)
        for label, mask in enumerate(masks, 1):
            labels[mask > 0] = label
        cv2.imwrite(str(out / "imagesTr" / f"{number:05}_0000.png"), image)
        cv2.imwrite(str(out / "labelsTr" / f"{number:05}.png"), labels)
    write_json(out / "dataset.json", {
        "channel_names": {"0": "X-ray"}, "numTraining": len(records), "file_ending": ".png",
        "labels": {"background": 0, **{name: label for label, name in enumerate(classes, 1)}},
    })  # fmt: skip


def planned(folder: Path, device: Device, processes: int) -> Any:
    """nnU-Net's trainer of what it has planned and preprocessed."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    extract_fingerprints([NUMBER], num_processes=processes, check_dataset_integrity=False, verbose=False)
    plans = plan_experiments([NUMBER])
    preprocess([NUMBER], plans, configurations=("2d",), num_processes=(processes,))
    made = folder / "preprocessed" / NAME
    read = [json.loads((made / f"{name}.json").read_text(encoding="utf-8")) for name in (plans, "dataset")]
    trainer = nnUNetTrainer(read[0], "2d", "all", read[1], device=device.torch)
    trainer.disable_checkpointing = True
    trainer.plot_network_architecture = lambda: None
    return trainer


def trained(trainer: Any, seconds: float) -> tuple[int, float]:
    """Trains for so many seconds; returns the steps and the seconds that they took."""
    trainer.on_train_start()
    trainer.network.train()
    for _ in range(WARM_UP):
        trainer.train_step(next(trainer.dataloader_train))
    steps, began = 0, time.monotonic()
    while (spent := time.monotonic() - began) < seconds:
        trainer.lr_scheduler.step(trainer.num_epochs * spent / seconds)
        trainer.train_step(next(trainer.dataloader_train))
        steps += 1
    for loader in (trainer.dataloader_train, trainer.dataloader_val):
        if hasattr(loader, "_finish"):
            loader._finish()
    return steps, time.monotonic() - began


def predicted(trainer: Any, root: Path, classes: Sequence[str], side: int) -> Submission:
    """The test images by nnU-Net's sliding window and mirroring."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    trainer.set_deep_supervision_enabled(False)
    predictor = nnUNetPredictor(device=trainer.device, perform_everything_on_device=trainer.device.type == "cuda",
                                allow_tqdm=False)  # fmt: skip
    predictor.manual_initialization(
        trainer.network, trainer.plans_manager, trainer.configuration_manager, [trainer.network.state_dict()],
        trainer.dataset_json, "nnUNetTrainer", trainer.inference_allowed_mirroring_axes,
    )  # fmt: skip
    rles: dict[str, Any] = {}
    sizes = {}
    for record in test_records(root):
        whole = grey(record)
        small = cv2.resize(whole, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
        labels = predictor.predict_single_npy_array(small[None, None], {"spacing": (999, 1, 1)})[0].astype(np.uint8)
        labels = cv2.resize(labels, whole.shape[::-1], interpolation=cv2.INTER_NEAREST)
        rles[record.name] = [encode(labels == label) for label in range(1, len(classes) + 1)]
        sizes[record.name] = whole.shape
    return Submission.of(rles, list(classes), sizes, "nnU-Net")
