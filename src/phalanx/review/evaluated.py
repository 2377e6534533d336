"""A run, a vote or a CSV against the ground truth, whatever the task: what pages, pictures and tables are made of.

``evaluate.py`` makes it. Images are those that a fold held out, or test images whose ground truth is given.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..config import Config
from ..runs.reader import FoldRun
from ..runtime.metric import Metric
from ..scoring.class_figures import ClassFigures, ClassTable, Unit, class_rows
from ..scoring.confusion import BinaryCounts
from ..scoring.resampling import Interval, draws, interval
from ..visualize.scene import Scene
from .charts import Curves


class ImageOf(NamedTuple):
    """An image that was evaluated.

    Attributes:
        patient: the image itself if patients are not known.
        fold: that held it out; None of a test image.
    """

    name: str
    patient: str
    fold: int | None
    path: Path


@dataclass(frozen=True)
class Evaluated:
    """What is known of a run, a vote or a CSV.

    Attributes:
        name: as the user calls it; also that of files about it.
        metric: by which it is ranked; ``figures`` has its values.
        unit: of ``counts``.
        images: in the order of all arrays.
        counts: float64[I, C] of each image and class, in ``unit``. Of boxes there are no true negatives.
        present: bool[I, C]: the ground truth has the class.
        per_image: float64[I]: the figure by which images are ranked, 1 is perfect: Dice, F1 of boxes, or the mean
            probability that is given to what is true.
        per_image_name: what it is called.
        per_class: float64[I, C]: the same of each class; NaN where the class is neither there nor predicted.
        figures: of draws float64[R, I], how often each image counts, the metric float64[R, 1 + C]: of the whole, then
            of each class.
        scene: an image by its name, to draw.
        attributes: text of each image by attribute, such as ``sex`` or ``rotated``; empty if not known. Read late.
        folds: finished folds of a run, for logs and weights; empty of a vote or a CSV.
        grouped: patients are known.
        notes: what the user should know.
        charts: over thresholds, and of calibration, as the task has them. Made late.
    """

    name: str
    config: Config
    metric: Metric
    classes: tuple[str, ...]
    unit: Unit
    images: tuple[ImageOf, ...]
    counts: BinaryCounts
    present: np.ndarray
    per_image: np.ndarray
    per_image_name: str
    per_class: np.ndarray
    figures: Callable[[np.ndarray], np.ndarray]
    scene: Callable[[str], Scene]
    attributes: Callable[[], Mapping[str, tuple[str, ...]]]
    folds: tuple[FoldRun, ...] = ()
    grouped: bool = True
    notes: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)  # of the task: its score object, as `score`
    charts: Callable[[], Sequence[Curves]] = tuple

    @property
    def task(self) -> str:
        """segment, classify or detect."""
        return self.config.task

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the images."""
        return tuple(image.name for image in self.images)

    @cached_property
    def number(self) -> Mapping[str, int]:
        """Number of an image by its name."""
        return {image.name: k for k, image in enumerate(self.images)}

    @cached_property
    def patient_of(self) -> np.ndarray:
        """int64[I]: number of each image's patient, in the order of their names."""
        return np.unique([image.patient for image in self.images], return_inverse=True)[1]

    @property
    def value(self) -> float:
        """The metric of all images; NaN if it is not defined."""
        return self.value_of(np.ones(len(self.images), bool))

    def value_of(self, chosen: np.ndarray) -> float:
        """The metric of some images bool[I]; NaN if it is not defined, as of none."""
        return float(self.figures(chosen[None].astype(float))[0, 0]) if chosen.any() else np.nan

    @cached_property
    def resampled(self) -> np.ndarray:
        """float64[RESAMPLES, 1 + C]: the metric in draws of patients, the same for all evaluations of these images."""
        people = int(self.patient_of.max()) + 1
        return np.concatenate([self.figures(drawn[:, self.patient_of]) for drawn in draws(people)])

    @cached_property
    def interval(self) -> Interval:
        """95% interval of ``value`` over patients; None for a single one."""
        return interval(self.resampled[:, 0]) if self.patient_of.max() > 0 else None

    def table(self, chosen: np.ndarray | None = None) -> list[ClassFigures]:
        """A row per class, over some images bool[I] or all, in the order of the classes."""
        every = np.ones(len(self.images), bool) if chosen is None else chosen
        values = self.figures(every[None].astype(float))[0, 1:] if every.any() else np.full(len(self.classes), np.nan)
        sums = BinaryCounts(*(side[every].sum(axis=0) for side in self.counts))
        return list(class_rows(self.classes, values, self.present[every].sum(axis=0), sums))

    def class_table(self) -> ClassTable:
        """The classes over all images, to compare with those of another prediction."""
        return ClassTable(self.name, self.metric.name, self.unit, tuple(self.table()))

    def ranked(self, classes: tuple[int, ...] = ()) -> list[int]:
        """Numbers of the images, the worst first: by ``per_image``, or by the mean over some classes of ``per_class``.

        With classes, images that have none of them come last.
        """
        if not classes:
            return np.argsort(self.per_image, kind="stable").tolist()
        from ..scoring.confusion import mean_defined

        return np.argsort(mean_defined(self.per_class[:, list(classes)]), kind="stable").tolist()  # NaN last
