"""The out-of-fold score of fused boxes, by the objects that the members were trained with."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ..config import DetectConfig
from ..runs.vote_score import VoteScore
from ..scoring.boxes import score_boxes
from ..submission.box_matching import with_common_classes
from ..submission.boxes import Boxes, BoxSubmission
from .detect_oof import joined_boxes
from .vote_oof import NoScoreError, refuse_other_images, runs_of, scored_folds


def score_vote(
    members: Sequence[str], runs_folder: Path, fuse: Callable[[Sequence[BoxSubmission]], Sequence[Boxes]]
) -> VoteScore:
    """The first member's metric of a fusion, over the images that all members held out.

    Args:
        fuse: members to the boxes of each image of the first one.

    Raises:
        NoScoreError: members without out-of-fold predictions. ConfigError, DataError: files that cannot be read.
    """
    runs = runs_of(members, runs_folder)
    folds = scored_folds(runs[0])
    config, result = folds[0].config_of(DetectConfig), folds[0].result
    if result is None:
        raise NoScoreError(f"{folds[0].folder}: is not finished")
    held = [joined_boxes(run, scored_folds(run)) for run in runs]
    first = held[0]
    for run, one in zip(runs, held, strict=True):
        refuse_other_images(run, one.made.images, first.made.images)
    tables = with_common_classes([one.made for one in held])
    fused = BoxSubmission("vote", tables[0].images, tables[0].classes, tuple(fuse(tables)))
    found = score_boxes(fused, first.truth, iou=config.f1_iou)
    metric = result.metric
    if metric.name == "f1_iou":  # as in training, at the threshold that is best on these images
        best = found.best_threshold()
        found, value = score_boxes(fused, first.truth, iou=config.f1_iou, threshold=best.score), best.f1
        spans = found.intervals("f1")
    else:
        value, spans = found.value(metric.name), found.intervals(metric.name)
    return VoteScore(
        metric, float(value), spans[0], len(first.truth.images), len(set(found.patients)), "detect", config.data.name
    )
