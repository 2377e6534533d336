"""Probabilities of images by the classifiers of runs: folds averaged first, then views of test-time augmentation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..config import PREPROCESSING, ClassifyConfig
from ..data.classes import mirrored
from ..data.prepared import channels_first, prepare_image
from ..data.records import Record
from ..errors import ConfigError, DataError
from ..models.classifier import Classifier, build_classifier
from ..runs.checkpoint import check_fit, load_weights
from ..runs.reader import FoldRun, fold_folders
from ..runtime.device import Device, open_device
from ..runtime.progress import Progress
from ..runtime.provenance import digest
from .views import View, trained_views


class ClassifierFold(NamedTuple):
    """A trained classifier of one fold, on its device, and the SHA-256 of its weights."""

    folder: Path
    config: ClassifyConfig
    network: Classifier
    weights: str


class ClassifierRun:
    """The folds of a run that predict together.

    Args:
        name: a run, its folder, or the folder of one of its folds.
        weights: final, best or last.
        tta: views; None: those of the run's own recipe.

    Raises:
        ConfigError: no such run, or one that has no such weights or is not of this task.
        DataError: the folder is damaged, or its folds have other classes or heads.
    """

    def __init__(self, name: str, *, runs: Path, weights: str, device: Device, tta: Sequence[str] | None = None):
        self.name, self.device = name, device
        self.folds = [open_fold(folder, weights, device) for folder in fold_folders(name, runs, weights)]
        config = self.folds[0].config
        for fold in self.folds[1:]:
            if (fold.config.model.head, _seen(fold.config)) != (config.model.head, _seen(config)):
                raise DataError(
                    f"{fold.folder}: has other classes, another head or input than {self.folds[0].folder}; they cannot "
                    "be averaged"
                )
        self.config, self.classes, self.head = config, list(config.data.classes), config.model.head
        self.mirrored = mirrored(len(self.classes), config.data.pair_indices)
        self.tta = list(config.predict.tta if tta is None else tta)
        self.views = trained_views(name, config.augment, self.tta)
        self.hashes = {str(fold.folder): fold.weights for fold in self.folds}
        self.key = digest([sorted(self.hashes.values()), self.tta, _seen(config)])

    def predict(self, records: Sequence[Record], batch: int, *, progress: bool) -> np.ndarray:
        """Probabilities float64[N, C] of images.

        Args:
            batch: images at once.

        Raises:
            DataError: an image that cannot be read.
        """
        found, views = [], self.views
        with torch.no_grad(), Progress(self.name, len(records), unit="image", enabled=progress) as bar:
            for first in range(0, len(records), batch):
                part = records[first : first + batch]
                images = np.stack([channels_first(prepare_image(record, self.config.data)[0]) for record in part])
                found.append(self._mean(torch.from_numpy(images).to(self.device.torch), views))
                bar.update(len(part))
        return np.concatenate(found)

    def _mean(self, images: Tensor, views: Sequence[View]) -> np.ndarray:
        total: Any = 0.0
        for view in views:
            seen = view.apply(images)
            for fold in self.folds:
                with self.device.autocast():
                    logits = fold.network.predict(seen)
                found = probabilities_of(logits, self.head).double()
                total = total + (found[:, self.mirrored] if view.mirrored else found)
        return (total / (len(views) * len(self.folds))).cpu().numpy()


def _seen(config: ClassifyConfig) -> dict[str, Any]:
    """The options of data that change what a network sees, and its classes."""
    return config.data.model_dump(
        mode="json", include={"classes", "pairs", "size", *PREPROCESSING, "colour", "overlays"}
    )


def open_fold(folder: Path, weights: str, device: Device) -> ClassifierFold:
    """The classifier of a fold's folder. Raises as :class:`ClassifierRun`."""
    config = FoldRun(folder).config_of(ClassifyConfig)
    found = load_weights(folder / weights)
    if found is None:
        raise ConfigError(f"{folder}: has no {weights} weights yet; train it first (bash train.sh)")
    network = build_classifier(
        config.model, classes=len(config.data.classes), size=config.data.size, channels=3 if config.data.colour else 1,
        pretrained=False, marker=config.marker_maps,
    )  # fmt: skip
    check_fit(folder / weights, found[0], network)
    network.load_state_dict(found[0])
    return ClassifierFold(folder, config, network.eval().to(device.torch), found[1])


def probabilities_of(logits: Tensor, head: str) -> Tensor:
    """Probabilities float32[B, C] of logits [B, C]."""
    return torch.softmax(logits.float(), dim=1) if head == "softmax" else torch.sigmoid(logits.float())


def open_classifier(
    name: str, *, runs: Path, weights: str = "final", device: str = "auto", precision: str = "auto",
    tta: Sequence[str] | None = None,
) -> ClassifierRun:  # fmt: skip
    """As :class:`ClassifierRun`, on a device by name."""
    return ClassifierRun(name, runs=runs, weights=weights, device=open_device(device, precision), tta=tta)
