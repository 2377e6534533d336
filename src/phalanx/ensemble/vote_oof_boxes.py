"""The out-of-fold score of fused boxes, by the objects that the members were trained with."""

from ..config import DetectConfig
from ..runs.vote_score import VoteScore
from ..scoring.boxes import score_boxes
from ..submission.box_matching import with_common_classes
from ..submission.boxes import BoxSubmission
from .boxes import FuseBoxes, fuse_members
from .detect_oof import joined_boxes
from .vote_oof import NoScoreError, refuse_other_images, runs_of, scored_folds


def score_vote(options: FuseBoxes) -> VoteScore:
    """The first member's metric of a fusion, over the images that all members held out.

    Raises:
        NoScoreError: members without out-of-fold predictions. ConfigError, DataError: files of runs that cannot be read.
    """
    runs = runs_of(options.members, options.runs)
    folds = scored_folds(runs[0])
    config, result = folds[0].config_of(DetectConfig), folds[0].result
    if result is None:
        raise NoScoreError(f"{folds[0].folder}: is not finished")
    held = [joined_boxes(run, scored_folds(run)) for run in runs]
    first = held[0]
    for run, one in zip(runs, held, strict=True):
        refuse_other_images(run, one.made.images, first.made.images)
    members = with_common_classes([one.made for one in held])
    fused = BoxSubmission("vote", members[0].images, members[0].classes, tuple(fuse_members(members, options)))
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
