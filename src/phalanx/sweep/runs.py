"""The runs that a sweep's results come from: jobs that train folds, predicting the test set, voting, scoring."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..config import ClassifyConfig, Config, SegmentConfig, SegmentData
from ..data.quarantine import kept_records
from ..data.root import resolve_root
from ..data.rotation import LIMIT, has_rule, tilt_of_stack
from ..data.truth import read_truth, truth_of
from ..engine.fit import finished
from ..engine.task import Task
from ..ensemble.label_test import predict_test, read_test_table
from ..ensemble.options import EnsembleOptions, InferOptions
from ..ensemble.run import predict_members
from ..ensemble.run import vote as hold_vote
from ..errors import DataError
from ..jobs.job import Job, Resources
from ..runs import checkpoint
from ..runs.folder import agreed_folds, check_recipe, fold_folder
from ..runs.reader import FoldResult as FoldResult
from ..runs.reader import FoldRun
from ..scoring.label_table import LabelTable, Predicted
from ..scoring.score import score
from ..scoring.submission_counts import counts_of_submissions
from ..submission.table import Submission
from ..tasks.classify import Classify
from ..tasks.segment import Segment
from .figures import Figure, figures_of
from .recipe import Ballot, digest, run_name

Recipe = TypeVar("Recipe", bound=Config)
TASKS: dict[str, type[Task]] = {"segment": Segment, "classify": Classify}


@dataclass(frozen=True)
class Wanted:
    """What a table asks for besides Dice."""

    figures: tuple[Figure, ...] = ()  # as of `figures_of`
    pixels: bool = False  # of each patient


@dataclass(frozen=True)
class Scored:
    """Scores of a prediction by patient."""

    mean: float  # over images and classes
    patients: dict[str, list[float]]  # Dice of each class, mean over the patient's images
    images: dict[str, int]  # of each patient
    figures: dict[str, float] | None = None  # further ones by name
    pixels: dict[str, list[list[int]]] | None = None  # of each class: in both, and in the truth or the prediction

    @classmethod
    def of(cls, submission: Submission, truth: Submission, patients: Mapping[str, str], wanted: Wanted) -> "Scored":
        """A submission's score by patient, rounded as results are stored."""
        found = score(submission, truth, patients)
        of_patient = {name: np.array(found.patients) == name for name in sorted(set(found.patients))}
        return cls(
            found.mean,
            {name: found.dice[here].mean(axis=0).round(5).tolist() for name, here in of_patient.items()},
            {name: int(here.sum()) for name, here in of_patient.items()},
            figures_of(wanted.figures, submission, truth) or None,
            pixels_of(submission, truth, patients) if wanted.pixels else None,
        )


def pixels_of(submission: Submission, truth: Submission, patients: Mapping[str, str]) -> dict[str, list[list[int]]]:
    """Pixels of each patient's images, by class: in both, and in the ground truth or the prediction."""
    counts, of = counts_of_submissions(submission, truth), np.array([patients[image] for image in truth.images])
    sides = np.stack([counts.shared, counts.either], axis=1)[:, :, : len(truth.classes)]
    return {name: sides[of == name].sum(axis=0).astype(int).tolist() for name in sorted(set(of.tolist()))}


@dataclass(frozen=True)
class Runs:
    """The folder with the runs of one scale and data set. Equal recipes have equal folders, so that rows of several
    tables, and the members of votes, share a training."""

    place: Path

    def run(self, config: Config, fold: int) -> FoldRun:
        """The folder of a fold's training."""
        return FoldRun(fold_folder(self._own(config), fold))

    def is_trained(self, config: Config, fold: int) -> bool:
        """Whether the fold is finished, and still what it was then.

        Raises:
            PhalanxError: the folder holds something else than a run of this recipe on these images.
        """
        config = self._own(config)
        folder = fold_folder(config, fold)
        if not (folder / "done.json").is_file():
            return False
        check_recipe(folder, config)
        agreed_folds(folder, config, kept_records(config.data))
        return finished(folder, config, TASKS[config.task]) is not None

    def job(
        self, config: Config, words: Mapping[str, str], fold: int, title: str, cores: int | None,
        after: Collection[Path] = (),
    ) -> Job:  # fmt: skip
        """The job that trains a fold, or continues its training.

        Args:
            words: options of ``phalanx train`` that make the recipe.
            cores: for this job; None: all of the machine.
            after: folders of jobs that must have ended before.
        """
        own = self._own(config)
        words = {key: value for key, value in words.items() if key != "device"}
        words |= {"fold": f"{fold}", "name": own.name, "runs": f'"{own.runs}"', "report": "false"}
        argv = ("train", *(f"{key}={value}" for key, value in words.items()))
        where = fold_folder(own, fold)
        return Job(title, argv, where, Resources(cores=cores), {"TQDM_MININTERVAL": "10"}, tuple(after))

    def _own(self, config: Recipe) -> Recipe:
        own = {"data": resolve_root(config.data), "runs": self.place, "name": run_name(config)}
        return config.model_copy(update=own)

    def members(self, ballot: Ballot) -> list[FoldRun]:
        """The trainings of all networks of a vote, each once."""
        found: dict[Path, FoldRun] = {}
        for recipe, folds in ballot.members:
            runs = self.members(recipe) if isinstance(recipe, Ballot) else [self.run(recipe, fold) for fold in folds]
            found |= {run.folder: run for run in runs}
        return list(found.values())

    def out_of_fold(self, config: SegmentConfig, fold: int, wanted: Wanted) -> Scored:
        """Dice of a trained fold on its held-out images, and what else is wanted."""
        run, data = self.run(config, fold), resolve_root(config.data)
        number = run.folds
        held_out = [record for record in kept_records(data) if number[record.name] == fold]
        patient = {record.name: record.group for record in held_out}
        submission, truth = Submission.read(run.folder / "oof.csv"), truth_of(held_out, data)
        return Scored.of(submission, truth, patient, wanted)

    def on_test(self, recipe: Config | Ballot, fold: int, *, rotated: bool, wanted: Wanted) -> Scored:
        """Dice of a trained fold, or a vote, on the test images.

        Args:
            rotated: only on those whose hand is rotated by the competition's rule, measured on the ground truth.
            wanted: besides Dice.

        Raises:
            DataError: no ground truth of the test images, or no rotated hand among them.
        """
        path = self._predict(recipe, [fold])
        submission = Submission.read(path)
        data = resolve_root((recipe if isinstance(recipe, Config) else next(recipe.configs())).data)
        assert isinstance(data, SegmentData)
        truth, patients = ground_truth(submission, data)
        if rotated:
            chosen = rotated_images(truth)
            submission, truth = submission.only(chosen), truth.only(chosen)
        return Scored.of(submission, truth, patients, wanted)

    def labels_on_test(
        self, config: ClassifyConfig, folds: Collection[int], truth: str | None, *, cross_fitted: bool
    ) -> tuple[LabelTable, Predicted]:
        """The labels of the test images, and what trained folds predict for them together."""
        own = self._own(config)
        table = read_test_table(own.data, truth)
        folders = [self.run(config, fold).folder for fold in folds]
        return table, predict_test(folders, own, table, cross_fitted=cross_fitted)

    def _predict(self, recipe: Config | Ballot, folds: Collection[int]) -> Path:
        """The CSV of a trained fold, of the mean of several, or of a vote, on the test images."""
        if isinstance(recipe, Config):
            if len(folds) > 1:
                return self._predict(Ballot("soft", ((recipe, tuple(folds)),)), [0])
            (fold,) = folds
            folder = self.run(recipe, fold).folder
            return predict_members(
                [str(folder)], InferOptions(**_how(recipe)), folder / "test.csv", reuse_finished=True
            )
        first = next(recipe.configs())
        out = self.place / "votes" / f"{digest(recipe)}.csv"
        if recipe.mode == "hard":
            names = [str(self._predict(member, of)) for member, of in recipe.members]
            return hold_vote(EnsembleOptions(mode="hard", members=names, out=out, out_of_fold=False))
        names, votes = [], []
        most = math.lcm(*(len(of) for _, of in recipe.members))
        for member, of in recipe.members:
            assert isinstance(member, Config)  # a soft vote of votes is refused with the table
            names += [str(self.run(member, fold).folder) for fold in of]
            votes += [most // len(of)] * len(of)  # every member weighs the same, whatever its number of folds
        return hold_vote(
            EnsembleOptions(mode="soft", members=names, votes=votes, out=out, out_of_fold=False, **_how(first))
        )


def _how(config: Config) -> dict:
    """Data set, device and precision of a member's prediction."""
    root = resolve_root(config.data).root
    return {"root": root, "device": config.device, "precision": config.precision, "progress": config.progress}


def ground_truth(submission: Submission, data: SegmentData) -> tuple[Submission, dict[str, str]]:
    """The masks of a data set's test images, and the patient of each.

    Raises:
        DataError: there are none.
    """
    assert data.root is not None
    maps = data.layout == "masks"
    place = data.root / "test" / ("answers" if maps else "answers_json")
    if data.layout not in ("competition", "masks") or not place.is_dir():
        raise DataError(
            f"{place}: no such folder; this table is scored on test images, whose ground truth is expected there as "
            f"<patient>/<image>.{'png' if maps else 'json'} (synthetic sets have it)"
        )
    return read_truth(place, data, submission.sizes)


def rotated_images(truth: Submission) -> list[str]:
    """The images whose hand is rotated.

    Raises:
        DataError: there are none, or classes that the rule does not know.
    """
    images, classes = truth.images if has_rule(truth.classes) else (), truth.classes
    tilts = {image: tilt_of_stack(truth.stack(image), classes, truth.sizes[image][1]) for image in images}
    found = [image for image, degrees in tilts.items() if degrees >= LIMIT]
    if not found:
        raise DataError(f"{truth.name}: has no rotated hand to score on")
    return found


def keep_final(folder: Path) -> None:
    """Removes a trained fold's checkpoints other than `final`, which is what is scored."""
    for part in ("last", "last.before", "best", "best.before"):
        checkpoint.remove(folder / part)


def result_of(run: FoldRun) -> FoldResult:
    """The result of a fold that was trained to its end."""
    assert run.result is not None
    return run.result


def seconds_of(run: FoldRun) -> float:
    """Seconds of a fold's training and its out-of-fold prediction."""
    result = result_of(run)
    return result.seconds_train + result.seconds_held_out
