"""Scenes of the task ``detect`` without an evaluation."""

from pathlib import Path

import numpy as np

from ..config import DetectConfig
from ..data.images import image_size
from ..data.objects import boxes_of, shapes_of
from ..data.records import Record
from ..submission.boxes import Boxes, BoxSubmission
from ..visualize.scene import BoxScene
from .scene_source import Predict, PredictedScenes, PredictOptions, SceneSource


def source_of_boxes(config: DetectConfig) -> SceneSource:
    """Scenes of a data set whose root is known. Nothing is missed or right, as one side is not known."""
    data = config.data
    classes = tuple(data.classes)

    def truth(record: Record) -> BoxScene:
        size = image_size(record.image)
        boxes = boxes_of(shapes_of(record, data, size)) if record.labels else Boxes.of()
        missed = np.zeros(len(boxes.scores), bool)
        return BoxScene(record.image, size, boxes, Boxes.of(), np.zeros(0, bool), missed, len(classes))

    def predicted(csv: Path) -> PredictedScenes:
        found = BoxSubmission.read(csv, classes)
        place = {image: k for k, image in enumerate(found.images)}

        def scene(image: str, path: Path) -> BoxScene:
            boxes = found.boxes[place[image]].sorted()
            right = np.ones(len(boxes.scores), bool)
            return BoxScene(path, image_size(path), Boxes.of(), boxes, right, np.zeros(0, bool), len(classes))

        return PredictedScenes(found.images, scene)

    return SceneSource(classes, truth, predicted, _opened)


def _opened(name: str, options: PredictOptions) -> Predict:
    from ..ensemble.detect import InferBoxes, infer_run, opened

    given = InferBoxes(root=options.root, runs=options.runs, device=options.device, progress=False)
    found = opened(name, given)

    def predict(images: Path, out: Path) -> None:
        infer_run(name, given.model_copy(update={"images": images, "out": out}), found)

    return predict
