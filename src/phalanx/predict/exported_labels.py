"""A run that classifies as ONNX files, predicted by onnxruntime without torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from ..config import ClassifyData
from ..config.classify import ClassifyPredict
from ..data.classes import mirrored
from ..data.prepared import channels_first, prepare_image
from ..data.records import Record
from ..runtime.progress import Progress
from ..runtime.provenance import digest
from .exported import Export, check_graph, logits_of, open_session, read_export, refuse_options
from .views import View, views_of

FORMAT = "phalanx-export-labels-1"


class LabelExport(Export):
    """``export.json`` of labels. The network takes uint8[1, 1 or 3, side, side] and gives logits float32[1, C]."""

    format: Literal["phalanx-export-labels-1"]
    data: ClassifyData
    predict: ClassifyPredict


class ExportedRecipe(NamedTuple):
    """What an export has of the configuration of its run."""

    data: ClassifyData
    predict: ClassifyPredict


class ExportedClassifier:
    """The folds of an export that predict together, as `predict.classify.ClassifierRun`.

    Args:
        tta: views; None: those of the run's own recipe.

    Raises:
        ConfigError: what an export cannot do. DataError: a file is damaged, or onnxruntime cannot load it.
    """

    def __init__(self, folder: Path, *, weights: str, device: str, precision: str, tta: Sequence[str] | None = None):
        about = read_export(folder, LabelExport)
        refuse_options(folder, about, weights, device, precision)
        self.name, self.classes, self.head = str(folder), list(about.data.classes), about.head
        self.config = ExportedRecipe(about.data, about.predict)
        self.mirrored = mirrored(len(self.classes), about.data.pair_indices)
        self.tta = list(about.predict.tta if tta is None else tta)
        self.hashes = {str(folder / one.file): one.weights_sha256 for one in about.folds}
        self.sessions = {str(folder / one.file): open_session(folder / one.file) for one in about.folds}
        shape = [1, 3 if about.data.colour else 1, about.side, about.side]
        for name, session in self.sessions.items():
            check_graph(session, name, shape, [1, len(self.classes)])
        self.key = digest(["onnx", [one.sha256 for one in about.folds], self.tta, about.data.model_dump(mode="json")])

    def predict(self, records: Sequence[Record], batch: int, *, progress: bool) -> np.ndarray:
        """Probabilities float64[N, C] of images, which are predicted one at a time, whatever ``batch`` is.

        Raises:
            DataError: an image that cannot be read.
        """
        found, views = [], views_of(self.tta)
        with Progress(self.name, len(records), unit="image", enabled=progress) as bar:
            for record in records:
                image = channels_first(prepare_image(record, self.config.data)[0])
                found.append(self._mean(image[None], views))
                bar.update(1)
        return np.concatenate(found)

    def _mean(self, images: np.ndarray, views: Sequence[View]) -> np.ndarray:
        total = np.zeros((1, len(self.classes)))
        for view in views:
            seen = view.apply(images)
            for name, session in self.sessions.items():
                found = probabilities_of(logits_of(session, name, seen), self.head).astype(np.float64)
                total += found[:, self.mirrored] if view.mirrored else found
        return total / (len(views) * len(self.sessions))


def probabilities_of(logits: np.ndarray, head: str) -> np.ndarray:
    """Probabilities float32[B, C] of logits float32[B, C]."""
    if head == "softmax":
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        return raised / raised.sum(axis=1, keepdims=True)
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1 / (1 + small), small / (1 + small))
