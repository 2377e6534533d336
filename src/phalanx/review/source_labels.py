"""Scenes of the task ``classify`` without an evaluation."""

from pathlib import Path

import numpy as np

from ..config import ClassifyConfig
from ..data.images import image_size
from ..data.labels import label_row
from ..data.records import Record
from ..submission.probabilities import Probabilities
from ..visualize.scene import LabelScene
from .scene_source import Predict, PredictedScenes, PredictOptions, SceneSource


def source_of_labels(config: ClassifyConfig) -> SceneSource:
    """Scenes of a data set whose root is known. What is not known is NaN."""
    data = config.data
    classes = tuple(data.classes)
    unknown, none = np.full(len(classes), np.nan), np.zeros(len(classes), bool)

    def truth(record: Record) -> LabelScene:
        labels = np.asarray(label_row(record, data), float) if record.labels else unknown
        return LabelScene(record.image, image_size(record.image), labels, unknown, none)

    def predicted(csv: Path) -> PredictedScenes:
        found = Probabilities.read(csv, classes, config.model.head)
        place = {image: k for k, image in enumerate(found.images)}

        def scene(image: str, path: Path) -> LabelScene:
            values = found.values[place[image]]
            called = values >= config.predict.threshold
            if config.model.head == "softmax":
                called = np.arange(len(classes)) == values.argmax()
            return LabelScene(path, image_size(path), unknown, values, called)

        return PredictedScenes(found.images, scene)

    return SceneSource(classes, truth, predicted, _opened)


def _opened(name: str, options: PredictOptions) -> Predict:
    from ..ensemble.classify import InferLabels, infer_run, opened

    given = InferLabels(root=options.root, runs=options.runs, device=options.device, progress=False)
    found = opened(name, given)

    def predict(images: Path, out: Path) -> None:
        infer_run(name, given.model_copy(update={"images": images, "out": out}), found)

    return predict
