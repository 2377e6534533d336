"""Boxes of several members fused into one list: weighted boxes fusion, and suppression as its controls.

Members are folds, models or views of test-time augmentation, each with a weight. Boxes are joined class by class, from
the highest weighted score to the lowest; equal ones by their corners, so that no order of members matters.

How the scores s of a cluster of T boxes, with weights w of their members, become one (W: weights of all N members):

- ``mean``: sum of w s / max(W, weights in the cluster). With equal weights that is the mean of the scores times
  min(T, N) / N, as in the paper: an object that fewer members find scores less.
- ``sum``: sum of w s / W, at most 1. The same as ``mean`` unless a member has several boxes in the cluster: these add
  up, so that it is no longer at a disadvantage against a single box.
- ``average``: sum of w s / weights in the cluster, the mean alone: what one member finds keeps its score.
- ``max``: the largest s.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from ..errors import DataError
from ..masks.box_geometry import BoxView, pairwise_iou
from ..submission.boxes import Boxes

FUSION_IOU = 0.55  # of the paper
NMS_IOU = 0.5
SIGMA = 0.5  # of soft suppression, as in its paper
MIN_SCORE = 0.001  # boxes that soft suppression leaves with less are left out

Method = Literal["wbf", "nms", "soft_nms"]
Scores = Literal["mean", "sum", "average", "max"]


def fuse(
    members: Sequence[Boxes],
    weights: Sequence[float] | None = None,
    *,
    method: Method = "wbf",
    iou: float | None = None,
    scores: Scores = "mean",
    min_score: float = 0.0,
) -> Boxes:
    """One list of boxes of an image, from those of all members.

    Args:
        members: boxes of the same image, with the same classes.
        weights: of the members, one positive number each; equal by default.
        method: ``wbf``; or the controls ``nms`` and ``soft_nms``, which choose among the boxes.
        iou: boxes of a class that overlap more are one; by default 0.55 of ``wbf`` and 0.5 of ``nms``. ``soft_nms``
            lowers scores by a Gaussian and has no such threshold.
        scores: how those of a cluster become one, of ``wbf``.
        min_score: of the boxes of the members, to be fused at all.

    Raises:
        DataError: no members, weights that are not one positive number each, an IoU that is not between 0 and 1.
    """
    shares = member_weights(weights, len(members))
    limit = {"wbf": FUSION_IOU, "nms": NMS_IOU, "soft_nms": NMS_IOU}[method] if iou is None else iou
    if not 0 < limit < 1:
        raise DataError(f"iou {limit:g}: give a number between 0 and 1")
    corners = np.concatenate([each.corners for each in members])
    given = np.concatenate([each.scores for each in members])
    classes = np.concatenate([each.classes for each in members])
    of = np.repeat(shares, [len(each.scores) for each in members])
    kept = given >= min_score
    found = []
    for label in np.unique(classes[kept]).tolist():
        index = np.flatnonzero(kept & (classes == label))
        order = index[np.lexsort((*corners[index].T[::-1], -given[index] * of[index]))]
        part = (corners[order], given[order], of[order])
        if method == "wbf":
            made = _weighted_fusion(*part, limit, float(shares.sum()), scores)
        elif method == "nms":
            made = _suppressed(part[0], part[1] * part[2] / shares.max(), limit)
        else:
            made = _softly_suppressed(part[0], part[1] * part[2] / shares.max())
        found.append(Boxes.of(*made, np.full(len(made[1]), label)))
    if not found:
        return Boxes.of()
    joined = [np.concatenate(side) for side in zip(*(each[:3] for each in found), strict=True)]
    return Boxes(*joined).sorted()


def member_weights(weights: Sequence[float] | None, members: int) -> np.ndarray:
    """float64[M]: weights of the members, 1 by default. Raises DataError if they are not one positive number each."""
    if not members:
        raise DataError("a fusion needs at least one member")
    given = np.ones(members) if weights is None else np.asarray(weights, float)
    if given.shape != (members,) or not np.isfinite(given).all() or not (given > 0).all():
        raise DataError(f"weights={[*(weights or [])]}: {members} members need one finite number above 0 each")
    return given


def _weighted_fusion(
    corners: np.ndarray, scores: np.ndarray, weights: np.ndarray, iou: float, total: float, combine: Scores
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted boxes fusion of one class (Solovyev et al., 2021): corners [K, 4] and scores [K] of the clusters.

    Each box, from the highest score to the lowest, joins the cluster whose fused box it overlaps most, if by more than
    ``iou``, and moves it: its corners are the mean of its boxes' corners, weighted by their scores times weights.
    """
    fused = np.empty((len(scores), 4))
    sums = np.zeros((len(scores), 4))  # of corners times confidence
    totals, shares, tops = np.zeros(len(scores)), np.zeros(len(scores)), np.zeros(len(scores))
    count = 0
    for box, score, weight in zip(corners, scores.tolist(), weights.tolist(), strict=True):
        overlap = pairwise_iou(box[None], fused[:count])[0]
        place = int(overlap.argmax()) if count else 0
        if not count or overlap[place] <= iou:
            place, count = count, count + 1
        confidence = score * weight
        sums[place] += box * confidence
        totals[place] += confidence
        shares[place] += weight
        tops[place] = max(tops[place], score)
        # boxes of score 0 have no say in where others are
        fused[place] = sums[place] / totals[place] if totals[place] > 0 else box
    totals, shares, tops = totals[:count], shares[:count], tops[:count]
    combined: dict[Scores, Callable[[], np.ndarray]] = {
        "mean": lambda: totals / np.maximum(shares, total),
        "sum": lambda: totals / total,
        "average": lambda: totals / shares,
        "max": lambda: tops,
    }
    return fused[:count], combined[combine]().clip(0, 1)


def _suppressed(corners: np.ndarray, scores: np.ndarray, iou: float) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of one class, highest scores first, without those that overlap a better one by more than ``iou``."""
    free, kept = np.ones(len(scores), bool), []
    for i in range(len(scores)):
        if free[i]:
            kept.append(i)
            free &= pairwise_iou(corners[[i]], corners)[0] <= iou
    return corners[kept], scores[kept]


def _softly_suppressed(corners: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of one class with scores lowered by their overlap with better ones (Bodla et al., 2017; Gaussian)."""
    left, found = scores.copy(), scores.copy()
    waiting = np.ones(len(scores), bool)
    while waiting.any():
        best = int(np.where(waiting, left, -1).argmax())
        waiting[best] = False
        found[best] = left[best]
        left = np.where(waiting, left * np.exp(-(pairwise_iou(corners[[best]], corners)[0] ** 2) / SIGMA), left)
    kept = found >= MIN_SCORE
    return corners[kept], found[kept]


def fuse_views(
    found: Sequence[Boxes],
    views: Sequence[BoxView],
    size: tuple[int, int],
    mirror: Sequence[int] = (),
    *,
    method: Method = "wbf",
    iou: float | None = None,
    scores: Scores = "mean",
) -> Boxes:
    """Boxes of several views of one image, mapped back and fused.

    Args:
        found: boxes in each view, in its pixels.
        views: how the image was shown.
        size: (height, width) of the image.
        mirror: the class that each one becomes in a mirrored image; by default the same.
        method, iou, scores: as of :func:`fuse`.

    Raises:
        DataError: as :func:`fuse`, or numbers of boxes and views that differ.
    """
    if len(found) != len(views):
        raise DataError(f"boxes of {len(found)} views for {len(views)} views; give those of each")
    back = [
        boxes._replace(corners=view.invert(boxes.corners, size), classes=view.invert_classes(boxes.classes, mirror))
        for boxes, view in zip(found, views, strict=True)
    ]
    return fuse(back, method=method, iou=iou, scores=scores)
