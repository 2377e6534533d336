"""The out-of-fold score of votes of masks: of the members' out-of-fold masks (hard) or probability maps (soft)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..config import SegmentConfig, SegmentData
from ..data.quarantine import kept_records
from ..data.truth import truth_of
from ..predict.postprocess import PostProcessing
from ..predict.stored import MapsFolder
from ..runs.reader import FoldRun
from ..runs.vote_score import VoteScore
from ..runtime.metric import Metric
from ..scoring.resampling import mean_interval
from ..scoring.score import score
from ..submission.table import Submission
from ..voting.vote import hard_vote
from .candidates import OutOfFold, by_weights, gather
from .oof import open_out_of_fold
from .options import EnsembleOptions
from .vote_oof import NoScoreError, refuse_changes, runs_of, scored_folds

DICE = Metric("dice")


def score_vote(options: EnsembleOptions) -> VoteScore:
    """Mean Dice of a vote over the images that all members held out.

    Raises:
        NoScoreError: members without out-of-fold predictions that this rule can vote. ConfigError, DataError: files of
            runs, or a data set, that cannot be read.
    """
    changed = [key for key in options.changes() if key not in ("batch", "threshold")]
    refuse_changes(changed if options.mode == "soft" else [*changed, *["threshold"] * (options.threshold is not None)])
    runs = runs_of(options.members, options.runs, options.weights)
    folds = [scored_folds(run) for run in runs]
    data = _data_of(folds[0][0])
    return _soft(options, runs, folds, data) if options.mode == "soft" else _hard(options, folds, data)


def _data_of(fold: FoldRun) -> SegmentData:
    """The data set of a fold. Raises NoScoreError if it is not there: none is made for this."""
    data = fold.config_of(SegmentConfig).data
    if data.root is None or not data.root.is_dir():
        raise NoScoreError(f"{data.root}: the data set that {fold.folder.parent} was trained on is not there")
    return data


def _hard(options: EnsembleOptions, members: Sequence[Sequence[FoldRun]], data: SegmentData) -> VoteScore:
    values, patients = dict[str, float](), dict[str, str]()
    records = {record.name: record for record in kept_records(data)}
    for same in zip(*members, strict=False):
        if any(fold.folds != same[0].folds or fold.number != same[0].number for fold in same):
            raise NoScoreError(
                f"{same[-1].folder}: its folds hold out other images than those of {same[0].folder.parent}"
            )
        made = [Submission.read(fold.folder / "oof.csv") for fold in same]
        if lost := next((image for image in made[0].images if image not in records), None):
            raise NoScoreError(f"{data.root}: has no annotated image {lost}, which {same[0].folder} held out")
        truth = truth_of([records[image] for image in made[0].images], data)
        voted = dict(hard_vote(made, options.quorum, options.votes))
        found = score(Submission.of(voted, made[0].classes, truth.sizes, "vote"), truth)
        values |= dict(zip(found.images, found.per_image.tolist(), strict=True))
        patients |= same[0].patients
    if len({len(folds) for folds in members}) > 1:
        raise NoScoreError(f"{members[-1][0].folder.parent}: has another number of folds than the first member")
    return _vote_score(values, patients, data.name)


def _soft(
    options: EnsembleOptions, runs: Sequence[Path], members: Sequence[Sequence[FoldRun]], data: SegmentData
) -> VoteScore:
    held, threshold = open_out_of_fold([*map(str, runs)], runs=options.runs, root=data.root, progress=options.progress)
    for run, stored in zip(runs, held.folders[min(held.folders)], strict=True):
        _refuse_other_options(options, run, stored)
    votes = np.array(options.votes or [1] * len(runs))
    if options.average == "flat":
        votes = votes * np.array([len(folds) for folds in members])
    patients = {record.name: record.group for record in held.records}
    if options.postprocess is not None:
        return _tuned(PostProcessing.read(options.postprocess), held, patients)
    threshold = options.threshold or threshold
    dice = gather(held, 1, threshold, by_weights(votes[None], threshold))[:, :, 0].astype(float)
    values = dict(zip((record.name for record in held.records), dice.mean(axis=1).tolist(), strict=True))
    return _vote_score(values, patients, data.name)


def _refuse_other_options(options: EnsembleOptions, run: Path, stored: MapsFolder) -> None:
    """Raises NoScoreError if a member is a folder of maps that were predicted otherwise than the out-of-fold ones."""
    for name in options.members:
        if (Path(name) / "maps.json").is_file():
            own = MapsFolder(Path(name))
            if set(own.hashes.values()) & set(stored.hashes.values()) and own.options != stored.options:
                raise NoScoreError(f"{name}: was predicted with other options than the out-of-fold maps of {run}")


def _tuned(chosen: PostProcessing, held: OutOfFold, patients: dict[str, str]) -> VoteScore:
    """The Dice of what was tuned, each choice fitted without the fold that is scored, as its file records it."""
    adopted: list[dict[str, Any]] = [row for row in chosen.choices if row.get("adopted")]
    rows = adopted or chosen.choices
    if not rows:
        raise NoScoreError("postprocess: its file does not record what it was tuned on")
    side = "cross_fitted" if adopted else "default"
    value, span = rows[-1][side], (rows[-1].get("intervals") or {}).get(side)  # earlier files have none
    images = [record.name for record in held.records]
    return VoteScore(
        DICE,
        float(value),
        None if span is None else (float(span[0]), float(span[1])),
        len(images),
        len({patients[image] for image in images}),
        "segment",
        held.data.name,
        True,
    )


def _vote_score(values: dict[str, float], patients: dict[str, str], data: str) -> VoteScore:
    return VoteScore(
        DICE, float(np.mean([*values.values()])), mean_interval(values, patients), len(values),
        len({patients[image] for image in values}), "segment", data,
    )  # fmt: skip
