"""The runs behind a sweep's results: training folds, predicting the test set, voting, scoring."""

import hashlib
import json
import math
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..config import Config, Data
from ..data.quarantine import kept_records
from ..data.root import resolve_root
from ..data.rotation import LIMIT, has_rule, tilt_of_stack
from ..data.truth import answers, truth_of
from ..engine.fit import fit
from ..ensemble.options import EnsembleOptions, InferOptions
from ..ensemble.run import predict_members
from ..ensemble.run import vote as hold_vote
from ..errors import DataError
from ..runs import checkpoint
from ..runs.reader import FoldRun
from ..scoring.score import Score, score
from ..submission.table import Submission
from ..tasks.segment import Segment
from .results import recipe_of
from .table import Ballot


@dataclass(frozen=True)
class Dice:
    """Dice of a prediction by patient."""

    mean: float  # over images and classes
    patients: dict[str, list[float]]  # Dice of each class, mean over the patient's images
    images: dict[str, int]  # of each patient

    @classmethod
    def of(cls, found: Score) -> "Dice":
        """A score by patient, rounded as results are stored."""
        of_patient = {name: np.array(found.patients) == name for name in sorted(set(found.patients))}
        return cls(
            found.mean,
            {name: found.dice[here].mean(axis=0).round(5).tolist() for name, here in of_patient.items()},
            {name: int(here.sum()) for name, here in of_patient.items()},
        )


@dataclass(frozen=True)
class Runs:
    """The folder with the runs of one scale and data set. Equal recipes have equal folders, so that rows of several
    tables, and the members of votes, share a training."""

    place: Path
    trained: dict[tuple[str, int], Path] = field(default_factory=dict)  # what this call found whole, or trained

    def train(self, config: Config, fold: int) -> Path:
        """Begins, continues or finds a fold's training; returns its folder, which holds `final` weights alone.

        Raises:
            PhalanxError: as :func:`engine.fit.fit`.
        """
        key = digest(config), fold
        if key in self.trained:
            return self.trained[key]
        data = resolve_root(config.data)
        own = {"data": data, "runs": self.place, "name": f"{key[0]}-seed{config.seed}"}
        self.trained[key] = folder = fit(config.model_copy(update=own), fold, kept_records(data), Segment)
        for part in ("last", "last.before", "best", "best.before"):  # `final` is what is scored
            checkpoint.remove(folder / part)
        return folder

    def train_members(self, ballot: Ballot) -> list[Path]:
        """Trains all networks behind a vote; returns their folders, each once."""
        found: dict[Path, None] = {}
        for recipe, folds in ballot.members:
            trained = (
                self.train_members(recipe) if isinstance(recipe, Ballot) else [self.train(recipe, f) for f in folds]
            )
            found |= dict.fromkeys(trained)
        return list(found)

    def out_of_fold(self, config: Config, fold: int) -> Dice:
        """Dice of a trained fold on its held-out images."""
        folder, data = self.train(config, fold), resolve_root(config.data)
        number = FoldRun(folder).folds
        held_out = [record for record in kept_records(data) if number[record.name] == fold]
        patient = {record.name: record.group for record in held_out}
        return Dice.of(score(Submission.read(folder / "oof.csv"), truth_of(held_out, data), patient))

    def on_test(self, recipe: Config | Ballot, fold: int, *, rotated: bool) -> Dice:
        """Dice of a trained fold, or a vote, on the test images.

        Args:
            rotated: only on those whose hand is rotated by the competition's rule, measured on the ground truth.

        Raises:
            DataError: no ground truth of the test images, or no rotated hand among them.
        """
        path = self._predict(recipe, [fold])
        submission = Submission.read(path)
        data = resolve_root((recipe if isinstance(recipe, Config) else next(recipe.configs())).data)
        truth, patients = ground_truth(submission, data)
        if rotated:
            chosen = rotated_images(truth)
            submission, truth = submission.only(chosen), truth.only(chosen)
        return Dice.of(score(submission, truth, patients))

    def _predict(self, recipe: Config | Ballot, folds: Collection[int]) -> Path:
        """The CSV of a trained fold, of the mean of several, or of a vote, on the test images."""
        if isinstance(recipe, Config):
            if len(folds) > 1:
                return self._predict(Ballot("soft", ((recipe, tuple(folds)),)), [0])
            (fold,) = folds
            folder = self.train(recipe, fold)
            return predict_members(
                [str(folder)], InferOptions(**_how(recipe)), folder / "test.csv", reuse_finished=True
            )
        first = next(recipe.configs())
        out = self.place / "votes" / f"{digest(recipe)}.csv"
        if recipe.mode == "hard":
            names = [str(self._predict(member, of)) for member, of in recipe.members]
            return hold_vote(EnsembleOptions(mode="hard", members=names, out=out))
        names, votes = [], []
        most = math.lcm(*(len(of) for _, of in recipe.members))
        for member, of in recipe.members:
            assert isinstance(member, Config)  # a soft vote of votes is refused with the table
            names += [str(self.train(member, fold)) for fold in of]
            votes += [most // len(of)] * len(of)  # every member weighs the same, whatever its number of folds
        return hold_vote(EnsembleOptions(mode="soft", members=names, votes=votes, out=out, **_how(first)))


def _how(config: Config) -> dict:
    """Where and how a member is computed."""
    root = resolve_root(config.data).root
    return {"root": root, "device": config.device, "precision": config.precision, "progress": config.progress}


def ground_truth(submission: Submission, data: Data) -> tuple[Submission, dict[str, str]]:
    """The masks of a data set's test images, and the patient of each.

    Raises:
        DataError: there are none.
    """
    assert data.root is not None
    place = data.root / "test" / "answers_json"
    if data.layout != "competition" or not place.is_dir():
        raise DataError(
            f"{place}: no such folder; this table is scored on test images, whose ground truth is expected there as "
            "<patient>/<image>.json (synthetic hands have it)"
        )
    return answers(place, data, submission.sizes)


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


def seconds_of(folder: Path) -> float:
    """Seconds of a fold's training and its out-of-fold prediction."""
    result = FoldRun(folder).result
    assert result is not None  # of a fold that was trained to its end
    return result.seconds_train + result.seconds_held_out


def digest(recipe: Config | Ballot) -> str:
    """Short name of a recipe, seed included."""
    return hashlib.sha256(json.dumps(recipe_of(recipe), sort_keys=True).encode()).hexdigest()[:12]
