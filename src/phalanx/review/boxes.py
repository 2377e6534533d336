"""Runs of the task ``detect`` to be reviewed: their boxes out of fold, or those of the test images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..config import DetectConfig, DetectData
from ..config.f1_iou import F1AtIoU
from ..data.box_truth import read_box_truth, with_endings
from ..data.layouts import test_records
from ..data.objects import box_truth
from ..data.quarantine import kept_records
from ..data.root import resolve_root
from ..ensemble.box_thresholds import FILE, BoxThresholds
from ..errors import DataError
from ..masks.box_geometry import pairwise_iou
from ..runs.reader import FoldRun
from ..runtime.sidecar import is_csv
from ..scoring.boxes import score_boxes
from ..scoring.f1_iou import f1_of_boxes
from ..scoring.object_suspects import Annotated
from ..submission.boxes import Boxes, BoxSubmission
from .case import Case, Outline, Reviewed, Seen, rule_of, scored_folds
from .options import ReviewOptions
from .places import test_answers

NOTHING = 0.01  # a score so low that it says nothing of an object's class
THERE = 0.1  # IoU from which a predicted box is about an object


class Images(NamedTuple):
    """Predicted boxes of images, in the order of their ground truth."""

    predicted: BoxSubmission
    truth: BoxSubmission
    folds: Mapping[str, int | None]
    paths: Mapping[str, Path]


def review_boxes(name: str, options: ReviewOptions) -> Reviewed:
    """A run of the task ``detect`` with its images.

    Raises:
        ConfigError: no such run, one of another task, a rule that does not fit its classes.
        DataError: no finished fold, or predictions or annotations that are missing or do not fit.
    """
    run, folds, notes = scored_folds(name, options.runs)
    config = folds[0].config_of(DetectConfig)
    rule = rule_of(options.f1_iou, config, name)
    data = resolve_root(config.data.model_copy(update={"root": options.root or config.data.root}))
    made = cache(lambda: held_out(folds, config, data))  # not read for test images with known thresholds
    limits, why = counting_from(made, folds, config, rule.iou, options.threshold)
    notes += (f"{run}: {why}",)
    found = made() if options.split == "oof" else _tested(name, run, data, options)
    classes, names = tuple(config.data.classes), found.truth.images
    patients = [found.truth.patients.get(image, image) for image in names]
    both = found.predicted.boxes, found.truth.boxes
    f1 = f1_of_boxes(run, rule, classes, names, *both, threshold=limits.tolist(), patients=patients)
    cases = tuple(_case(k, found, patients[k], classes, rule, limits) for k in range(len(names)))
    place = {image: k for k, image in enumerate(names)}

    def seen(image: str) -> Seen:
        k = place[image]
        counted = found.predicted.boxes[k].above(limits)
        return Seen(_outlines(found.truth.boxes[k], classes), _outlines(counted, classes))

    return Reviewed(run, config, f1, cases, seen, folds, notes)


def counting_from(
    made: Callable[[], Images], folds: Sequence[FoldRun], config: DetectConfig, iou: float, threshold: float | None
) -> tuple[np.ndarray, str]:
    """Thresholds of scores float64[C], and where they are from: the one given, those of ``infer``, or the best one.

    Args:
        made: images that the folds held out.
        iou: at which the best one is.

    Raises:
        DataError: the run's file of thresholds is of other weights.
    """
    classes, folder = config.data.classes, folds[0].folder.parent
    if threshold is not None:
        return np.full(len(classes), threshold), f"boxes count from a score of {threshold:g}"
    hashes = {str(fold.folder): digest for fold in folds if (digest := fold.weights_digest()) is not None}
    stored = BoxThresholds.of_run(folder, folds[0].folder.parent.name, classes, hashes)
    if stored is not None:
        return stored.limits(), f"boxes count from the scores in {folder / FILE} ({stored.shown}); threshold= sets it"
    best = score_boxes(made().predicted, made().truth, iou=iou).best_threshold().score
    return np.full(len(classes), best), (
        f"boxes count from a score of {best:.3f}, the best one out of fold; threshold= sets it"
    )


def held_out(folds: Sequence[FoldRun], config: DetectConfig, data: DetectData) -> Images:
    """What finished folds predicted of the images that they held out."""
    predicted, fold_of = dict[str, Boxes](), dict[str, int | None]()
    for fold in folds:
        made = BoxSubmission.read(fold.folder / "oof.csv", config.data.classes)
        predicted |= zip(made.images, made.boxes, strict=True)
        fold_of |= dict.fromkeys(made.images, fold.number)
    records = [record for record in kept_records(data, report=False) if record.name in predicted]
    if lacking := sorted(predicted.keys() - {record.name for record in records}):
        raise DataError(
            f"{data.root}: has no annotated image {lacking[0]}, which {folds[0].folder.parent} held out "
            f"({len(lacking)} such); name the data set it was trained on with data.root="
        )
    truth = box_truth(records, data)
    boxes = tuple(predicted[image] for image in truth.images)
    made = BoxSubmission(str(folds[0].folder.parent), truth.images, truth.classes, boxes)
    return Images(made, truth, fold_of, {record.name: record.image for record in records})


def _tested(name: str, run: str, data: DetectData, options: ReviewOptions) -> Images:
    """What a run predicts of the test images, written below ``out``."""
    from ..ensemble.detect import InferBoxes, infer_run

    answers = test_answers(data, options.truth)
    paths = {record.name: record.image for record in test_records(data)}
    out = options.out / run / "test.csv"
    made = BoxSubmission.read(
        infer_run(
            name, InferBoxes(out=out, root=data.root, runs=options.runs, postprocess=None, device=options.device,
                             progress=options.progress)
        ),
        data.classes,
    )  # fmt: skip
    if is_csv(answers):
        truth = BoxSubmission.read(answers, data.classes, truth=True)
    else:
        truth = read_box_truth(answers, data, made.sizes)
    truth = with_endings(truth, made.images)
    if differing := sorted(set(truth.images) ^ set(made.images)):
        raise DataError(
            f"{truth.name}: and the test images differ in {differing[0]} ({len(differing)} such); name the ground "
            "truth of these images with truth="
        )
    made = replace(made, images=truth.images, boxes=tuple(made.boxes[made.images.index(i)] for i in truth.images))
    return Images(made, truth, dict.fromkeys(truth.images), paths)


def _case(k: int, found: Images, patient: str, classes: Sequence[str], rule: F1AtIoU, limits: np.ndarray) -> Case:
    image, predicted, truth = found.truth.images[k], found.predicted.boxes[k], found.truth.boxes[k]
    counted, there = predicted.above(limits), truth.chosen(~truth.ignored)
    deciding = counted.chosen(counted.classes == list(classes).index(rule.positive))
    if not len(deciding.scores):
        deciding = counted
    objects = []
    for number, label in enumerate(there.classes.tolist(), 1):
        if rule.negative is not None and classes[label] in (rule.negative, rule.positive):
            one = there.chosen(np.array([number - 1]))
            evidence = _diseased(one, predicted, classes, rule)
            objects.append(
                Annotated(image, patient, number, classes[label] == rule.positive, float(one.areas[0]), evidence)
            )
    return Case(
        image, patient, found.folds[image], found.paths[image], _areas(there, classes), _areas(counted, classes),
        _mean_iou(there, counted), float(deciding.scores.max()) if len(deciding.scores) else None, tuple(objects),
    )  # fmt: skip


def _areas(boxes: Boxes, classes: Sequence[str]) -> dict[str, float]:
    """Area of all boxes of each class that is there."""
    sums = np.bincount(boxes.classes, weights=boxes.areas, minlength=len(classes))
    return {label: float(area) for label, area in zip(classes, sums, strict=True) if area}


def _mean_iou(truth: Boxes, predicted: Boxes) -> float:
    """Mean over the classes in either of the mean, over objects, of the best IoU with a box of their class; 0 for a
    class in one of them alone, 1 without boxes."""
    found = []
    for label in sorted({*truth.classes.tolist(), *predicted.classes.tolist()}):
        sides = [each.corners[each.classes == label] for each in (predicted, truth)]
        overlaps = pairwise_iou(*sides)
        found.append(float(overlaps.max(axis=0).mean()) if overlaps.size else 0.0)
    return float(np.mean(found)) if found else 1.0


def _diseased(one: Boxes, predicted: Boxes, classes: Sequence[str], rule: F1AtIoU) -> float:
    """The fraction of the best score times IoU at an object that is of diseased boxes; 0.5 if nothing is there."""
    overlaps = pairwise_iou(predicted.corners, one.corners)[:, 0]
    best = []
    for label in (rule.negative, rule.positive):
        same = (predicted.classes == list(classes).index(str(label))) & (overlaps >= THERE)
        best.append(float((predicted.scores * overlaps)[same].max(initial=0.0)))
    return (best[1] + NOTHING) / (sum(best) + 2 * NOTHING)


def _outlines(boxes: Boxes, classes: Sequence[str]) -> list[Outline]:
    return [
        Outline(classes[label], np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]))
        for (x0, y0, x1, y1), label in zip(boxes.corners.tolist(), boxes.classes.tolist(), strict=True)
    ]
