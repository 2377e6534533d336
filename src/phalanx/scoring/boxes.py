"""Scores of predicted boxes: COCO's average precision, F1 at an IoU, and which class is taken for which.

Intervals resample patients. The boxes are matched once (:mod:`.box_matches`); a draw of patients only weighs images.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from ..masks.box_geometry import pairwise_iou
from ..submission.boxes import Boxes, BoxSubmission
from ..submission.matching import check_matching
from .box_matches import COCO_IOU, MAX_BOXES, ClassMatches, Curve, average_precisions, match_boxes, recalls
from .classify_compare import ClassifyComparison
from .confusion import BinaryCounts, mean_defined
from .resampling import Interval, draws, interval

METRICS = ("map", "map50", "map75", "recall", "f1")
THRESHOLD = 0.5  # of scores, for what counts boxes
IOU = 0.5


class Threshold(NamedTuple):
    """A threshold of scores, and the F1 it gives."""

    score: float
    f1: float


@dataclass(frozen=True)
class BoxScore:
    """Predicted boxes against the ground truth, and what follows from them. Made by :func:`score_boxes`."""

    name: str
    images: tuple[str, ...]
    classes: tuple[str, ...]
    predicted: tuple[Boxes, ...]
    truth: tuple[Boxes, ...]
    matches: tuple[ClassMatches, ...]  # of each class
    iou: np.ndarray  # float64[T]: thresholds of the matches, COCO's among them
    at: float  # IoU for F1 and the confusion
    thresholds: np.ndarray  # float64[C]: a box counts for F1 and the confusion if its score is at least that
    patients: tuple[str, ...]  # of each image; the image itself if they are not known
    grouped: bool = True  # patients are known

    @cached_property
    def _patient(self) -> np.ndarray:
        """int64[I]: number of each image's patient."""
        return np.unique(self.patients, return_inverse=True)[1]

    def _at(self, iou: float) -> int:
        """Number of an IoU threshold."""
        return int(np.abs(self.iou - iou).argmin())

    @property
    def matched_at(self) -> int:
        """Number of the IoU threshold ``at`` in the matches."""
        return self._at(self.at)

    @cached_property
    def _once(self) -> np.ndarray:
        return np.ones((1, len(self.images)))

    @cached_property
    def ap(self) -> np.ndarray:
        """float64[C, T]: average precision of each class at each threshold of ``iou``; NaN without objects."""
        return np.stack([average_precisions(one, self._once)[0] for one in self.matches])

    @cached_property
    def counts(self) -> BinaryCounts:
        """int64[C]: boxes that find an object at ``at``, other boxes, objects that are not found; no negatives."""
        return BinaryCounts(*(side[0].astype(np.int64) for side in self._counts(self._once)))

    def _counts(self, drawn: np.ndarray) -> BinaryCounts:
        """[R, C] in draws float64[R, I]."""
        t, columns = self._at(self.at), []
        for one, threshold in zip(self.matches, self.thresholds, strict=True):
            counted = (one.scores >= threshold) & ~one.ignored[t]
            of_box = drawn[:, one.image]
            tp = of_box @ (counted & one.found[t])
            columns.append((tp, of_box @ counted - tp, drawn @ one.objects - tp))
        tp, fp, fn = np.moveaxis(np.array(columns), 0, -1)
        return BinaryCounts(tp, fp, fn, np.zeros_like(tp))

    def values(self, metric: str, drawn: np.ndarray) -> np.ndarray:
        """A figure in draws float64[R, I] of images, float64[R, 1 + C]: the whole, then each class.

        The whole is the mean over the classes with objects; of ``f1`` all boxes count together.
        """
        if metric == "f1":
            counts = self._counts(drawn)
            whole = BinaryCounts(*(side.sum(axis=1, keepdims=True) for side in counts))
            return np.concatenate([whole.f1, counts.f1], axis=1)
        of = recalls if metric == "recall" else average_precisions
        chosen = self._chosen(metric)
        columns = [of(_only(one, chosen), drawn).mean(axis=1) for one in self.matches]
        each = np.stack(columns, axis=1)
        return np.concatenate([mean_defined(each)[:, None], each], axis=1)

    def _chosen(self, metric: str) -> list[int]:
        """Numbers of the thresholds that a figure is the mean over."""
        if metric not in METRICS:
            raise DataError(f"{metric}: no such figure of boxes; one of {', '.join(METRICS)}")
        single = {"map50": 0.5, "map75": 0.75}.get(metric)
        return [self._at(value) for value in (COCO_IOU if single is None else [single])]

    @cached_property
    def figures(self) -> dict[str, np.ndarray]:
        """float64[1 + C] of each of ``METRICS``: the whole, then each class; NaN if it is not defined."""
        return {name: self.values(name, self._once)[0] for name in METRICS}

    def value(self, metric: str) -> float:
        """A figure of the whole: ``map``, ``map50``, ``map75``, ``recall`` (at most ``max_boxes``) or ``f1``."""
        return (
            float(self.figures[metric][0]) if metric in self.figures else float(self.values(metric, self._once)[0, 0])
        )

    def drawn(self, metric: str) -> np.ndarray:
        """A figure in draws of patients, float64[RESAMPLES, 1 + C]. Two scores of the same patients have the same."""
        count = int(self._patient.max()) + 1
        return np.concatenate([self.values(metric, chunk[:, self._patient]) for chunk in draws(count)])

    def intervals(self, metric: str) -> list[Interval]:
        """95% intervals of a figure over patients: of the whole, then of each class; None for a single patient."""
        if len(set(self.patients)) < 2:
            return [None] * (1 + len(self.classes))
        return [interval(column) for column in self.drawn(metric).T]

    def curve(self, label: str, iou: float | None = None) -> Curve:
        """Precision and recall of a class at each score.

        Args:
            iou: one of the thresholds that were matched; ``at`` by default.
        """
        return self.matches[self.classes.index(label)].curve(self._at(self.at if iou is None else iou))

    def best_threshold(self, label: str | None = None) -> Threshold:
        """The threshold of scores with the highest F1 at ``at``, of equals the highest; of one class, or one for all.

        Of a prediction that is scored with it, it is optimistic: choose it out of fold. Without a box it is 1.
        """
        chosen = self.matches if label is None else (self.matches[self.classes.index(label)],)
        return best_of(chosen, self.matched_at)

    @cached_property
    def confusion(self) -> np.ndarray:
        """int64[C + 1, C + 1]: objects by true class (row) and that of the box found there (column).

        Whatever its class, each box that counts takes the free object with the largest IoU, from the highest score to
        the lowest. The last column has objects without a box, the last row boxes without an object.
        """
        count = len(self.classes)
        matrix = np.zeros((count + 1, count + 1), np.int64)
        for predicted, truth in zip(self.predicted, self.truth, strict=True):
            boxes = predicted.above(self.thresholds).sorted()
            true, got = pair_classes(boxes, truth, self.at, count)
            np.add.at(matrix, (true, got), 1)
        return matrix

    def exchanged(self, pairs: Mapping[str, str]) -> int:
        """Objects that are found under the name of their pair, as those of the other side of the body."""
        number = {name: i for i, name in enumerate(self.classes)}
        both = {*pairs.items(), *((b, a) for a, b in pairs.items())}
        return sum(int(self.confusion[number[a], number[b]]) for a, b in both if a in number and b in number)


def best_of(matches: Sequence[ClassMatches], t: int) -> Threshold:
    """The threshold of scores with the highest F1 over all boxes of some classes, of equals the highest threshold; 1
    if no box finds an object.

    Args:
        t: number of the IoU threshold.
    """
    scores = np.concatenate([one.scores for one in matches])
    order = np.argsort(-scores, kind="stable")
    joined = ClassMatches(
        scores[order], np.zeros(len(order), np.int64),
        np.concatenate([one.found[[t]] for one in matches], axis=1)[:, order],
        np.concatenate([one.ignored[[t]] for one in matches], axis=1)[:, order],
        np.array([sum(int(one.objects.sum()) for one in matches)]),
    )  # fmt: skip
    curve = joined.curve(0)
    f1 = np.nan_to_num(curve.f1)
    if not f1.any():
        return Threshold(1.0, 0.0)
    best = int(f1.argmax())
    return Threshold(float(curve.scores[best]), float(f1[best]))


def _only(matches: ClassMatches, thresholds: Sequence[int]) -> ClassMatches:
    """The same matches at some thresholds."""
    return matches._replace(found=matches.found[thresholds], ignored=matches.ignored[thresholds])


def pair_classes(boxes: Boxes, truth: Boxes, iou: float, background: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes of the objects and of the boxes found there, int64[K] each; ``background`` for what has no counterpart.

    Args:
        boxes: in the order in which they choose.
        truth: those to ignore are left out, with the boxes that lie in them by ``iou`` or more and find nothing else.
        iou: that a box and its object must reach.
    """
    counted = np.flatnonzero(~truth.ignored)
    overlap = pairwise_iou(boxes.corners, truth.corners[counted])
    true, got, taken = [], [], np.zeros(len(counted), bool)
    crowds = truth.corners[truth.ignored]
    for i, label in enumerate(boxes.classes.tolist()):
        free = np.where(taken, -1.0, overlap[i])
        best = int(free.argmax()) if len(free) else -1
        if best >= 0 and free[best] >= iou:
            taken[best] = True
            true.append(int(truth.classes[counted[best]]))
            got.append(label)
        elif not _covered(boxes.corners[i], crowds, iou):
            true.append(background)
            got.append(label)
    missed = truth.classes[counted[~taken]].tolist()
    return np.array(true + missed, np.int64), np.array(got + [background] * len(missed), np.int64)


def pair_boxes(boxes: Boxes, truth: Boxes, iou: float) -> tuple[np.ndarray, np.ndarray]:
    """Which boxes of one image find an object of their class, bool[N], and which objects none finds, bool[M].

    A box that lies in an object to ignore counts as right.

    Args:
        boxes: from the highest score to the lowest.
    """
    overlap = pairwise_iou(boxes.corners, truth.corners)
    right, missed = np.zeros(len(boxes.scores), bool), ~truth.ignored
    for i, label in enumerate(boxes.classes.tolist()):
        free = np.where(missed & (truth.classes == label), overlap[i], -1.0)
        if len(free) and free.max() >= iou:
            right[i] = True
            missed[int(free.argmax())] = False
        else:
            right[i] = _covered(boxes.corners[i], truth.corners[truth.ignored], iou)
    return right, missed


def _covered(corners: np.ndarray, crowds: np.ndarray, fraction: float) -> bool:
    """Whether that fraction of a box lies in one of some boxes."""
    low, high = np.maximum(corners[:2], crowds[:, :2]), np.minimum(corners[2:], crowds[:, 2:])
    inside = np.clip(high - low, 0, None).prod(axis=1)
    return bool((inside >= fraction * (corners[2:] - corners[:2]).prod()).any())


def score_boxes(
    submission: BoxSubmission,
    truth: BoxSubmission,
    *,
    iou: float = IOU,
    threshold: float | Sequence[float] = THRESHOLD,
    max_boxes: int = MAX_BOXES,
) -> BoxScore:
    """Scores of predicted boxes.

    Args:
        truth: its patients group the images of intervals; by default each image is a patient of its own.
        iou: for F1, the curves and the confusion. Average precision always has COCO's ten.
        threshold: of scores, for F1 and the confusion; one for all classes, or one for each.
        max_boxes: of each image and class, as in COCO.

    Raises:
        DataError: images, classes or known sizes differ, an image has no patient though others have, thresholds that
            are not numbers from 0 to 1.
    """
    check_matching([submission, truth])
    classes, place = tuple(truth.classes), {image: i for i, image in enumerate(submission.images)}
    ordered = submission.reorder(classes)
    predicted = tuple(ordered.boxes[place[image]] for image in truth.images)
    if without := [image for image in truth.images if truth.patients and image not in truth.patients]:
        raise DataError(
            f"{truth.name}: {len(without)} of {len(truth.images)} images have no patient, first {without[0]!r}; name "
            "the patient of every image, or none"
        )
    if not 0 < iou <= 1:
        raise DataError(f"iou {iou:g}: give a number above 0, up to 1")
    limits = np.broadcast_to(np.asarray(threshold, float), (len(classes),)) if np.size(threshold) in (
        1, len(classes)) else None  # fmt: skip
    if limits is None or not ((limits >= 0) & (limits <= 1)).all():
        raise DataError(
            f"threshold {threshold}: give one number from 0 to 1, or one for each of {len(classes)} classes"
        )
    levels = COCO_IOU if np.isclose(COCO_IOU, iou).any() else np.sort(np.append(COCO_IOU, iou))
    matches = match_boxes(predicted, truth.boxes, len(classes), levels, max_boxes=max_boxes)
    grouped = bool(truth.patients)
    of = tuple(truth.patients[image] for image in truth.images) if grouped else tuple(truth.images)
    return BoxScore(
        submission.name, tuple(truth.images), classes, predicted, tuple(truth.boxes), tuple(matches), levels, iou,
        limits, of, grouped,
    )  # fmt: skip


def compare_boxes(first: BoxScore, second: BoxScore, metric: str) -> ClassifyComparison:
    """The paired difference of a figure.

    Raises:
        DataError: they are of other images, classes or patients.
    """
    alike: dict[str, Callable[[BoxScore], object]] = {
        "images": lambda one: one.images,
        "classes": lambda one: one.classes,
        "patients": lambda one: (one.patients, one.grouped),
    }
    for what, of in alike.items():
        if of(first) != of(second):
            raise DataError(f"{first.name} and {second.name} differ in {what}; compare what the same truth scored")
    values = first.value(metric), second.value(metric)
    alone = len(set(first.patients)) < 2
    span = None if alone else interval(second.drawn(metric)[:, 0] - first.drawn(metric)[:, 0])
    return ClassifyComparison(metric, (first.name, second.name), values, values[1] - values[0], span, first.grouped)
