"""What is reviewed of a run, whatever its task predicts: images with their objects, predictions and cells."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..config import Config, nearest
from ..config.f1_iou import F1AtIoU
from ..errors import ConfigError, DataError
from ..runs.reader import FoldRun, fold_folders
from ..scoring.confusion import BinaryCounts
from ..scoring.f1_iou import F1IoU
from ..scoring.object_suspects import Annotated

CELLS = BinaryCounts._fields  # tp, fp, fn, tn
NAMES = {"tp": "true positives", "fp": "false positives", "fn": "false negatives", "tn": "true negatives"}


class Outline(NamedTuple):
    """The border of an object in an image.

    Attributes:
        points: float64[N, 2], x and y on pixel edges; the last is joined to the first.
    """

    label: str
    points: np.ndarray


class Seen(NamedTuple):
    """Outlines of an image: of the ground truth and of the prediction."""

    truth: list[Outline]
    predicted: list[Outline]


@dataclass(frozen=True)
class Case:
    """One image of a run.

    Attributes:
        fold: that held it out; None of a test image.
        truth, predicted: area in pixels by class, of classes that are there.
        iou: mean over the classes in the ground truth or the prediction; 1 if there is none.
        confidence: of the prediction, if it is known.
        objects: that are annotated.
    """

    image: str
    patient: str
    fold: int | None
    path: Path
    truth: Mapping[str, float]
    predicted: Mapping[str, float]
    iou: float
    confidence: float | None
    objects: tuple[Annotated, ...]


@dataclass(frozen=True)
class Reviewed:
    """A run with its images.

    Attributes:
        f1: its cells; its images are those of ``cases``, in the same order.
        seen: the outlines of an image by its name.
        folds: of the run, for its logs.
        notes: what the user should know.
    """

    name: str
    config: Config
    f1: F1IoU
    cases: tuple[Case, ...]
    seen: Callable[[str], Seen]
    folds: tuple[FoldRun, ...]
    notes: tuple[str, ...] = ()

    @property
    def rule(self) -> F1AtIoU:
        """By which the images are in their cells."""
        return self.f1.rule

    def cells_of(self, number: int) -> tuple[str, ...]:
        """Cells of an image by its number."""
        return tuple(name for name, there in zip(CELLS, self.f1.cells()[number], strict=True) if there)


def scored_folds(name: str, runs: Path) -> tuple[str, tuple[FoldRun, ...], tuple[str, ...]]:
    """The name of a run's files, its folds with out-of-fold predictions, and notes about the others.

    Raises:
        ConfigError: no such run. DataError: no finished fold.
    """
    folders = fold_folders(name, runs, "last")
    found = [FoldRun(folder) for folder in folders]
    done = tuple(fold for fold in found if fold.number is not None and fold.is_scored)
    run = folders[0].parent
    if not done:
        raise DataError(
            f"{run}: has no finished fold with held-out images (fold<k>/oof.csv); train one first (bash train.sh)"
        )
    notes = [f"{fold.folder}: is not finished, and is left out" for fold in found if fold not in done]
    single = len(folders) == 1 and Path(name).name == folders[0].name
    if not single and (missing := sorted(set(range(done[0].config.folds)) - {fold.number for fold in found})):
        notes.append(f"{run}: fold {', '.join(map(str, missing))} was not trained, so its images are not reviewed")
    return f"{run.name}_{folders[0].name}" if single else run.name, done, tuple(notes)


def rule_of(given: F1AtIoU | None, config: Any, name: str) -> F1AtIoU:
    """The rule by which images are positive: the one given, that of the recipe, or by the names of two classes.

    Raises:
        ConfigError: none of them, or a class that the run does not have.
    """
    classes = list(config.data.classes)
    rule = given or config.image_f1
    if rule is None and len(classes) <= 2:
        sick = next(
            (label for label in classes if "disease" in label.lower() or "lesion" in label.lower()), classes[-1]
        )
        other = [label for label in classes if label != sick]
        rule = F1AtIoU(positive=sick, negative=other[0] if other else None)
    if rule is None:
        raise ConfigError(
            f"f1_iou=: {name} has {len(classes)} classes; say which is the disease, as in "
            f'"f1_iou={{positive:{classes[-1]},negative:{classes[0]},iou:0.5}}"'
        )
    for key in ("positive", "negative"):
        label = getattr(rule, key)
        if label is not None and label not in classes:
            raise ConfigError(f"f1_iou.{key}={label}: is not a class of {name}{nearest(label, classes)}")
    return rule
