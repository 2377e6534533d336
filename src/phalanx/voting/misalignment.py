"""What would bring one member's masks onto another's: a shift, a scale, a mirror, other classes, other images.

Read off the masks' centres of mass alone, which run ends tell without painting a pixel.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ..masks.stack import Stack
from ..runtime.sidecar import Size

LIMIT = 0.001  # of the long side: masks that lie closer are aligned (2 pixels of 2048); a pixel at least
NEAR = 0.01  # of the long side: what an exchange must bring the masks to (two pixels at least), or to a third
FEWEST = 10  # masks that both members have, to judge a pair
MANY = 8  # images, to take one that is not near for another's
_NOWHERE = 9.0  # farther than anything in a frame of side 1

Centres = np.ndarray  # float64[S, C, 2]: x, y of each image and class in shares of the long side; NaN for none
Block = tuple[Sequence[str], Centres, Centres]  # images, and both members' centres in them


def centres(stack: Stack, size: Size) -> np.ndarray:
    """float64[C, 2]: x and y of each class's centre of mass, in shares of the image's long side; NaN for none."""
    width = size[1]
    rows, columns = np.divmod(stack.runs, width)
    # Of a run, the sums over all pixels before its end, less those before its start: it may cross rows.
    x = rows * (width * (width - 1) // 2) + columns * (columns - 1) // 2
    y = width * (rows * (rows - 1) // 2) + rows * columns
    sums = [np.bincount(stack.labels, weights=v[:, 1] - v[:, 0], minlength=stack.classes) for v in (x, y)]
    areas = stack.areas[:, None]
    full = np.full((stack.classes, 2), np.nan)
    return np.divide(np.stack(sums, axis=1), areas * max(size), out=full, where=areas > 0)


class Pair(NamedTuple):
    """Two members' masks in the same images."""

    names: tuple[str, str]
    one: Centres
    other: Centres
    sizes: np.ndarray  # float64[S, 2]: height, width

    @property
    def both(self) -> np.ndarray:
        """bool[S, C]: masks that both have."""
        return np.isfinite(self.one[..., 0]) & np.isfinite(self.other[..., 0])

    @property
    def away(self) -> float:
        """Median distance of their centres, in shares of the long side."""
        return _distance(self.one[self.both] - self.other[self.both])

    @property
    def pixel(self) -> float:
        """A pixel of the smallest image, in shares of its long side."""
        return 1 / self.sizes.max(axis=1).min()


def fault(pair: Pair, classes: Sequence[str], block: Callable[[], Block]) -> str:
    """The exchange that brings the first member's masks onto the second's, in words; empty where none does.

    Args:
        block: gives more images, to look for the right ones in; asked for only where it matters.
    """
    if pair.both.sum() < FEWEST:
        return ""
    near, away = max(NEAR, 2 * pair.pixel), pair.away
    how, rest = _moved(pair, near) if away >= max(LIMIT, pair.pixel) else ("", 0.0)
    moved = f"{pair.names[0]} has its masks {how} those of {pair.names[1]}" if how else ""
    if moved and rest <= near:
        return moved
    return (_other_images(pair, block(), near) if away >= near else "") or _other_classes(pair, classes, near) or moved


def _moved(pair: Pair, near: float) -> tuple[str, float]:
    """How the masks are mirrored, turned, shifted or scaled as a whole, and the distance that this leaves."""
    both, away = pair.both, pair.away
    long, end, start = pair.sizes.max(axis=1), pair.other[both], pair.one[both]
    far = ((pair.sizes[:, ::-1] - 1) / long[:, None])[:, None]  # the last column and row, (S, 1, 2)
    across, down = np.array([1, 0]), np.array([0, 1])
    turned = {
        "mirrored left to right of": pair.one * (down - across) + far * across,
        "upside down of": pair.one * (across - down) + far * down,
        "turned by 180 degrees from": far - pair.one,
        "with rows and columns exchanged (an RLE along columns?) against": pair.one[..., ::-1],
    }
    left = {how: _distance(places[both] - end) for how, places in turned.items()}
    found = {how: rest for how, rest in left.items() if rest <= away / 2}
    gaps = start - end
    move = np.median(gaps, axis=0)
    rest = _distance(gaps - move)
    if np.hypot(*move) >= max(away / 2, LIMIT, pair.pixel):
        x, y = move * np.median(long)
        across_by = f"{abs(x):.1f} px {'right' if x > 0 else 'left'} of"
        found[f"{across_by} and {abs(y):.1f} px {'below' if y > 0 else 'above'}"] = rest
    # Scale: a line a coordinate, without the masks far off it. Weak members that shrink towards the middle are no
    # case of it.
    close = np.hypot(*(gaps - move).T) <= 3 * rest
    spread_out = close.sum() >= FEWEST and np.ptp(start[close], axis=0).min() > 0.1
    lines = [np.polyfit(start[close, i], end[close, i], 1) for i in range(2)] if spread_out else []
    if lines and all(0.9 < slope < 1.1 for slope, _ in lines):
        scaled = _distance(np.stack([np.polyval(line, start[:, i]) for i, line in enumerate(lines)], 1) - end)
        if scaled <= min(away / 2, 0.7 * rest):
            found[f"scaled by {' x '.join(f'{1 / slope:.3f}' for slope, _ in lines)} against"] = scaled
    how = min(found, key=found.__getitem__, default="")
    return (how, found[how]) if how and found[how] <= max(near, away / 3) else ("", 0.0)


def _other_classes(pair: Pair, classes: Sequence[str], near: float) -> str:
    """Classes whose masks lie where the other member has another class."""
    cost = _typical(pair.one[:, :, None], pair.other[:, None])
    own = cost.diagonal()
    away = (own < _NOWHERE) & (own >= near)
    if not away.any():
        return ""
    from scipy.optimize import linear_sum_assignment  # a quarter of a second, which few votes need

    best = linear_sum_assignment(cost)[1].tolist()
    wrong: set[int] = set()
    for circle in _circles(best):
        those = {c for c in circle if away[c] and _settled(cost[c, best[c]], own[c], near)}
        # Members that confuse neighbours leave the circle open; of a long one, some mask may be missing.
        wrong |= those if len(those) >= max(2, 0.75 * len(circle)) else set()
    if not wrong:
        return ""
    told = [f"{classes[c]} of {pair.names[0]} is {classes[best[c]]} of {pair.names[1]}" for c in sorted(wrong)]
    return f"classes are exchanged: {', '.join(told[:3])}{f' and {len(told) - 3} more' if told[3:] else ''}"


def _circles(to: list[int]) -> list[list[int]]:
    """The circles of a permutation.

    >>> _circles([1, 0, 2])
    [[0, 1], [2]]
    """
    circles, left = [], set(range(len(to)))
    while left:
        circle = [min(left)]
        while to[circle[-1]] != circle[0]:
            circle.append(to[circle[-1]])
        circles.append(circle)
        left -= set(circle)
    return circles


def _other_images(pair: Pair, block: Block, near: float) -> str:
    """Images that lie under other names."""
    names, one, other = block
    if len(names) < 2:
        return ""
    asked = np.unique(np.linspace(0, len(names) - 1, 24).round().astype(int))
    cost = _typical(one[asked].swapaxes(0, 1)[:, :, None], other.swapaxes(0, 1)[:, None])  # over classes
    best, own = cost.argmin(axis=1), cost[np.arange(len(asked)), asked]
    left = cost.min(axis=1)
    fits = _settled(left, own, near) & ((left <= near) | (len(names) >= MANY))
    # A single image that fits all others is the typical one, and the member one that always predicts it.
    if fits.sum() * 2 <= len(asked) or len(set(best[fits].tolist())) * 3 < fits.sum() * 2:
        return ""
    first = int(fits.argmax())
    return (
        f"images lie under other names: {names[asked[first]]} of {pair.names[0]} is {names[best[first]]} of "
        f"{pair.names[1]}"
    )


def _settled(left: np.ndarray, before: np.ndarray, near: float) -> np.ndarray:
    """Where an exchange brings masks that were ``before`` apart together: halved, and near, or to a third."""
    return left <= np.minimum(before / 2, np.maximum(before / 3, near))


def _typical(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """float64[P, Q]: median over the first axis of the distances between places [N, P, 1, 2] and [N, 1, Q, 2]."""
    gaps = np.hypot(*np.moveaxis(one - other, -1, 0))
    some = np.isfinite(gaps).sum(axis=0) * 4 > len(gaps)  # a fourth at least, or chance decides
    cost = np.full(gaps.shape[1:], _NOWHERE)
    cost[some] = np.nanmedian(gaps[:, some], axis=0)
    return cost


def _distance(gaps: np.ndarray) -> float:
    """Median length of vectors [N, 2]."""
    return float(np.median(np.hypot(gaps[:, 0], gaps[:, 1])))
