"""Data sets with labels of images, to be shown."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from ..checks.findings import Report
from ..checks.labels import check
from ..config import Augment
from ..data.dataset import LabelledSet
from ..data.labels import label_row, labels_of
from ..data.noisy import NoisySet
from ..data.records import Record
from ..visualize.marks import Marks
from .subject import Sample, Subject

NO_MASKS = "the data set has labels, no masks"


def words_of(labels: Sequence[float], classes: Sequence[str]) -> str:
    """Labels in words: the classes that are there, with a part in percent if it is mixed, and those not labelled.

    >>> words_of([1.0, 0.0, float("nan")], ["a", "b", "c"]), words_of([0.25, 0.0], ["a", "b"])
    ('a; not labelled: c', '25% a')
    """
    there = [
        name if value == 1 else f"{value:.0%} {name}" for name, value in zip(classes, labels, strict=True) if value > 0
    ]
    unknown = [name for name, value in zip(classes, labels, strict=True) if value != value]
    text = " + ".join(there) or "none of the classes"
    return f"{text}; not labelled: {', '.join(unknown)}" if unknown else text


class LabelSubject(Subject):
    """Images with labels."""

    draws: ClassVar[bool] = False
    lacks: ClassVar[dict[str, str]] = {
        "rotation": f"rotation is measured on bones; {NO_MASKS}",
        "distance": f"the boundary loss needs outlines; {NO_MASKS}",
        "noise": "only a denoiser (task=restore) trains on added noise",
    }

    @cached_property
    def rows(self) -> dict[str, Sequence[float]]:
        """Labels by image name."""
        return {record.name: label_row(record, self.data) for record in self.records}

    def kind_of(self, record: Record) -> str:
        return words_of(self.rows[record.name], self.classes)

    def check(self) -> Report:
        return check(self.data, workers=self.config.workers, progress=self.config.progress)

    def marks(self, record: Record, shape: tuple[int, int]) -> Marks:
        return Marks(text=words_of(label_row(record, self.data), self.classes))

    def sample_set(self, records: Sequence[Record], augment: Augment, *, crop: bool = False) -> Any:
        labels = labels_of(records, self.data)
        return LabelledSet(records, labels=labels, data=self.data, **self.common(augment))

    def samples(self, batch: Any) -> list[Sample]:
        return [
            Sample(picture(image.numpy()), Marks(text=words_of(labels.tolist(), self.classes)))
            for image, labels in zip(batch.images, batch.labels, strict=True)
        ]


class NoiseSubject(LabelSubject):
    """Images that a denoiser trains on."""

    lacks: ClassVar[dict[str, str]] = {
        **{what: why for what, why in LabelSubject.lacks.items() if what != "noise"},
        "mix": "a denoiser mixes no images",
    }

    def sample_set(self, records: Sequence[Record], augment: Augment, *, crop: bool = False) -> NoisySet:
        return NoisySet(records, levels=self.data.restore.levels, **self.common(augment))

    def samples(self, batch: Any) -> list[Sample]:
        return [Sample(picture(image.numpy()), Marks()) for image in batch.clean]


def picture(image: np.ndarray) -> np.ndarray:
    """uint8[1 or 3, S, S] as uint8[S, S] or [S, S, 3]."""
    return image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
