"""Images whose masks are those of another image in the other member: names exchanged or rotated among some images.

How unlike two images' masks are is measured in what the members usually differ by: places of the classes relative to
each other, of all together, areas, and which classes there are. A weak member's image may be more like another one by
chance. Names that were moved are more like each other's by far, in a closed cycle.
"""

import numpy as np

from .partial import Compared, Finding, named
from .places import cycles, median, quantile

GOOD_FRACTION = 0.4  # of the images, the nearest: how much members differ is measured on them
ODD = 1.5  # times the unlikeness of good images: such images are compared with each other
MAX_ODD = 300  # images compared with each other
MIN_GAIN = 1.2  # of unlikeness, on average over a cycle, to call it one of names
MAX_REST = 3.5  # times the unlikeness of good images, on average over the cycle, that is left
MIN_MASKS = 4  # that two images must share to be compared
PLACE_WEIGHT = 0.3  # of where all masks lie together
FLOOR, AREA_FLOOR, MISSING_FLOOR = 0.25, 0.02, 0.02  # of the usual difference: pixels, log area, fraction of classes


def renamed_findings(pair: Compared) -> list[Finding]:
    """Cycles of images that have each other's masks."""
    unlike = Unlikeness(pair)
    own = unlike(unlike.one, unlike.other)
    usual = quantile(own, 0.25)
    odd = np.flatnonzero(np.isfinite(own) & (own > ODD * usual))
    if len(odd) < 2:
        return []
    if len(odd) > MAX_ODD:
        odd = np.sort(odd[np.argsort(-own[odd], kind="stable")[:MAX_ODD]])
    cost = np.stack([unlike(unlike.one[row], unlike.other[odd]) for row in odd])
    from scipy.optimize import linear_sum_assignment  # a quarter of a second, which few votes need

    to = linear_sum_assignment(np.where(np.isfinite(cost), cost, 1e3))[1]
    gains = cost.diagonal() - cost[np.arange(len(odd)), to]
    moved: list[int] = []
    for cycle in cycles(to.tolist()):
        rest = np.mean(cost.diagonal()[cycle] - gains[cycle])
        if len(cycle) > 1 and np.mean(gains[cycle]) >= MIN_GAIN and rest <= MAX_REST * usual:
            moved += cycle
    if not moved:
        return []
    pairs = [
        f"{pair.images[odd[k]]} of {pair.names[0]} is {pair.images[odd[to[k]]]} of {pair.names[1]}"
        for k in sorted(moved)
    ]
    return [Finding(f"{len(moved)} of {len(pair.images)} images have other names: {named(pairs)}", True)]


class Unlikeness:
    """How unlike the masks of two images are. What is usual between the members is measured on their best images."""

    def __init__(self, pair: Compared):
        self.one, self.other = _features(pair.one), _features(pair.other)
        good = pair.by_image <= quantile(pair.by_image, GOOD_FRACTION)
        gaps = self.one[good] - self.other[good]
        bias = median(np.moveaxis(gaps, 0, 2))
        self.bias = np.where(np.isfinite(bias), bias, 0)
        gaps = gaps - self.bias
        shifts = median(np.swapaxes(gaps[..., :2], 1, 2))
        rest = np.abs(gaps[..., :2] - shifts[:, None])
        self.shift = 1.4826 * median(np.abs(shifts).T) + FLOOR
        self.place = 1.4826 * median(rest.reshape(-1)) + FLOOR
        self.area = 1.4826 * median(np.abs(gaps[..., 2]).reshape(-1)) + AREA_FLOOR
        lacking = np.isfinite(self.one[good][..., 0]) != np.isfinite(self.other[good][..., 0])
        self.missing = max(MISSING_FLOOR, float(lacking.mean()))

    def __call__(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """float[...] of features [..., C, 3]; infinite if they share too few masks."""
        gaps = one - other - self.bias
        shifts = median(np.swapaxes(gaps[..., :2], -1, -2))
        rest = (gaps[..., :2] - shifts[..., None, :]) / self.place
        here = np.isfinite(gaps[..., 0])
        count = here.sum(axis=-1)
        each = np.log1p((rest**2).sum(axis=-1)) + np.log1p((gaps[..., 2] / self.area) ** 2)
        mean = np.where(here, each, 0).sum(axis=-1) / np.maximum(count, 1)
        lacking = (np.isfinite(one[..., 0]) != np.isfinite(other[..., 0])).mean(axis=-1) / self.missing
        together = np.log1p(((shifts / self.shift) ** 2).sum(axis=-1))
        return np.where(
            count >= min(MIN_MASKS, one.shape[-2]), mean + np.log1p(lacking) + PLACE_WEIGHT * together, np.inf
        )


def _features(places: np.ndarray) -> np.ndarray:
    """float64[I, C, 3]: x, y and the logarithm of the area; NaN for an empty mask."""
    found = places.astype(float)
    found[..., 2] = np.where(found[..., 2] > 0, np.log(np.maximum(found[..., 2], 1)), np.nan)
    return found
