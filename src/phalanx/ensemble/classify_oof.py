"""What the finished folds of a run that classifies predicted out of fold, with the labels they were scored by."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..config import ClassifyConfig, ClassifyData, Table, validate_as
from ..config.classify_loss import Head
from ..data.label_table import table_of
from ..data.shuffled import note_control
from ..errors import ConfigError, DataError
from ..runs.reader import FoldRun, fold_folders, folds_of, scored_folds_of
from ..scoring.classify import ClassifyScore, score_classes
from ..scoring.several import score_several
from ..submission.probabilities import Probabilities


class OutOfFold(NamedTuple):
    """The held-out images of all finished folds.

    Attributes:
        images, patients: of each image.
        probabilities: float64[N, C], by networks that did not see the patient.
        labels: float64[N, C] of 0, 1 and NaN (missing).
        folds: int64[N].
        hashes: SHA-256 of the weights by fold folder.
        notes: what the user should know.
        negative: the class of images without any other, of a softmax trained with ``data.targets=shares``: its labels
            may be several per image. None of other runs.
    """

    run: str
    classes: tuple[str, ...]
    head: Head
    images: tuple[str, ...]
    patients: tuple[str, ...]
    probabilities: np.ndarray
    labels: np.ndarray
    folds: np.ndarray
    hashes: Mapping[str, str]
    notes: tuple[str, ...]
    negative: str | None = None

    @property
    def scored(self) -> list[int]:
        """Numbers of the classes that are scored: all but ``negative``."""
        return [c for c, name in enumerate(self.classes) if name != self.negative]


def read_out_of_fold(name: str, runs: Path) -> OutOfFold:
    """The out-of-fold probabilities of a run by name or folder.

    Raises:
        ConfigError: no such run, a single fold's folder, a run of another task.
        DataError: no finished fold, folds with other classes or heads, or a file that is missing or damaged.
    """
    place = next((each for each in (Path(name), runs / name) if any(each.glob("*/config.yaml"))), None)
    if place is None:
        folders = fold_folders(name, runs, "last")  # which says what is missing
        raise ConfigError(f"{folders[0]}: is the folder of one fold; name its run, {folders[0].parent}")
    begun = [fold for fold in folds_of(place) if fold.number is not None]
    finished = [fold for fold in begun if fold.result is not None]
    if not finished:
        raise DataError(f"{place}: has no finished fold with held-out images; train it first (bash train.sh)")
    notes = [f"{place}: {fold.name} is not finished, and is left out" for fold in begun if fold not in finished]
    first = finished[0].config_of(ClassifyConfig)
    if (seed := first.data.shuffle_labels) is not None:
        raise ConfigError(f"{note_control(str(place), seed)}; name a run on the true labels")
    classes, head = tuple(first.data.classes), first.model.head
    parts = [_read_fold(fold, classes, head) for fold in finished]
    missing = sorted(set(range(first.folds)) - {fold.number for fold in begun})
    notes += [f"{place}: fold {number} was not trained, so its images have no probabilities" for number in missing]
    images = tuple(image for part in parts for image in part[0].images)
    patients = {image: patient for fold in finished for image, patient in fold.patients.items()}
    return OutOfFold(
        str(place), classes, head, images, tuple(patients[image] for image in images),
        np.concatenate([part[0].values for part in parts]), np.concatenate([part[1] for part in parts]),
        np.concatenate([np.full(len(part[1]), fold.number) for fold, part in zip(finished, parts, strict=True)]),
        {folder: value for part in parts for folder, value in part[0].run_hashes.items()}, tuple(notes),
        first.data.negative,
    )  # fmt: skip


def _read_fold(fold: FoldRun, classes: tuple[str, ...], head: Head) -> tuple[Probabilities, np.ndarray]:
    """Probabilities of the held-out images of a fold, and their labels float64[N, C]."""
    config = fold.config_of(ClassifyConfig)
    if (tuple(config.data.classes), config.model.head) != (classes, head):
        raise DataError(f"{fold.folder}: has other classes or another head than the run's first fold; train it again")
    held_out = [image for image, number in fold.folds.items() if number == fold.number]
    made = Probabilities.read(fold.folder / "oof.csv", classes, head, held_out)
    values = {"name": "truth", "root": fold.folder, "classes": list(classes), "size": 32, "layout": "table"}
    table = validate_as(ClassifyData, {**values, "table": {"train": "labels.csv", "group": None}})
    rows = table_of(fold.folder / "labels.csv", table)
    if lost := next((image for image in made.images if image not in rows), None):
        raise DataError(f"{fold.folder / 'labels.csv'}: has no row of {lost}, which was held out; train the fold again")
    return made, np.array([rows[image].labels for image in made.images], float).reshape(len(made.images), len(classes))


def scored_out_of_fold(run: Path) -> ClassifyScore:
    """Scores of all images that finished folds of a run held out. Raises as :func:`score_of_folds`, and if there is
    no finished fold."""
    return score_of_folds(scored_folds_of(run, "CSVs with their labels"))


def score_of_folds(folds: Sequence[FoldRun]) -> ClassifyScore:
    """Scores of all images that finished folds of one run held out, by the labels it was trained with.

    Raises:
        ConfigError: a run of another task. DataError: a fold that cannot be read.
    """
    run = folds[0].folder.parent
    config = folds[0].config_of(ClassifyConfig)
    classes, head = config.data.classes, config.model.head
    made = [Probabilities.read(fold.folder / "oof.csv", classes, head) for fold in folds]
    images = [name for part in made for name in part.images]
    table = Table(train="labels.csv", group=None)
    data = config.data.model_copy(update={"layout": "table", "table": table})
    labels = {name: row.labels for fold in folds for name, row in table_of(fold.folder / "labels.csv", data).items()}
    patients = {name: patient for fold in folds for name, patient in fold.patients.items()}
    lacking = [name for name in images if name not in labels or name not in patients]
    if lacking:
        raise DataError(f"{run}: its labels.csv and folds.csv do not list {lacking[0]}, which was held out")
    limits = np.full(len(classes), config.predict.threshold) if head == "sigmoid" else None
    values, of = np.concatenate([part.values for part in made]), [patients[name] for name in images]
    rows = np.array([labels[name] for name in images], float)
    if config.data.targets == "shares":
        scored = config.data.scored
        rows = rows[:, [classes.index(name) for name in scored]]
        return score_several(str(run), values, classes, rows, scored, head=head, images=images, patients=of)
    return score_classes(str(run), values, rows, classes, head, images=images, patients=of, thresholds=limits)
