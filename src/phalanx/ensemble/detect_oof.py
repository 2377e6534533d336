"""What the finished folds of a run that detects predicted out of fold, scored by the objects it was trained with."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..config import DetectConfig
from ..errors import DataError
from ..runs.reader import FoldRun, scored_folds_of
from ..scoring.boxes import BoxScore, score_boxes
from ..submission.boxes import BoxSubmission


class OutOfFold(NamedTuple):
    """``score`` of the held-out images of all finished ``folds``, and ``numbers``: the fold of each image."""

    score: BoxScore
    folds: list[FoldRun]
    numbers: list[int]


def out_of_fold(run: Path) -> OutOfFold:
    """Scores of all images that finished folds of a run held out, by the objects it was trained with.

    Raises:
        ConfigError: a run of another task. DataError: no finished fold, or one that cannot be read.
    """
    folds = scored_folds_of(run, "CSVs with their ground truth")
    config, joined = folds[0].config_of(DetectConfig), joined_boxes(run, folds)
    return OutOfFold(score_boxes(joined.made, joined.truth, iou=config.f1_iou), folds, joined.folds)


class Joined(NamedTuple):
    """Boxes of all images that some folds held out, their objects with patients, and the fold of each image."""

    made: BoxSubmission
    truth: BoxSubmission
    folds: list[int]


def joined_boxes(run: Path, folds: Sequence[FoldRun]) -> Joined:
    """What folds of a run predicted out of fold, in one table.

    Raises:
        ConfigError: a run of another task. DataError: a fold that cannot be read.
    """
    config = folds[0].config_of(DetectConfig)
    classes = config.data.classes
    made = [BoxSubmission.read(fold.folder / "oof.csv", classes) for fold in folds]
    gold: dict[str, BoxSubmission] = {}
    for fold in folds:
        objects = BoxSubmission.read(fold.folder / "objects.csv", classes, truth=True)
        gold |= dict.fromkeys(objects.images, objects)
    patients = {name: patient for fold in folds for name, patient in fold.patients.items()}
    images = tuple(name for part in made for name in part.images)
    lacking = [name for name in images if name not in gold or name not in patients]
    if lacking:
        raise DataError(f"{run}: its objects.csv and folds.csv do not list {lacking[0]}, which was held out")
    truth = BoxSubmission(
        str(run), images, classes, tuple(gold[name].boxes[gold[name].images.index(name)] for name in images),
        patients={name: patients[name] for name in images},
    )  # fmt: skip
    joined = BoxSubmission(str(run), images, classes, tuple(boxes for part in made for boxes in part.boxes))
    of = [fold.number or 0 for fold, part in zip(folds, made, strict=True) for _ in part.images]
    return Joined(joined, truth, of)
