"""Which predicted boxes find which objects: matched once by pycocotools, and figures of any draw of images from that.

Matching is COCO's: in each image and class, from the highest score to the lowest, a box takes the free object of its
class with the largest IoU, if that reaches the threshold. What the boxes above a score find is thereby the same whether
or not there are others below. Objects to ignore are COCO's crowds: any number of boxes may match one, by the fraction
of the box that lies in it, and those boxes count neither as right nor as wrong.
"""

import contextlib
import io
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError
from ..submission.boxes import Boxes

COCO_IOU = np.linspace(0.5, 0.95, 10)  # as COCO has them, to the last bit
RECALLS = np.linspace(0, 1, 101)
MAX_BOXES = 100  # of an image and class, those with the highest scores


class ClassMatches(NamedTuple):
    """Boxes of one class in all images, from the highest score to the lowest; equal ones in the order of the images."""

    scores: np.ndarray  # float64[D]
    image: np.ndarray  # int64[D], of each box
    found: np.ndarray  # bool[T, D]: matched with an object at each IoU threshold
    ignored: np.ndarray  # bool[T, D]: matched with an object to ignore
    objects: np.ndarray  # int64[I]: of each image, without those to ignore

    def of_images(self, chosen: np.ndarray) -> "ClassMatches":
        """The same in some images bool[I]; others are left without boxes and objects."""
        kept = chosen[self.image]
        columns = (self.scores[kept], self.image[kept], self.found[:, kept], self.ignored[:, kept])
        return ClassMatches(*columns, np.where(chosen, self.objects, 0))

    def curve(self, t: int) -> "Curve":
        """Precision and recall at an IoU threshold, by number, and each score."""
        found, counted = self.found[t] & ~self.ignored[t], ~self.ignored[t]
        last = np.append(np.diff(self.scores) != 0, True) if len(self.scores) else np.zeros(0, bool)
        tp, boxes = found.cumsum()[last], counted.cumsum()[last]
        return Curve(self.scores[last], tp, boxes - tp, int(self.objects.sum()))


class Curve(NamedTuple):
    """Counts of the boxes with at least each score."""

    scores: np.ndarray  # float64[S], falling
    tp: np.ndarray  # int64[S]
    fp: np.ndarray  # int64[S]
    objects: int

    @property
    def fn(self) -> np.ndarray:
        """int64[S]: objects that are not found."""
        return self.objects - self.tp

    @property
    def precision(self) -> np.ndarray:
        """float64[S]; NaN if every box is ignored."""
        whole = self.tp + self.fp
        return np.divide(self.tp, whole, out=np.full(len(whole), np.nan), where=whole > 0)

    @property
    def recall(self) -> np.ndarray:
        """float64[S]; NaN without objects."""
        return self.tp / self.objects if self.objects else np.full(len(self.tp), np.nan)

    @property
    def f1(self) -> np.ndarray:
        """float64[S]: 2 TP / (2 TP + FP + FN); NaN if there is neither an object nor a box that counts."""
        whole = 2 * self.tp + self.fp + self.fn
        return np.divide(2 * self.tp, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def match_boxes(
    predicted: Sequence[Boxes],
    truth: Sequence[Boxes],
    classes: int,
    iou: Sequence[float] | np.ndarray = COCO_IOU,
    *,
    max_boxes: int = MAX_BOXES,
) -> list[ClassMatches]:
    """Matches of each class.

    Args:
        predicted: boxes of each image.
        truth: boxes of the same images, in their order.
        classes: how many there are.
        iou: T thresholds, rising.
        max_boxes: of each image and class, the boxes with the highest scores count.

    Raises:
        DataError: numbers of images that differ, thresholds that are not from 0 to 1 or not rising.
    """
    thresholds = np.asarray(iou, float)
    if len(predicted) != len(truth):
        raise DataError(f"boxes of {len(predicted)} images, and ground truth of {len(truth)}; give the same images")
    if not len(thresholds) or not (np.diff(thresholds) > 0).all() or not 0 < thresholds[0] <= thresholds[-1] <= 1:
        raise DataError(f"iou {thresholds.tolist()}: give rising thresholds above 0 and up to 1")
    # pycocotools does not look at images without boxes and objects, so their numbers stay
    evaluated = _evaluated([each.sorted() for each in predicted], truth, classes, thresholds, max_boxes)
    found = []
    for c in range(classes):
        objects = np.array([int(((each.classes == c) & ~each.ignored).sum()) for each in truth], np.int64)
        found.append(_joined([(i, one) for i, one in enumerate(evaluated[c]) if one is not None], objects, thresholds))
    return found


def _joined(parts: Sequence[tuple[int, dict[str, Any]]], objects: np.ndarray, thresholds: np.ndarray) -> ClassMatches:
    """The matches of one class in all images, sorted by score."""
    empty = np.zeros((len(thresholds), 0), bool)
    scores = np.concatenate([np.empty(0), *(one["dtScores"] for _, one in parts)])
    image = np.concatenate([np.empty(0, np.int64), *(np.full(len(one["dtScores"]), i) for i, one in parts)])
    order = np.argsort(-scores, kind="stable")
    found = np.concatenate([empty, *(one["dtMatches"] > 0 for _, one in parts)], axis=1)
    ignored = np.concatenate([empty, *(one["dtIgnore"].astype(bool) for _, one in parts)], axis=1)
    return ClassMatches(scores[order], image[order], found[:, order], ignored[:, order], objects)


def _evaluated(
    predicted: Sequence[Boxes], truth: Sequence[Boxes], classes: int, thresholds: np.ndarray, max_boxes: int
) -> list[list[dict[str, Any] | None]]:
    """pycocotools' matches of each class and image."""
    from pycocotools.cocoeval import COCOeval

    class Evaluation(COCOeval):
        def _prepare(self) -> None:
            """The boxes as they are, without files."""
            self._gts, self._dts = _annotations(truth, crowds=True), _annotations(predicted, crowds=False)

    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        run = Evaluation(iouType="bbox")
        run.params.imgIds, run.params.catIds = list(range(len(truth))), list(range(classes))
        run.params.iouThrs, run.params.maxDets = thresholds, [max_boxes]
        run.params.areaRng, run.params.areaRngLbl = [[0, 1e10]], ["all"]
        run.evaluate()
    count = len(truth)
    return [run.evalImgs[c * count : (c + 1) * count] for c in range(classes)]


def _annotations(images: Sequence[Boxes], *, crowds: bool) -> dict[tuple[int, int], list[dict[str, Any]]]:
    """Annotations as pycocotools wants them, by image and class."""
    found: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    number = 0
    for i, boxes in enumerate(images):
        widths = boxes.corners[:, 2:] - boxes.corners[:, :2]
        sides = np.concatenate([boxes.corners[:, :2], widths], axis=1)
        rows = zip(sides.tolist(), boxes.scores.tolist(), boxes.classes.tolist(), boxes.ignored.tolist(), strict=True)
        for bbox, score, label, ignore in rows:
            number += 1  # from 1: 0 means no match
            flag = int(crowds and ignore)
            found[i, label].append(
                {"id": number, "bbox": bbox, "area": bbox[2] * bbox[3], "score": score, "iscrowd": flag, "ignore": flag}
            )
    return found


def average_precisions(matches: ClassMatches, draws: np.ndarray) -> np.ndarray:
    """COCO's average precision of one class in draws of images, float64[R, T]; NaN for a draw without objects.

    Precision is interpolated at 101 recalls. It is highest at boxes that find an object, so only there are the counts
    needed; how many recalls such a box is the first to reach is a difference of two searches.

    Args:
        draws: float64[R, I], how often each image is in each draw; ones for all images once.
    """
    objects = draws @ matches.objects
    of_box = draws[:, matches.image]
    made = np.full((len(draws), len(matches.found)), np.nan)
    some = objects > 0
    whole = of_box.cumsum(axis=1)
    for t, (found, ignored) in enumerate(zip(matches.found, matches.ignored, strict=True)):
        places = np.flatnonzero(found & ~ignored)
        if not len(places):
            made[some, t] = 0
            continue
        tp = of_box[:, places].cumsum(axis=1)
        boxes = whole[:, places]
        if ignored.any():
            boxes = boxes - (of_box * ignored).cumsum(axis=1)[:, places]
        precision = tp / (boxes + np.spacing(1))
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        reached = np.searchsorted(RECALLS, tp / np.maximum(objects, 1)[:, None], side="right")
        first = np.diff(reached, axis=1, prepend=0)
        made[some, t] = ((best * first).sum(axis=1) / len(RECALLS))[some]
    return made


def recalls(matches: ClassMatches, draws: np.ndarray) -> np.ndarray:
    """Fraction of the objects of one class that any box finds, float64[R, T]; NaN for a draw without objects."""
    objects = draws @ matches.objects
    found = (matches.found & ~matches.ignored).astype(float)
    hits = draws[:, matches.image] @ found.T
    return np.divide(hits, objects[:, None], out=np.full(hits.shape, np.nan), where=objects[:, None] > 0)
