"""Ranks annotations of masks and boxes by how little out-of-fold predictions agree with them.

Every reason is in one unit: the Dice (of boxes: the score times IoU) that an annotation lacks of what its class has
elsewhere, 0 to 1. So a class that the network predicts badly everywhere doubts nobody, and a poor image doubts all of
its annotations less. Reasons are combined as independent ones, 1 - (1 - p1) (1 - p2) ...: one strong reason is enough.
Out-of-fold predictions are needed: a network that has seen a wrong label may have learnt it (Northcutt et al., 2021).
A ranking promises no number of errors: some are never found.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..masks import rle
from ..masks.box_geometry import pairwise_iou
from ..masks.stack import Stack
from ..submission.boxes import Boxes
from .confusion import ratio

TELLING = 0.05  # from which a reason is named
RAYS = tuple(tuple(f"finger-{n}" for n in ray) for ray in (range(1, 4), *(range(k, k + 4) for k in (4, 8, 12, 16))))
WRIST = ("Radius", "Ulna", "Capitate", "Lunate", "Scaphoid")
BAD_IMAGE = 5  # classes of an image, from which their median says whether it is predicted badly as a whole
SHARED = 0.1  # Dice from which an annotation is where another class is predicted
ORDER = 0.5  # of two bones out of order one may be right


class Doubt(NamedTuple):
    """An annotation, or one that is missing.

    Attributes:
        image: its number.
        label: number of the class as annotated; of a missing one, of the predicted class.
        object: number of the box in its image, from 0; -1 of masks and of missing boxes.
        reasons: 0 to 1 by name: ``low``, ``swap``, ``missing``, ``extra``, ``order``, ``border``, ``pixels``.
        other: class that fits better, for ``swap``; else -1.
        instead: class that is annotated where a ``missing`` mask is predicted; else -1.
    """

    image: int
    label: int
    object: int
    reasons: Mapping[str, float]
    other: int = -1
    instead: int = -1

    @property
    def score(self) -> float:
        """0 to 1."""
        return 1 - float(np.prod([1 - value for value in self.reasons.values()]))


class MaskEvidence(NamedTuple):
    """What an image's masks and their out-of-fold prediction are.

    Attributes:
        overlaps: float64[C, C]: Dice of each annotated class (rows) with each predicted one; NaN if either is empty.
        truth, predicted: areas float64[C] in pixels.
        surface: float64[C]: surface Dice, NaN if a mask is empty.
        pixels: float64[C]: softmin of the pixels' self-confidence; NaN if maps are not stored.
        order: float64[C]: 1 for bones of a finger that are not in their order, else 0.
    """

    overlaps: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray
    surface: np.ndarray
    pixels: np.ndarray
    order: np.ndarray


def overlaps_of(truth: Stack, predicted: Stack) -> np.ndarray:
    """Dice float64[C, C] of each class of one stack with each of another; NaN if either is empty."""
    sides = [[one.runs[a:b] for a, b in pairwise(one.splits)] for one in (truth, predicted)]
    shared = np.array([[rle.area(rle.intersection(a, b)) for b in sides[1]] for a in sides[0]], float)
    areas = truth.areas[:, None], predicted.areas[None, :]
    found = ratio(2 * shared, areas[0] + areas[1])
    found[(areas[0] == 0) | (areas[1] == 0)] = np.nan
    return found


def order_of(stack: Stack, classes: Sequence[str], width: int) -> np.ndarray:
    """float64[C]: 1 for neighbours on a finger that are not ordered by their distance from the wrist."""
    names, found = {name: c for c, name in enumerate(classes)}, np.zeros(len(classes))
    centres = np.array([_centre(stack.runs[a:b], width) for a, b in pairwise(stack.splits)])
    wrist = [centres[names[name]] for name in WRIST if name in names]
    base = np.nanmean(wrist, axis=0) if wrist and np.isfinite(wrist).any() else None
    if base is None:
        return found
    far = np.linalg.norm(centres - base, axis=1)
    for ray in RAYS:
        bones = [names[name] for name in ray if name in names]
        for outer, inner in pairwise(bones):
            if far[outer] < far[inner]:  # never of NaN
                found[[outer, inner]] = 1.0
    return found


def _centre(runs: np.ndarray, width: int) -> tuple[float, float]:
    if not len(runs):
        return np.nan, np.nan
    middle = (runs[:, 0] + runs[:, 1] - 1) / 2
    sizes = runs[:, 1] - runs[:, 0]
    return float(np.average(middle % width, weights=sizes)), float(np.average(middle // width, weights=sizes))


def doubts_of_masks(evidence: Sequence[MaskEvidence]) -> list[Doubt]:
    """A doubt per image and class that is annotated or predicted, the most doubtful first."""
    own = np.array([np.diagonal(one.overlaps) for one in evidence])
    there = np.array([one.truth > 0 for one in evidence])
    made = np.array([one.predicted > 0 for one in evidence])
    dice = np.where(there | made, np.nan_to_num(own), np.nan)  # 0 of what only one side has
    usual = _usual(dice)
    lacking = _lacking(dice, usual)
    surface = _lacking(np.where(there & made, [one.surface for one in evidence], np.nan))
    pixels = _lacking(np.array([one.pixels for one in evidence]))
    area = np.array([np.median(column[column > 0]) if (column > 0).any() else np.nan for column in
                     np.array([one.truth for one in evidence]).T])  # fmt: skip
    found = []
    for i, one in enumerate(evidence):
        for c in np.flatnonzero(there[i] | made[i]).tolist():
            reasons, other, instead = dict[str, float](), -1, -1
            if not there[i, c]:
                instead = _instead(one.overlaps[:, c])
                whole = min(1.0, float(one.predicted[c] / area[c])) if np.isfinite(area[c]) else 1.0
                reasons["missing"] = float(usual[c]) * whole if np.isfinite(usual[c]) else 0.0
            elif not made[i, c]:
                reasons["extra"] = float(lacking[i, c])
            else:
                reasons["low"] = float(lacking[i, c])
                reasons["border"] = float(surface[i, c]) / 2  # which the Dice has seen, too
            if there[i, c]:
                reasons["pixels"] = float(np.nan_to_num(pixels[i, c])) / 2
                gain, other = _swap(one.overlaps, c)
                reasons["swap"] = gain
                reasons["order"] = ORDER * float(one.order[c])
            reasons = {name: value for name, value in reasons.items() if value > 0}
            found.append(Doubt(i, c, -1, reasons, other if "swap" in reasons else -1, instead))
    return sorted(found, key=lambda one: (-one.score, one.image, one.label))


def _instead(overlaps: np.ndarray) -> int:
    """The annotated class that a predicted mask shares most with, by its Dice [C] with each; -1 if it is hardly any."""
    best = int(np.argmax(np.nan_to_num(overlaps)))
    return best if overlaps[best] >= SHARED else -1


def _usual(values: np.ndarray) -> np.ndarray:
    """float64[C]: median of each class over images [I, C]; NaN without one."""
    return np.array([np.median(column[np.isfinite(column)]) if np.isfinite(column).any() else np.nan
                     for column in values.T])  # fmt: skip


def _lacking(values: np.ndarray, usual: np.ndarray | None = None) -> np.ndarray:
    """float64[I, C], 0 to 1: how far below its class's median a value is, less what is usual for its image."""
    gap = (_usual(values) if usual is None else usual) - values
    known = np.isfinite(gap)
    whole = np.array([
        max(0.0, float(np.median(row[some]))) if some.sum() >= BAD_IMAGE else 0.0
        for row, some in zip(gap, known, strict=True)
    ])  # fmt: skip
    return np.asarray(np.clip(np.nan_to_num(gap) - whole[:, None], 0, 1))


def _swap(overlaps: np.ndarray, c: int) -> tuple[float, int]:
    """Dice that annotation c gains with the predicted class that fits it best, and that class. If that class is
    annotated, too, exchanging both must fit better: the mean gain of the two."""
    own, row = np.nan_to_num(overlaps[c, c]), np.nan_to_num(overlaps[c])
    best = int(np.argmax(row))
    if best == c:
        return 0.0, -1
    gain = float(row[best] - own)
    if np.isfinite(overlaps[best]).any():
        back = float(np.nan_to_num(overlaps[best, c]) - np.nan_to_num(overlaps[best, best]))
        gain = max(0.0, (gain + back) / 2)
    return gain, best if gain > 0 else -1


def doubts_of_boxes(truth: Sequence[Boxes], predicted: Sequence[Boxes], classes: int) -> list[Doubt]:
    """A doubt per annotated object, and per predicted box that no object overlaps, the most doubtful first.

    Args:
        predicted: of the same images, with all scores.
    """
    support, others, places = list[float](), list[tuple[float, int]](), list[tuple[int, int, int]]()
    missing = list[Doubt]()
    for i, (objects, boxes) in enumerate(zip(truth, predicted, strict=True)):
        overlaps = pairwise_iou(boxes.corners, objects.corners)
        worth = overlaps * boxes.scores[:, None]
        for k in np.flatnonzero(~objects.ignored).tolist():
            c = int(objects.classes[k])
            by_class = [float(worth[boxes.classes == label, k].max(initial=0.0)) for label in range(classes)]
            other = max((label for label in range(classes) if label != c), key=by_class.__getitem__, default=c)
            support.append(by_class[c])
            others.append((by_class[other] if other != c else 0.0, other))
            places.append((i, c, k))
        for b in np.flatnonzero(overlaps.max(axis=1, initial=0.0) < 0.1).tolist():
            missing.append(Doubt(i, int(boxes.classes[b]), -1, {"missing": float(boxes.scores[b])}))
    values, labels = np.array(support), np.array([c for _, c, _ in places])
    usual = [np.median(values[labels == c]) if (labels == c).any() else 0.0 for c in range(classes)]
    found = _strongest(missing)
    for value, (best, other), (i, c, k) in zip(support, others, places, strict=True):
        low = float(np.clip(usual[c] - value, 0, 1))
        reasons = {"low" if value > 0.05 else "extra": low, "swap": max(0.0, best - value)}
        reasons = {name: part for name, part in reasons.items() if part > 0}
        found.append(Doubt(i, c, k, reasons, other if "swap" in reasons else -1))
    return sorted(found, key=lambda one: (-one.score, one.image, one.label, one.object))


def _strongest(missing: Sequence[Doubt]) -> list[Doubt]:
    """Of each image and class the missing object with the highest score: boxes of one object overlap."""
    best: dict[tuple[int, int], Doubt] = {}
    for one in missing:
        key = (one.image, one.label)
        if key not in best or one.score > best[key].score:
            best[key] = one
    return list(best.values())


def pixel_confidence(probability: np.ndarray, mask: np.ndarray) -> float:
    """Softmin of the self-confidence of a mask's pixels, in two groups, as of labels in :mod:`.suspects`: those within
    the mask have the mean probability of the class, those around it that of the background.

    Args:
        probability: float[h, w] of the class, in a box around what is annotated or probable.
        mask: bool[h, w] as annotated.
    """
    if not mask.any():
        return float("nan")
    from .suspects import softmin

    inside = float(probability[mask].mean())
    claimed = probability[~mask & (probability >= 0.5)].sum()  # what the class lacks, as a part of the mask
    return float(softmin(np.array([[inside, 1 - min(1.0, float(claimed) / float(mask.sum()))]]))[0])


def image_scores(found: Sequence[Doubt], images: int) -> np.ndarray:
    """float64[I]: the highest score of each image's annotations; 0 without one."""
    scores = np.zeros(images)
    for one in found:
        scores[one.image] = max(scores[one.image], one.score)
    return scores


def words(one: Doubt, classes: Sequence[str]) -> tuple[str, ...]:
    """The reasons in words, the strongest first."""
    other = classes[one.other] if one.other >= 0 else ""
    texts = {
        "low": "the prediction differs more than usual",
        "extra": "nothing is predicted there",
        "missing": f"predicted, but {f'{classes[one.instead]} is' if one.instead >= 0 else 'not'} annotated",
        "swap": f"fits the predicted {other} better",
        "order": "out of order along its finger",
        "border": "the borders disagree",
        "pixels": "its pixels are improbable",
    }
    named = sorted(one.reasons, key=lambda name: -one.reasons[name])
    return tuple(f"{texts[name]} ({one.reasons[name]:.2f})" for name in named if one.reasons[name] >= TELLING)
