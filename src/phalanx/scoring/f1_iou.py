"""F1 at an IoU: images called diseased or not, where a disease counts as found if its place is right too.

Each image is in one cell. With a diseased object in the ground truth it is a true positive if the disease is predicted
with at least the IoU threshold, otherwise a false negative. Without one it is a false positive if the disease is
predicted, wherever, otherwise a true negative: what is predicted of the normal organ does not matter there. So TP + FN
are the diseased images, FP + TN the others, as in published tables. With ``below: fn_and_fp`` a disease that is found
in the wrong place is a false alarm besides: such an image counts twice, and the cells add up to more than the images.

The IoU is that of the diseased class alone. Of masks it is of all its pixels in the image. Of boxes it is the best of
the boxes that decide the image with any diseased object: all diseased boxes (``any``), the largest diseased one
(``larger_area``) or the most confident one (``most_confident``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import compress
from typing import Any

import numpy as np

from ..config.base import nearest
from ..config.f1_iou import F1AtIoU
from ..config.loss import BACKGROUND
from ..errors import ConfigError, DataError
from ..masks.box_geometry import box_areas, pairwise_iou
from ..submission.boxes import Boxes
from .classify_compare import ClassifyComparison
from .classify_report import number, text
from .confusion import BinaryCounts
from .mask_counts import MaskCounts
from .resampling import Interval, draws, interval, over

FIGURES = ("accuracy", "precision", "recall", "f1")
CURVE = np.arange(1, 20) / 20  # IoU thresholds


@dataclass(frozen=True)
class F1IoU:
    """Images by what they are, what is predicted and how well its place fits.

    Made by :func:`f1_of_masks` or :func:`f1_of_boxes`.
    """

    name: str
    rule: F1AtIoU
    images: tuple[str, ...]
    diseased: np.ndarray  # bool[N]: the ground truth has an object of the disease
    called: np.ndarray  # bool[N]: predicted diseased, by the rule for images with both classes
    iou: np.ndarray  # float64[N] of the disease; 0 where it is not called, or not there
    patients: tuple[str, ...]  # of each image; the image itself if they are not known
    grouped: bool = True  # patients are known
    class_iou: dict[str, float] = field(default_factory=dict)  # of the background, the normal organ and the disease

    def cells(self, iou: float | None = None) -> np.ndarray:
        """bool[N, 4]: whether each image is a true positive, false positive, false negative, true negative.

        Args:
            iou: threshold; by default that of the rule.
        """
        found = self.called & (self.iou >= (self.rule.iou if iou is None else iou))
        tp, fn = self.diseased & found, self.diseased & ~found
        fp, tn = ~self.diseased & self.called, ~self.diseased & ~self.called
        if self.rule.below == "fn_and_fp":
            fp = fp | (fn & self.called)
        return np.stack([tp, fp, fn, tn], axis=1)

    def counts(self, iou: float | None = None) -> BinaryCounts:
        """int64[]: numbers of images in each cell."""
        return BinaryCounts(*self.cells(iou).sum(axis=0))

    @property
    def confusion(self) -> np.ndarray:
        """int64[2, 2]: [[TP, FN], [FP, TN]]."""
        tp, fp, fn, tn = self.cells().sum(axis=0)
        return np.array([[tp, fn], [fp, tn]])

    def value(self, figure: str, iou: float | None = None) -> float:
        """``accuracy``, ``precision``, ``recall`` or ``f1``; NaN if it is not defined. Accuracy is of all cells."""
        return float(getattr(self.counts(iou), figure))

    def drawn(self, figure: str) -> np.ndarray:
        """A figure in draws of patients, float64[RESAMPLES]. Two predictions of the same patients have the same."""
        index = np.unique(self.patients, return_inverse=True)[1]
        sums = np.zeros((int(index.max()) + 1, 4))
        np.add.at(sums, index, self.cells())
        return np.concatenate([getattr(BinaryCounts(*(drawn @ sums).T), figure) for drawn in draws(len(sums))])

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """95% interval of each figure over patients; None for a single patient."""
        alone = len(set(self.patients)) < 2
        return {figure: None if alone else interval(self.drawn(figure)) for figure in FIGURES}

    def curve(self, thresholds: np.ndarray = CURVE) -> list[dict[str, Any]]:
        """Cells and figures at other IoU thresholds."""
        rows = []
        for iou in thresholds.tolist():
            counts = self.counts(iou)
            cells = {name: int(value) for name, value in counts._asdict().items()}
            rows.append({"iou": iou, **cells, **{name: number(float(getattr(counts, name))) for name in FIGURES}})
        return rows

    def images_of(self, cell: str) -> list[str]:
        """Names of the images in a cell: ``tp``, ``fp``, ``fn`` or ``tn``."""
        return [self.images[i] for i in np.flatnonzero(self.cells()[:, BinaryCounts._fields.index(cell)])]

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON types."""
        cells = self.cells()
        return {
            "rule": self.rule.model_dump(mode="json"),
            "images": len(self.images),
            "patients": len(set(self.patients)) if self.grouped else None,
            **{name: int(count) for name, count in zip(BinaryCounts._fields, cells.sum(axis=0), strict=True)},
            **{name: number(self.value(name)) for name in FIGURES},
            "intervals": self.intervals,
            "class_iou": {label: number(value) for label, value in self.class_iou.items()},
            "curve": self.curve(),
            "per_image": {
                image: {"cells": list(compress(BinaryCounts._fields, row)), "iou": iou}
                for image, row, iou in zip(self.images, cells.tolist(), self.iou.tolist(), strict=True)
            },
        }

    def to_text(self) -> str:
        """Lines for the terminal."""
        (tp, fn), (fp, tn) = self.confusion.tolist()
        rule = self.rule
        both = f", both classes: {rule.both}" if rule.negative else ""
        lines = [
            f"F1 at IoU {rule.iou:g} of {rule.positive} ({len(self.images)} images{both}, below the IoU: {rule.below})",
            f"{'':<16}{'called diseased':>16}{'not':>8}",
            f"{'diseased':<16}{tp:>16}{fn:>8}",
            f"{'not':<16}{fp:>16}{tn:>8}",
        ]
        for figure in FIGURES:
            span = self.intervals[figure]
            shown = "-" if span is None else f"{span[0]:.4f} to {span[1]:.4f}"
            lines.append(f"{figure:<10}{text(self.value(figure)):>8}  95% interval {shown} {over(self.grouped)}")
        lines.append("IoU  " + "  ".join(f"{label} {text(value)}" for label, value in self.class_iou.items()))
        return "\n".join(lines)


def f1_of_masks(
    name: str,
    rule: F1AtIoU,
    classes: Sequence[str],
    images: Sequence[str],
    counts: MaskCounts,
    patients: Sequence[str] | None = None,
    confidence: np.ndarray | None = None,
) -> F1IoU:
    """F1 at an IoU of masks, of label maps or of a submission.

    ``class_iou`` are intersections of all images divided by unions of all.

    Args:
        classes: C names, without the background.
        counts: float64[N, C + 1] of each image.
        patients: of each image; by default each image is a patient of its own.
        confidence: float[N, C] of each class in an image, such as the mean probability of its pixels; only for
            ``both: most_confident``.

    Raises:
        ConfigError: a class of the rule that does not exist, ``most_confident`` without ``confidence``.
        DataError: no images.
    """
    place = _places(rule, classes, name)
    if not images:
        raise DataError(f"{name}: has no images to score")
    positive = place[rule.positive]
    called = counts.predicted[:, positive] > 0
    if rule.negative is not None and rule.both != "any":
        if rule.both == "larger_area":
            weights = counts.predicted[:, : len(classes)]
        elif confidence is None:
            raise ConfigError(f"f1_iou.both=most_confident: masks of {name} have no confidence; use any or larger_area")
        else:
            weights = np.where(counts.predicted[:, : len(classes)] > 0, confidence, -np.inf)
        called &= weights[:, positive] >= weights[:, place[rule.negative]]
    diseased = counts.truth[:, positive] > 0
    iou = np.where(called & diseased, np.nan_to_num(counts.iou[:, positive]), 0.0)
    whole = MaskCounts(*(side.sum(axis=0) for side in counts)).iou
    order = [len(classes), *(place[label] for label in (rule.negative, rule.positive) if label is not None)]
    labels = [BACKGROUND, *(label for label in (rule.negative, rule.positive) if label is not None)]
    ious = {label: float(whole[i]) for label, i in zip(labels, order, strict=True)}
    return _made(name, rule, images, (diseased, called, iou), patients, ious)


def f1_of_boxes(
    name: str,
    rule: F1AtIoU,
    classes: Sequence[str],
    images: Sequence[str],
    predicted: Sequence[Boxes],
    truth: Sequence[Boxes],
    *,
    threshold: float | Sequence[float] = 0.5,
    patients: Sequence[str] | None = None,
) -> F1IoU:
    """F1 at an IoU of boxes.

    ``class_iou`` is the mean, over the objects of a class, of the best IoU with a predicted box of that class.

    Args:
        predicted: of each image; those with a score below ``threshold`` do not count.
        threshold: one for all classes, or one for each.
        truth: of each image; objects to ignore do not count.
        patients: of each image; by default each image is a patient of its own.

    Raises:
        ConfigError: a class of the rule that does not exist. DataError: no images.
    """
    place = _places(rule, classes, name)
    if not images:
        raise DataError(f"{name}: has no images to score")
    labels = [label for label in (rule.negative, rule.positive) if label is not None]
    limits = np.broadcast_to(np.asarray(threshold, float), (len(classes),))
    rows, found = [], {label: list[np.ndarray]() for label in labels}
    for boxes, objects in zip(predicted, truth, strict=True):
        kept, there = boxes.above(limits), objects.chosen(~objects.ignored)
        diseased = there.corners[there.classes == place[rule.positive]]
        deciding = _deciding(kept, rule, place)
        overlaps = pairwise_iou(deciding, diseased)
        rows.append((len(diseased) > 0, len(deciding) > 0, float(overlaps.max()) if overlaps.size else 0.0))
        for label in labels:
            of = [each.corners[each.classes == place[label]] for each in (kept, there)]
            found[label].append(pairwise_iou(*of).max(axis=0, initial=0.0))
    columns = zip(*rows, strict=True)
    values = tuple(np.array(column, kind) for column, kind in zip(columns, (bool, bool, float), strict=True))
    best = {label: np.concatenate(each) for label, each in found.items()}
    ious = {label: float(each.mean()) if len(each) else np.nan for label, each in best.items()}
    return _made(name, rule, images, values, patients, ious)


def _deciding(boxes: Boxes, rule: F1AtIoU, place: dict[str, int]) -> np.ndarray:
    """Corners [K, 4] of the diseased boxes by which an image is called diseased; none if it is not."""
    positive = boxes.chosen(boxes.classes == place[rule.positive])
    if rule.both == "any" or rule.negative is None or not len(positive.corners):
        return positive.corners
    negative = boxes.chosen(boxes.classes == place[rule.negative])
    weights = [box_areas(each.corners) if rule.both == "larger_area" else each.scores for each in (positive, negative)]
    if weights[0].max() < weights[1].max(initial=-np.inf):
        return np.empty((0, 4))
    return positive.corners[[int(weights[0].argmax())]]


def _places(rule: F1AtIoU, classes: Sequence[str], name: str) -> dict[str, int]:
    """Number of each class of a rule."""
    place = {label: i for i, label in enumerate(classes)}
    for key in ("positive", "negative"):
        label = getattr(rule, key)
        if label is not None and label not in place:
            raise ConfigError(f"f1_iou.{key}={label}: is not a class of {name}{nearest(label, classes)}")
    return place


def _made(
    name: str, rule: F1AtIoU, images: Sequence[str], columns: tuple[np.ndarray, ...], patients: Sequence[str] | None,
    class_iou: dict[str, float],
) -> F1IoU:  # fmt: skip
    diseased, called, iou = columns
    of = tuple(images if patients is None else patients)
    return F1IoU(name, rule, tuple(images), diseased, called, iou, of, patients is not None, class_iou)


def compare_f1(first: F1IoU, second: F1IoU, figure: str = "f1") -> ClassifyComparison:
    """The paired difference of a figure of two predictions.

    Raises:
        DataError: they are of other images, diseases or patients.
    """
    alike = {
        "images": first.images == second.images,
        "rules of f1_iou": first.rule == second.rule,
        "patients": (first.patients, first.grouped) == (second.patients, second.grouped),
        "ground truth": np.array_equal(first.diseased, second.diseased),
    }
    for what, same in alike.items():
        if not same:
            raise DataError(f"{first.name} and {second.name} differ in {what}; compare what the same truth scored")
    values = first.value(figure), second.value(figure)
    alone = len(set(first.patients)) < 2
    return ClassifyComparison(
        f"{figure} at IoU {first.rule.iou:g} of {first.rule.positive}", (first.name, second.name), values,
        values[1] - values[0], None if alone else interval(second.drawn(figure) - first.drawn(figure)), first.grouped,
    )  # fmt: skip
