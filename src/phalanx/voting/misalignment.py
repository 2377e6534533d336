"""Misalignment transforms: the shift, scale, mirror or permutation that aligns one member's masks with another's.

Found from the masks' centres of mass alone, which are computed from runs without painting a pixel.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ..masks.stack import Stack
from ..runtime.sidecar import Size
from .places import cycles, places

ALIGNED_DISTANCE = 0.001  # of the long side: closer masks are aligned (2 pixels of 2048); at least one pixel
MAX_RESIDUAL = 0.01  # of the long side (at least 2 pixels): a transform must leave less, or a third of the distance
MIN_MASKS = 10  # that both members must have, to compare a pair
MIN_IMAGES = 8  # of which a permutation may leave more than the residual
_UNREACHABLE = 9.0  # farther than anything in a frame of side 1

Centres = np.ndarray  # float64[S, C, 2]: x, y of each image and class as fractions of the long side; NaN for none
Block = tuple[Sequence[str], Centres, Centres]  # images, and both members' centres in them


def centres(stack: Stack, size: Size) -> np.ndarray:
    """float64[C, 2]: x and y of each class's centre of mass, as fractions of the image's long side; NaN for none."""
    return places([stack], size[1])[0, :, :2] / max(size)


class Pair(NamedTuple):
    """Two members' masks in the same images."""

    names: tuple[str, str]
    one: Centres
    other: Centres
    sizes: np.ndarray  # float64[S, 2]: height, width

    @property
    def both(self) -> np.ndarray:
        """bool[S, C]: the masks that both have."""
        return np.isfinite(self.one[..., 0]) & np.isfinite(self.other[..., 0])

    @property
    def distance(self) -> float:
        """Median distance of their centres, as a fraction of the long side."""
        return _distance(self.one[self.both] - self.other[self.both])

    @property
    def pixel(self) -> float:
        """A pixel of the smallest image, as a fraction of its long side."""
        return 1 / self.sizes.max(axis=1).min()


def find_misalignment(pair: Pair, classes: Sequence[str], block: Callable[[], Block]) -> str:
    """The transform that aligns the first member's masks with the second's, in words; empty if there is none.

    Args:
        block: returns more images, to search for permuted ones; called only if needed.
    """
    if pair.both.sum() < MIN_MASKS:
        return ""
    max_residual, distance = max(MAX_RESIDUAL, 2 * pair.pixel), pair.distance
    how, rest = _geometric_transform(pair, max_residual) if distance >= max(ALIGNED_DISTANCE, pair.pixel) else ("", 0.0)
    moved = f"{pair.names[0]} has its masks {how} those of {pair.names[1]}" if how else ""
    if moved and rest <= max_residual:
        return moved
    return (
        (_image_permutation(pair, block(), max_residual) if distance >= max_residual else "")
        or _class_permutation(pair, classes, max_residual)
        or moved
    )


def _geometric_transform(pair: Pair, max_residual: float) -> tuple[str, float]:
    """How all masks are mirrored, rotated, shifted or scaled, in words, and the distance that remains without it."""
    both, distance = pair.both, pair.distance
    long, end, start = pair.sizes.max(axis=1), pair.other[both], pair.one[both]
    far = ((pair.sizes[:, ::-1] - 1) / long[:, None])[:, None]  # the last column and row, (S, 1, 2)
    across, down = np.array([1, 0]), np.array([0, 1])
    turned = {
        "mirrored left to right of": pair.one * (down - across) + far * across,
        "upside down of": pair.one * (across - down) + far * down,
        "turned by 180 degrees from": far - pair.one,
        "with rows and columns swapped (an RLE along columns?) against": pair.one[..., ::-1],
    }
    left = {how: _distance(places[both] - end) for how, places in turned.items()}
    found = {how: rest for how, rest in left.items() if rest <= distance / 2}
    gaps = start - end
    move = np.median(gaps, axis=0)
    rest = _distance(gaps - move)
    if np.hypot(*move) >= max(distance / 2, ALIGNED_DISTANCE, pair.pixel):
        x, y = move * np.median(long)
        across_by = f"{abs(x):.1f} px {'right' if x > 0 else 'left'} of"
        found[f"{across_by} and {abs(y):.1f} px {'below' if y > 0 else 'above'}"] = rest
    # Scale: one line per coordinate, without the masks far from it. Weak members that shrink towards the middle do not
    # count.
    close = np.hypot(*(gaps - move).T) <= 3 * rest
    spread_out = close.sum() >= MIN_MASKS and np.ptp(start[close], axis=0).min() > 0.1
    lines = [np.polyfit(start[close, i], end[close, i], 1) for i in range(2)] if spread_out else []
    if lines and all(0.9 < slope < 1.1 for slope, _ in lines):
        scaled = _distance(np.stack([np.polyval(line, start[:, i]) for i, line in enumerate(lines)], 1) - end)
        if scaled <= min(distance / 2, 0.7 * rest):
            found[f"scaled by {' x '.join(f'{1 / slope:.3f}' for slope, _ in lines)} against"] = scaled
    how = min(found, key=found.__getitem__, default="")
    return (how, found[how]) if how and found[how] <= max(max_residual, distance / 3) else ("", 0.0)


def _class_permutation(pair: Pair, classes: Sequence[str], max_residual: float) -> str:
    """Classes whose masks are in the places of another class of the other member, in words."""
    cost = _median_distances(pair.one[:, :, None], pair.other[:, None])
    own = cost.diagonal()
    distance = (own < _UNREACHABLE) & (own >= max_residual)
    if not distance.any():
        return ""
    from scipy.optimize import linear_sum_assignment  # a quarter of a second, which few votes need

    best = linear_sum_assignment(cost)[1].tolist()
    wrong: set[int] = set()
    for cycle in cycles(best):
        those = {c for c in cycle if distance[c] and _explained(cost[c, best[c]], own[c], max_residual)}
        # Members that confuse neighbours leave the cycle open; of a long one, some mask may be missing.
        wrong |= those if len(those) >= max(2, 0.75 * len(cycle)) else set()
    if not wrong:
        return ""
    swaps = [f"{classes[c]} of {pair.names[0]} is {classes[best[c]]} of {pair.names[1]}" for c in sorted(wrong)]
    return f"classes are swapped: {', '.join(swaps[:3])}{f' and {len(swaps) - 3} more' if swaps[3:] else ''}"


def _image_permutation(pair: Pair, block: Block, max_residual: float) -> str:
    """Images that have other names in the other member, in words."""
    names, one, other = block
    if len(names) < 2:
        return ""
    sampled = np.unique(np.linspace(0, len(names) - 1, 24).round().astype(int))
    cost = _between_images(one[sampled], other)
    best, own = cost.argmin(axis=1), cost[np.arange(len(sampled)), sampled]
    left = cost.min(axis=1)
    fits = _explained(left, own, max_residual) & ((left <= max_residual) | (len(names) >= MIN_IMAGES))
    # A single image that fits all others is the typical one, and the member one that always predicts it.
    if 2 * fits.sum() <= len(sampled) or len(set(best[fits].tolist())) * 3 < fits.sum() * 2:
        return ""
    # Among many images one fits by chance, but seldom each the other best.
    mutual = _between_images(other[best[fits]], one).argmin(axis=1) == sampled[fits]
    if 2 * mutual.sum() < len(mutual):
        return ""
    first = int(fits.argmax())
    one_name, other_name = names[sampled[first]], names[best[first]]
    return f"images have other names: {one_name} of {pair.names[0]} is {other_name} of {pair.names[1]}"


def _between_images(one: Centres, other: Centres) -> np.ndarray:
    """float64[P, Q]: median distance over the classes of each of P images from each of Q."""
    return _median_distances(one.swapaxes(0, 1)[:, :, None], other.swapaxes(0, 1)[:, None])


def _explained(left: np.ndarray, before: np.ndarray, max_residual: float) -> np.ndarray:
    """Whether a transform leaves little of the distance ``before``: half, and the residual or a third."""
    return left <= np.minimum(before / 2, np.maximum(before / 3, max_residual))


def _median_distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """float64[P, Q]: median over the first axis of the distances between places [N, P, 1, 2] and [N, 1, Q, 2]."""
    gaps = np.hypot(*np.moveaxis(one - other, -1, 0))
    some = np.isfinite(gaps).sum(axis=0) * 4 > len(gaps)  # at least a quarter, or it is chance
    cost = np.full(gaps.shape[1:], _UNREACHABLE)
    cost[some] = np.nanmedian(gaps[:, some], axis=0)
    return cost


def _distance(gaps: np.ndarray) -> float:
    """Median length of vectors [N, 2]."""
    return float(np.median(np.hypot(gaps[:, 0], gaps[:, 1])))
