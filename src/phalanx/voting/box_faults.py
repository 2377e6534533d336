"""What is misaligned between two submissions of boxes: their coordinates, classes or images.

Two detectors of one task put most boxes of an image in the same places. If they do so far better once the coordinates
of one are mirrored or scaled, its classes exchanged or its images renamed, it is misaligned. Only strong boxes are
compared, by the member's own scores, so that a bold detector and a timid one are alike.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..masks.box_geometry import BoxView, pairwise_iou
from ..runtime.sidecar import Size
from ..submission.boxes import Boxes
from .places import cycles

STRONG = 0.5  # of the median of the highest score of each image
MAX_STRONG = 50  # boxes of an image
MIN_IMAGES = 5  # with boxes of both
MIN_GAIN = 0.2  # of overlap, that a change of coordinates or names must bring on average
MIN_ERRORS = 5.0  # standard errors that the gain of all images must be
SAME = 0.5  # IoU of two boxes of one object
MIN_BOXES = 5  # of a class, to say that it is another
MIN_SWAPPED = 0.75  # of them have the other class
MAX_OWN = 0.1  # of them have their own
MIN_SCALE = 1.05
MIN_SHIFT = 3.0  # pixels
MAX_ODD = 200  # images that are compared with each other
LEVELS = (0.4, 0.5, 0.6, 0.7, 0.8)  # overlaps that images of other names must reach
MAX_CHANCE = 0.05  # images that reach it by chance, for each one
MIN_FITS = 0.25  # of the odd images that fit another one
MIN_CYCLE = 0.6  # of the images of a cycle must reach it: of a long one, some may be too weak to see
MIN_EXCHANGED = 3  # images that have each other's boxes, to stop a vote; two may be honest errors
VIEWS = {
    "mirrored left to right": BoxView(hflip=True),
    "upside down": BoxView(vflip=True),
    "turned by 180 degrees": BoxView(turns=2),
}


class BoxPair(NamedTuple):
    """Strong boxes of two members in the same images, with the same classes."""

    names: tuple[str, str]
    images: Sequence[str]
    classes: Sequence[str]
    one: Sequence[Boxes]
    other: Sequence[Boxes]
    sizes: Mapping[str, Size]


def strong_boxes(boxes: Sequence[Boxes]) -> list[Boxes]:
    """The boxes of each image that a detector is sure of, by its own standard."""
    tops = [float(each.scores.max()) for each in boxes if len(each.scores)]
    limit = STRONG * float(np.median(tops)) if tops else 0.0
    return [each.chosen(each.order()[: min(MAX_STRONG, int((each.scores >= limit).sum()))]) for each in boxes]


def overlap(one: Boxes, other: Boxes, *, classes: bool = True) -> float:
    """How alike the boxes of two images are, from 0 to 1: the mean, over the boxes of both, of the best IoU.

    NaN if neither has a box.

    Args:
        classes: only boxes of the same class are alike.
    """
    count = len(one.scores) + len(other.scores)
    if not count:
        return np.nan
    if not (len(one.scores) and len(other.scores)):
        return 0.0
    iou = pairwise_iou(one.corners, other.corners)
    if classes:
        iou = iou * (one.classes[:, None] == other.classes)
    return float((iou.max(axis=1).sum() + iou.max(axis=0).sum()) / count)


def overlaps(one: Sequence[Boxes], other: Sequence[Boxes], *, classes: bool = True) -> np.ndarray:
    """float64[N]: :func:`overlap` of each image."""
    return np.array([overlap(a, b, classes=classes) for a, b in zip(one, other, strict=True)])


def faults(pair: BoxPair) -> tuple[list[str], list[str]]:
    """What is surely wrong, in words, and what may be honest."""
    both = [bool(len(a.scores) and len(b.scores)) for a, b in zip(pair.one, pair.other, strict=True)]
    if sum(both) < MIN_IMAGES:
        return [], []
    if wrong := _coordinates(pair) or _classes(pair):
        return [wrong], []
    moved = _exchanged(pair)
    if not moved:
        return [], []
    pairs = [f"{pair.images[i]} of {pair.names[0]} is {pair.images[j]} of {pair.names[1]}" for i, j in moved.items()]
    more = f" and {len(pairs) - 3} more" if pairs[3:] else ""
    text = f"{len(pairs)} of {len(pair.images)} images have other names: {', '.join(pairs[:3])}{more}"
    return ([text], []) if len(moved) >= MIN_EXCHANGED else ([], [text])


def _coordinates(pair: BoxPair) -> str:
    """Boxes of all images that fit once they are mirrored, exchanged, scaled or shifted."""
    own = overlaps(pair.one, pair.other, classes=False)
    found: dict[str, np.ndarray] = {}
    if all(image in pair.sizes for image in pair.images):
        for how, view in VIEWS.items():
            moved = [
                boxes._replace(corners=view.apply(boxes.corners, pair.sizes[image]))
                for boxes, image in zip(pair.one, pair.images, strict=True)
            ]
            found[how] = overlaps(moved, pair.other, classes=False)
    transposed = [boxes._replace(corners=boxes.corners[:, [1, 0, 3, 2]]) for boxes in pair.one]
    found["with x and y exchanged"] = overlaps(transposed, pair.other, classes=False)
    scale, shift = _affine(pair)
    if np.abs(np.log(scale)).max() >= np.log(MIN_SCALE) or np.abs(shift).max() >= MIN_SHIFT:
        moved = [boxes._replace(corners=boxes.corners * np.tile(scale, 2) + np.tile(shift, 2)) for boxes in pair.one]
        is_scaled = np.abs(np.log(scale)).max() >= np.log(MIN_SCALE)
        how = (
            f"smaller or larger by {1 / scale[0]:.3g} x {1 / scale[1]:.3g} (width x height)"
            if is_scaled
            else f"shifted by {-shift[0]:.3g}, {-shift[1]:.3g} pixels (x, y)"
        )
        found[how] = overlaps(moved, pair.other, classes=False)
    how = max(found, key=lambda name: float(np.nanmean(found[name])))
    gaps = (found[how] - own)[~np.isnan(own)]
    error = float(gaps.std(ddof=1) / np.sqrt(len(gaps)))
    if gaps.mean() < max(MIN_GAIN, MIN_ERRORS * error):
        return ""
    return (
        f"the boxes of {pair.names[0]} are {how} against {pair.names[1]} (overlap {np.nanmean(found[how]):.2f} once "
        f"that is undone, instead of {np.nanmean(own):.2f})"
    )


def _affine(pair: BoxPair) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift, float64[2] each, of the first member's boxes that fit the second's, by the frame around all."""
    frames = [
        np.stack([np.concatenate([each.corners[:, :2].min(0), each.corners[:, 2:].max(0)]) for each in (a, b)])
        for a, b in zip(pair.one, pair.other, strict=True)
        if len(a.scores) and len(b.scores)
    ]
    low, high = np.stack(frames)[..., :2], np.stack(frames)[..., 2:]
    sides = high - low
    scale = np.median(sides[:, 1] / sides[:, 0], axis=0)
    return scale, np.median(low[:, 1] - scale * low[:, 0], axis=0)


def _classes(pair: BoxPair) -> str:
    """Classes whose boxes are those of another class of the other member, in a cycle."""
    from scipy.optimize import linear_sum_assignment  # a quarter of a second

    counts = np.zeros((len(pair.classes),) * 2, np.int64)
    for a, b in zip(pair.one, pair.other, strict=True):
        if len(a.scores) and len(b.scores):
            iou = pairwise_iou(a.corners, b.corners)
            best, sure = iou.argmax(axis=1), iou.max(axis=1) >= SAME
            np.add.at(counts, (a.classes[sure], b.classes[best[sure]]), 1)
    of = counts.sum(axis=1)
    best = linear_sum_assignment(-counts)[1].tolist()
    swaps = []
    for cycle in cycles(best):
        sure = [
            of[c] >= MIN_BOXES and counts[c, best[c]] >= MIN_SWAPPED * of[c] and counts[c, c] <= MAX_OWN * of[c]
            for c in cycle
        ]
        if len(cycle) > 1 and sum(sure) >= max(1, MIN_SWAPPED * len(cycle)):
            swaps += [
                f"{pair.classes[c]} of {pair.names[0]} is {pair.classes[best[c]]} of {pair.names[1]} "
                f"({counts[c, best[c]]} of {of[c]} boxes)"
                for c in sorted(cycle)
            ]
    if not swaps:
        return ""
    return f"classes are swapped: {', '.join(swaps[:3])}{f' and {len(swaps) - 3} more' if swaps[3:] else ''}"


def _exchanged(pair: BoxPair) -> dict[int, int]:
    """Images whose boxes are those of another image of the other member, in closed cycles.

    Nothing is said if boxes of different images are often as alike as that by chance.
    """
    from scipy.optimize import linear_sum_assignment

    own = overlaps(pair.one, pair.other)
    every = np.flatnonzero(own < LEVELS[-1] - MIN_GAIN)
    every = np.sort(every[np.argsort(own[every], kind="stable")[:MAX_ODD]])
    alike = np.array(
        [[np.nan_to_num(overlap(pair.one[i], pair.other[j])) for j in every.tolist()] for i in every.tolist()]
    )
    for level in LEVELS:
        chosen = own[every] < level - MIN_GAIN
        odd, some = every[chosen], alike[np.ix_(chosen, chosen)] if len(every) else alike
        if len(odd) < 2:
            continue
        to = linear_sum_assignment(-some)[1].tolist()
        fits = some[np.arange(len(odd)), to] >= level
        # many matches in question are not chance; a few are what chance gives, and count as such
        apart = int((some >= level).sum()) - (int(fits.sum()) if fits.mean() >= MIN_FITS else 0)
        if apart >= MAX_CHANCE * len(odd):
            continue
        moved = [
            k
            for cycle in cycles(to)
            if len(cycle) > 1 and fits[cycle].sum() >= max(2, MIN_CYCLE * len(cycle))
            for k in cycle
            if fits[k]
        ]
        if moved:
            return {int(odd[k]): int(odd[to[k]]) for k in sorted(moved)}
    return {}
