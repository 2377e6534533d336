"""The out-of-fold score of votes of probabilities, by the labels that the members were trained with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from ..config import ClassifyConfig
from ..runs.reader import FoldRun
from ..runs.vote_score import VoteScore
from ..runtime.metric import Metric
from ..scoring.classify import score_classes
from ..scoring.several import score_several
from ..submission.probabilities import Probabilities
from ..voting.probabilities import Ballot
from .classify_oof import OutOfFold, read_out_of_fold
from .vote_oof import NoScoreError, refuse_changes, refuse_other_images, runs_of, scored_folds


def score_vote(
    members: Sequence[str], runs_folder: Path, *, mode: Literal["soft", "hard"], votes: Sequence[int] | None,
    weights: str, changed: Sequence[str],
) -> VoteScore:  # fmt: skip
    """The first member's metric of a vote, over the images that all members held out.

    Args:
        votes: of each member.
        weights: checkpoint that predicted the test images.
        changed: options with which they were predicted otherwise than the held-out ones.

    Raises:
        NoScoreError: members without out-of-fold predictions that this rule can vote. ConfigError, DataError: files of
            runs that cannot be read.
    """
    refuse_changes(changed)
    runs = runs_of(members, runs_folder, weights)
    folds = scored_folds(runs[0])
    held = [read_out_of_fold(str(run), runs_folder) for run in runs]
    for run, one in zip(runs, held, strict=True):
        refuse_other_images(run, one.images, held[0].images)
    ballot = Ballot([_sorted(one) for one in held], votes)
    values = ballot.mean() if mode == "soft" else ballot.hard()
    return _scored(ballot, values, held[0], folds)


def _sorted(held: OutOfFold) -> Probabilities:
    order = sorted(range(len(held.images)), key=held.images.__getitem__)
    images = tuple(held.images[i] for i in order)
    return Probabilities(held.run, images, held.classes, held.probabilities[order], held.head, run_hashes=held.hashes)


def _scored(ballot: Ballot, values: np.ndarray, first: OutOfFold, folds: "list[FoldRun]") -> VoteScore:
    config, result = folds[0].config_of(ClassifyConfig), folds[0].result
    if result is None:
        raise NoScoreError(f"{folds[0].folder}: is not finished")
    row = {image: i for i, image in enumerate(first.images)}
    order = [row[image] for image in ballot.images]
    labels, patients = first.labels[order], [first.patients[i] for i in order]
    if first.negative is not None:
        labels = labels[:, first.scored]
        scored = [first.classes[c] for c in first.scored]
        found = score_several(
            "vote", values, first.classes, labels, scored, head=first.head, images=ballot.images, patients=patients
        )
    else:
        limits = np.full(len(first.classes), config.predict.threshold) if first.head == "sigmoid" else None
        found = score_classes(
            "vote", values, labels, first.classes, first.head, images=ballot.images, patients=patients,
            thresholds=limits,
        )  # fmt: skip
    metric: Metric = result.metric
    value = found.value(metric.name)
    if not np.isfinite(value):
        raise NoScoreError(f"{metric.name}: is not defined on these images")
    return VoteScore(
        metric, float(value), found.interval(metric.name), len(ballot.images), len(set(patients)), "classify",
        config.data.name,
    )  # fmt: skip
