"""Data sets with masks, to be shown."""

from collections.abc import Sequence
from typing import Any, ClassVar

from ..checks.findings import Report
from ..checks.run import check
from ..config import Augment
from ..data.dataset import TrainingSet, Unwarped
from ..data.records import Record
from ..data.truth import planes_of
from ..visualize.marks import Marks
from .subject import Sample, Subject


class MaskSubject(Subject):
    """Images with masks of classes."""

    lacks: ClassVar[dict[str, str]] = {
        "marks": "burnt-in marks are removed from images with labels alone (data.overlays)",
        "mix": "mixup and CutMix are of images with labels",
        "noise": "only a denoiser (task=restore) trains on added noise",
    }

    def check(self) -> Report:
        return check(self.data, workers=self.config.workers, progress=self.config.progress)

    def measurable(self, record: Record) -> Record:
        """With its masks, which show the rotation."""
        return record

    def marks(self, record: Record, shape: tuple[int, int]) -> Marks:
        return Marks(planes=planes_of(record, self.data, shape))

    def sample_set(self, records: Sequence[Record], augment: Augment, *, crop: bool = False) -> TrainingSet:
        data = self.data if crop else self.data.model_copy(update={"crop": None})
        return TrainingSet(records, data=data, **self.common(augment))

    def samples(self, batch: Any) -> list[Sample]:
        found = batch.warp(self.data.pair_indices) if isinstance(batch, Unwarped) else batch
        return [
            Sample(image[0].numpy(), Marks(planes=planes.permute(1, 2, 0).numpy()))
            for image, planes in zip(found.images, found.planes, strict=True)
        ]
