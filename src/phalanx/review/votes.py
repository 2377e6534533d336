"""Evaluations of votes out of fold: the members' out-of-fold predictions, combined by the vote's own rule."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..config import ClassifyConfig, DetectConfig, SegmentConfig
from ..config.words import typed
from ..data.layouts import train_records
from ..data.root import resolve_root
from ..ensemble.boxes import FuseBoxes, fuse_members
from ..ensemble.classify_oof import read_out_of_fold
from ..ensemble.detect_oof import joined_boxes
from ..ensemble.oof import open_out_of_fold
from ..ensemble.vote_oof import NoScoreError, refuse_other_images, runs_of, scored_folds
from ..errors import ConfigError, DataError
from ..masks.stack import Stack
from ..predict.maps import Box
from ..runs.reader import FoldRun
from ..runtime.metric import Metric
from ..runtime.sidecar import read_sidecar
from ..scoring.boxes import score_boxes
from ..scoring.classify import score_classes
from ..scoring.several import score_several
from ..submission.box_matching import with_common_classes
from ..submission.boxes import BoxSubmission
from ..submission.probabilities import Probabilities
from ..submission.table import Submission
from ..voting.probabilities import Ballot
from ..voting.vote import hard_vote
from .boxes import Images as BoxImages
from .evaluate_boxes import of_boxes
from .evaluate_labels import of_labels
from .evaluate_masks import Masks, of_masks
from .evaluate_options import EvaluateOptions
from .evaluated import Evaluated
from .masks import held_out

RULES = ("weights", "quorum", "average", "iou", "scores")  # of a vote's description that can be repeated out of fold


class Vote(NamedTuple):
    """How a CSV was voted.

    Attributes:
        mode: ``hard``, ``soft``, or how boxes are fused.
        votes: weight of each member; None: one each.
        runs: the folder of each member's run.
        folds: of the first member.
    """

    name: str
    mode: str
    rules: dict[str, str]
    votes: list[int] | None
    runs: list[Path]
    folds: list[FoldRun]


def read_vote(file: Path, runs: Path) -> Vote:
    """How a CSV was voted, by its sidecar, and the runs of its members.

    Raises:
        ConfigError: it is not a vote, or one that cannot be repeated out of fold; says what to do.
        DataError: a file that cannot be read.
    """
    sidecar, _ = read_sidecar(file)
    if sidecar is None or not sidecar.vote:
        raise ConfigError(
            f"{file}: is not a vote whose sidecar ({file.with_suffix('.json').name}) names its members; review the run "
            "that predicted it, or give the ground truth of its images with truth=PATH"
        )
    try:
        mode, *words = str(sidecar.vote["how"]).split()
        rules, members = dict(word.split("=", 1) for word in words), [str(one) for one in sidecar.vote["members"]]
        votes = [int(one) for one in rules["weights"].split(",")] if "weights" in rules else None
    except (KeyError, ValueError, TypeError):
        raise DataError(f"{file.with_suffix('.json')}: does not say how members were voted; vote again") from None
    if other := next((key for key in rules if key not in RULES), None):
        raise ConfigError(
            f"{file}: was voted with {other}={rules[other]}, which is fitted on these very images; review a vote "
            f"without {other}="
        )
    try:
        found = runs_of(members, runs)
        return Vote(file.stem, mode, rules, votes, found, scored_folds(found[0]))
    except NoScoreError as error:
        raise ConfigError(f"{file}: cannot be reviewed out of fold: {error}") from None


def evaluate_vote(file: Path, options: EvaluateOptions) -> Evaluated:
    """A vote over the images that every member held out. The task is that of the members.

    Raises:
        ConfigError: not a vote, or one that cannot be repeated out of fold. DataError: files that cannot be read.
    """
    vote = read_vote(file, options.runs)
    task = vote.folds[0].recipe.get("task", "segment")
    try:
        return {"segment": _masks, "classify": _labels, "detect": _boxes}[str(task)](vote, options)
    except NoScoreError as error:
        raise ConfigError(f"{file}: cannot be reviewed out of fold: {error}") from None


def _masks(vote: Vote, options: EvaluateOptions) -> Evaluated:
    config = vote.folds[0].config_of(SegmentConfig)
    own = held_out(vote.folds, config, options.root)
    if vote.mode == "soft":
        predicted = _mean_masks(vote, options)
    else:
        quorum = int(vote.rules["quorum"]) if "quorum" in vote.rules else None
        predicted = {}
        for same in zip(*(scored_folds(run) for run in vote.runs), strict=False):
            if any(fold.folds != same[0].folds or fold.number != same[0].number for fold in same):
                raise NoScoreError(f"{same[-1].folder}: holds out other images than {same[0].folder}")
            made = [Submission.read(fold.folder / "oof.csv", config.data.classes) for fold in same]
            sizes = {image: own.truth.sizes[image] for image in made[0].images}
            voted = Submission.of(dict(hard_vote(made, quorum, vote.votes)), made[0].classes, sizes, vote.name)
            predicted |= dict.fromkeys(voted.images, voted)
    if lost := sorted(own.predicted.keys() - predicted.keys()):
        raise NoScoreError(f"{lost[0]}: was not held out by all members")
    found = Masks(predicted, own.truth, own.records, own.folds)
    return of_masks(vote.name, config, own.data, found, notes=(_note(vote),))


def _mean_masks(vote: Vote, options: EvaluateOptions) -> dict[str, Submission]:
    held, threshold = open_out_of_fold([*map(str, vote.runs)], runs=options.runs, root=options.root, progress=False)
    weights = np.array(vote.votes or [1] * len(vote.runs), np.float32)
    if vote.rules.get("average") == "flat":
        weights = weights * np.array([len(scored_folds(run)) for run in vote.runs], np.float32)
    classes, made, sizes = held.data.classes, dict[str, Stack](), dict[str, tuple[int, int]]()
    for image in held:
        whole, masks = Box(0, 0, *image.size), []
        for c in range(len(classes)):
            total = np.zeros(image.size, np.float32)
            for weight, one in zip(weights, image.maps, strict=True):
                total += weight * one.resize(c, whole, image.size, max(image.size) / one.side)
            masks.append(total / weights.sum() >= np.float32(threshold))
        made[image.name], sizes[image.name] = Stack.of_masks(masks), image.size
    return dict.fromkeys(made, Submission.of(made, classes, sizes, vote.name))


def _labels(vote: Vote, options: EvaluateOptions) -> Evaluated:
    config = vote.folds[0].config_of(ClassifyConfig)
    held = [read_out_of_fold(str(run), options.runs) for run in vote.runs]
    tables = []
    for run, one in zip(vote.runs, held, strict=True):
        refuse_other_images(run, one.images, held[0].images)
        order = sorted(range(len(one.images)), key=one.images.__getitem__)
        names = tuple(one.images[i] for i in order)
        tables.append(Probabilities(one.run, names, one.classes, one.probabilities[order], one.head))
    ballot, first = Ballot(tables, vote.votes), held[0]
    row = {image: i for i, image in enumerate(first.images)}
    order = [row[image] for image in ballot.images]
    labels, patients = first.labels[order], [first.patients[i] for i in order]
    values = ballot.mean() if vote.mode == "soft" else ballot.hard()
    if first.negative is not None:  # an image may have several labels, or none
        scored = [first.classes[c] for c in first.scored]
        score = score_several(
            vote.name, values, first.classes, labels[:, first.scored], scored, head=first.head, images=ballot.images,
            patients=patients,
        )  # fmt: skip
    else:
        limits = np.full(len(first.classes), config.predict.threshold) if first.head == "sigmoid" else None
        score = score_classes(
            vote.name, values, labels, first.classes, first.head, images=ballot.images, patients=patients,
            thresholds=limits,
        )  # fmt: skip
    data = resolve_root(config.data.model_copy(update={"root": options.root or config.data.root}))
    paths = {record.name: record.image for record in train_records(data)}
    if lost := [image for image in ballot.images if image not in paths]:
        raise DataError(f"{data.root}: has no image {lost[0]}; name the data set of the members with data.root=")
    folds = {first.images[i]: int(first.folds[i]) for i in order}
    return of_labels(vote.name, config, Metric(config.metric), score, paths, folds, notes=(_note(vote),))


def _boxes(vote: Vote, options: EvaluateOptions) -> Evaluated:
    config = vote.folds[0].config_of(DetectConfig)
    held = [joined_boxes(run, scored_folds(run)) for run in vote.runs]
    for run, one in zip(vote.runs, held, strict=True):
        refuse_other_images(run, one.made.images, held[0].made.images)
    tables = with_common_classes([one.made for one in held])
    rules = {key: value for key, value in vote.rules.items() if key in ("iou", "scores", "weights")}
    fuse = typed(FuseBoxes, {"mode": vote.mode, "members": ",".join(map(str, vote.runs)), **rules})
    truth = held[0].truth
    fused = BoxSubmission(vote.name, tables[0].images, tables[0].classes, tuple(fuse_members(tables, fuse)))
    score = score_boxes(fused, truth, iou=config.f1_iou)
    threshold = score.best_threshold().score if options.threshold is None else options.threshold
    score = score_boxes(fused, truth, iou=config.f1_iou, threshold=threshold)
    data = resolve_root(config.data.model_copy(update={"root": options.root or config.data.root}))
    paths = {record.name: record.image for record in train_records(data)}
    if lost := [image for image in truth.images if image not in paths]:
        raise DataError(f"{data.root}: has no image {lost[0]}; name the data set of the members with data.root=")
    images = BoxImages(fused, truth, dict(zip(truth.images, held[0].folds, strict=True)), paths)
    note = f"{vote.name}: boxes count from a score of {threshold:.3f}; threshold= sets it"
    return of_boxes(vote.name, config, Metric(config.metric), score, images, notes=(_note(vote), note))


def _note(vote: Vote) -> str:
    return f"{vote.name}: the out-of-fold predictions of {', '.join(run.name for run in vote.runs)}, voted as it was"
