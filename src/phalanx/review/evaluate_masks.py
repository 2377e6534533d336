"""Evaluations of the task ``segment``."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np

from ..config import Config, SegmentConfig, SegmentData
from ..data.attributes import read_attributes
from ..data.records import Record
from ..data.rotation import has_rule
from ..errors import ConfigError, DataError
from ..masks.stack import Stack, shared_areas
from ..runs.reader import FoldRun
from ..runtime.metric import Metric
from ..scoring.confusion import BinaryCounts
from ..scoring.score import DICE
from ..submission.table import Submission
from ..visualize.scene import MaskScene
from .case import scored_folds
from .charts_masks import charts_of_masks
from .evaluate_options import EvaluateOptions
from .evaluated import Evaluated, ImageOf
from .masks import held_out


class Masks(NamedTuple):
    """Predicted masks of images with their ground truth.

    Attributes:
        predicted: the submission that has an image, by its name. Its classes are those of ``truth``, in that order.
        records: of each image: its file, its patient and its annotation.
        folds: that held each image out; None of test images.
    """

    predicted: Mapping[str, Submission]
    truth: Submission
    records: Mapping[str, Record]
    folds: Mapping[str, int | None]


def evaluate_masks(name: str, options: EvaluateOptions) -> Evaluated:
    """A run of the task ``segment``, out of fold.

    Raises:
        ConfigError: no such run, one of another task. DataError: no finished fold, or files that do not fit.
    """
    run, folds, notes = scored_folds(name, options.runs)
    config = folds[0].config_of(SegmentConfig)
    found = held_out(folds, config, options.root)
    masks = Masks(found.predicted, found.truth, found.records, found.folds)
    own = {image: fold for image, fold in found.folds.items() if fold is not None}
    records = [found.records[image] for image in sorted(own)]
    return replace(
        of_masks(run, config, found.data, masks, folds=folds, notes=notes),
        charts=lambda: charts_of_masks(folds, config, found.data, records, own),
    )


def of_masks(
    name: str, config: Config, data: SegmentData, found: Masks, *, metric: Metric = DICE,
    folds: tuple[FoldRun, ...] = (), notes: tuple[str, ...] = (), grouped: bool = True,
) -> Evaluated:  # fmt: skip
    """The evaluation of masks of any origin."""
    classes, names = tuple(found.truth.classes), sorted(found.predicted)
    counts, present = np.zeros((len(names), 4, len(classes))), np.zeros((len(names), len(classes)), bool)

    def stacks(image: str) -> tuple[Stack, Stack]:
        size = found.truth.sizes[image]
        return found.truth.stack(image, size), found.predicted[image].stack(image, size)

    for k, image in enumerate(names):
        truth, made = stacks(image)
        shared, (height, width) = shared_areas(truth, made), found.truth.sizes[image]
        only = made.areas - shared, truth.areas - shared
        counts[k] = shared, *only, height * width - shared - only[0] - only[1]
        present[k] = truth.areas > 0
    sides = BinaryCounts(*np.moveaxis(counts, 1, 0))
    per_class = sides.f1  # the Dice of two masks; NaN if both are empty
    dice = np.where(np.isnan(per_class), 1.0, per_class)  # as in the competition
    columns = np.column_stack([dice.mean(axis=1), dice])

    def figures(drawn: np.ndarray) -> np.ndarray:
        return np.asarray(drawn @ columns / drawn.sum(axis=1, keepdims=True))

    images = tuple(
        ImageOf(image, found.records[image].group, found.folds[image], found.records[image].image) for image in names
    )
    return Evaluated(
        name, config, metric, classes, "pixels", images, sides, present, columns[:, 0], "Dice", per_class, figures,
        lambda image: MaskScene(found.records[image].image, found.truth.sizes[image], *stacks(image)),
        _attributes([found.records[image] for image in names], data), folds, grouped, notes,
    )  # fmt: skip


def _attributes(records: list[Record], data: SegmentData) -> Callable[[], Mapping[str, tuple[str, ...]]]:
    """Attributes of images by the metadata sheet and the annotations, as far as they are known."""

    @cache
    def read() -> Mapping[str, tuple[str, ...]]:
        from ..data.attributes import strata
        from ..data.metadata import COLUMNS

        found: dict[str, tuple[str, ...]] = {}
        for wanted in ([*COLUMNS], ["rotated"] if has_rule(data.classes) else []):
            if wanted:
                try:
                    table = strata(read_attributes(records, data, wanted))
                except (ConfigError, DataError):  # no sheet, or one that check complains about
                    continue
                found |= {column: tuple(map(str, table[column])) for column in table.columns}
        return found

    return read
