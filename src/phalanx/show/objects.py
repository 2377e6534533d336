"""Data sets with boxes of objects, to be shown."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..checks.boxes import check
from ..checks.findings import Report
from ..config import Augment
from ..data.box_set import BoxSet
from ..data.objects import Shape, shapes_of
from ..data.records import Record
from ..visualize.marks import Marks
from .subject import Sample, Subject


class BoxSubject(Subject):
    """Images with objects."""

    lacks: ClassVar[dict[str, str]] = {
        "rotation": "rotation is measured on masks of bones; the data set has boxes",
        "distance": "the boundary loss is of masks; the data set has boxes",
        "marks": "burnt-in marks are removed from images with labels alone (data.overlays)",
        "mix": "mixup and CutMix are of images with labels",
        "noise": "only a denoiser (task=restore) trains on added noise",
    }

    def kind_of(self, record: Record) -> str:
        found = {self.classes[shape.label] for shape in shapes_of(record, self.data)}
        return ", ".join(sorted(found)) or "~"  # images without an object last

    def check(self) -> Report:
        return check(self.data, workers=self.config.workers, progress=self.config.progress)

    def marks(self, record: Record, shape: tuple[int, int]) -> Marks:
        return marks_of(shapes_of(record, self.data, shape))

    def sample_set(self, records: Sequence[Record], augment: Augment, *, crop: bool = False) -> BoxSet:
        shapes = [shapes_of(record, self.data) for record in records]
        return BoxSet(records, shapes=shapes, data=self.data, **self.common(augment))

    def samples(self, batch: Any) -> list[Sample]:
        return [
            Sample(image[0].numpy(), Marks(boxes=target.boxes.numpy().astype(float), labels=target.labels.tolist()))
            for image, target in zip(batch.images, batch.targets, strict=True)
        ]


def marks_of(shapes: Sequence[Shape]) -> Marks:
    """Boxes of objects, and their outlines if they have some."""
    boxes = np.array([shape.box for shape in shapes], float).reshape(-1, 4)
    outlines = [(shape.label, points) for shape in shapes for points in shape.outlines]
    return Marks(boxes=boxes, labels=[shape.label for shape in shapes], outlines=outlines)
