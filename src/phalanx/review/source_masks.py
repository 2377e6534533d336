"""Scenes of the task ``segment`` without an evaluation."""

from pathlib import Path

import numpy as np

from ..config import SegmentConfig
from ..data.images import image_size
from ..data.records import Record
from ..data.truth import planes_of
from ..masks.stack import Stack
from ..submission.table import Submission
from ..visualize.scene import MaskScene
from .scene_source import Predict, PredictedScenes, PredictOptions, SceneSource


def source_of_masks(config: SegmentConfig) -> SceneSource:
    """Scenes of a data set whose root is known."""
    data = config.data
    classes = tuple(data.classes)
    nothing = Stack.of_runs([np.empty((0, 2), np.int64)] * len(classes))

    def truth(record: Record) -> MaskScene:
        size = image_size(record.image)
        stack = Stack.of_planes(planes_of(record, data, size), len(classes)) if record.labels else nothing
        return MaskScene(record.image, size, stack, nothing)

    def predicted(csv: Path) -> PredictedScenes:
        found = Submission.read(csv, classes)

        def scene(image: str, path: Path) -> MaskScene:
            size = image_size(path)
            return MaskScene(path, size, nothing, found.stack(image, size))

        return PredictedScenes(found.images, scene)

    return SceneSource(classes, truth, predicted, _opened)


def _opened(name: str, options: PredictOptions) -> Predict:
    from ..ensemble.options import InferOptions
    from ..ensemble.run import infer_run, opened

    given = InferOptions(root=options.root, runs=options.runs, device=options.device, progress=False)
    found = opened([name], given, options.device, 1)

    def predict(images: Path, out: Path) -> None:
        infer_run(name, given.model_copy(update={"images": images, "out": out}), found)

    return predict
