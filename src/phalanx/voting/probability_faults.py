"""What is misaligned between two tables of probabilities: classes or images under each other's names.

Two networks of one task order the images alike, class by class. If they do so far better once the columns or rows of
one are exchanged, it is misaligned. Ranks are compared, so that a bold network and a timid one are alike.
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..runtime.columns import Texts
from .places import cycles

MIN_IMAGES = 8
ROWS = 1 << 16  # that are correlated at once
MIN_GAIN = 0.2  # of rank correlation, that an exchange must bring
MIN_ERRORS = 5.0  # standard errors that the gain must be, of all images: hundreds of shifts are tried
MIN_CLASS_ERRORS = 3.0  # the same, of each class of a cycle
MIN_SURE = 0.75  # of the classes of a cycle: of a long one, some may be too weak to see
MAX_SHIFT = 20  # rows, of a part of the images
FAR = 1.6  # times the typical distance: images that are not each other's
MIN_PART = 8  # images of a part that is shifted
MIN_EVIDENCE = 60  # images times independent classes of such a part: fewer numbers fit somewhere by chance
MIN_EXCHANGED = 3  # images among others that have each other's rows, to stop a vote; two may be honest errors
MIN_SEPARATE = 4.0  # independent classes, to know an image by its row among others
MIN_OTHERS = 30  # images, to call one the nearest of all
MAX_ODD = 400  # images that are searched for each other's rows


class RankedPair(NamedTuple):
    """Two members' ranks of the same images."""

    names: tuple[str, str]
    images: Sequence[str]
    classes: Sequence[str]
    one: np.ndarray  # float64[N, C], of each class, from -1 to 1
    other: np.ndarray


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks of the images in each class, float64[N, C], from -1 to 1; equal ones share the middle of theirs."""
    return scaled(stored_ranks(values)) if len(values) else values


def stored_ranks(values: np.ndarray) -> np.ndarray:
    """Twice the ranks from 0, float32[N, C]: whole numbers, exact up to 8 million images."""
    from scipy.stats import rankdata

    found = np.empty(values.shape, np.float32)
    for label in range(values.shape[1]):  # one class at a time: it takes several arrays of its size
        found[:, label] = 2 * (rankdata(values[:, label]) - 1)
    return found


def scaled(stored: np.ndarray) -> np.ndarray:
    """The ranks of :func:`ranks` from those of :func:`stored_ranks`."""
    found = stored.astype(float)
    found /= max(len(stored) - 1, 1)  # in place: tables may be large
    found -= 1
    return found


def correlations(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Correlation of each column of one float64[N, C] with each of another, float64[C, C]; NaN for constant ones."""
    means = [side.mean(axis=0) for side in (one, other)]
    squares = [np.zeros(side.shape[1]) for side in (one, other)]
    shared = np.zeros((one.shape[1], other.shape[1]))
    for first in range(0, len(one), ROWS):
        sides = [side[first : first + ROWS] - mean for side, mean in zip((one, other), means, strict=True)]
        for square, side in zip(squares, sides, strict=True):
            square += (side**2).sum(axis=0)
        shared += sides[0].T @ sides[1]
    whole = np.outer(*map(np.sqrt, squares))
    return np.divide(shared, whole, out=np.full(whole.shape, np.nan), where=whole > 1e-12)


def independent_classes(values: np.ndarray) -> float:
    """How many uncorrelated columns vary as much as the columns of float64[N, C] do together; 0 if none varies."""
    some = np.nan_to_num(correlations(values, values))
    spread = np.linalg.eigvalsh(some).clip(min=0)
    return float(spread.sum() ** 2 / (spread**2).sum()) if spread.any() else 0.0


def faults(pair: RankedPair) -> tuple[list[str], list[str]]:
    """What is surely wrong, in words, and what may be honest."""
    if len(pair.images) < MIN_IMAGES:
        return [], []
    own = correlations(pair.one, pair.other)
    classes = min(independent_classes(pair.one), independent_classes(pair.other))
    wrong = _classes(pair, own) or _all_images(pair, own, classes) or _part(pair, classes)
    if wrong:
        return [wrong], []
    moved = _exchanged(pair) if classes >= MIN_SEPARATE and len(pair.images) >= MIN_OTHERS else []
    if not moved:
        return [], []
    names = ", ".join(pair.images[i] for i in moved[:3]) + (f" and {len(moved) - 3} more" if moved[3:] else "")
    text = f"{pair.names[0]} has the rows of {len(moved)} images under each other's names: {names}"
    return ([text], []) if len(moved) >= MIN_EXCHANGED else ([], [text])


def _sure(better: float, before: float, numbers: float, errors: float) -> bool:
    """Whether a correlation of as many independent numbers is above another by enough (Fisher's transform)."""
    high, low = np.arctanh(np.clip([better, before], -0.999, 0.999))
    return better - before >= MIN_GAIN and bool(high - low >= errors * np.sqrt(2 / max(numbers - 3, 1)))


def _classes(pair: RankedPair, own: np.ndarray) -> str:
    """Classes whose ranks are those of another class of the other member, in a cycle."""
    from scipy.optimize import linear_sum_assignment  # a quarter of a second

    found = np.nan_to_num(own, nan=-1.0)
    best = linear_sum_assignment(-found)[1].tolist()
    wrong = set[int]()
    for cycle in cycles(best):
        sure = {
            c
            for c in cycle
            if _sure(found[c, best[c]], found[c, c], len(pair.images), MIN_CLASS_ERRORS) and best[c] != c
        }
        wrong |= sure if len(sure) >= max(2, MIN_SURE * len(cycle)) else set()
    if not wrong:
        return ""
    swaps = [
        f"{pair.classes[c]} of {pair.names[0]} is {pair.classes[best[c]]} of {pair.names[1]} (rank correlation "
        f"{found[c, best[c]]:.2f} instead of {found[c, c]:.2f})"
        for c in sorted(wrong)
    ]
    return f"classes are swapped: {', '.join(swaps[:3])}{f' and {len(swaps) - 3} more' if swaps[3:] else ''}"


def _all_images(pair: RankedPair, own: np.ndarray, classes: float) -> str:
    """Rows of all images in another order: shifted, reversed, or sorted in another way than by their letters."""
    used = np.flatnonzero(~np.isnan(own.diagonal()))
    if not len(used):
        return ""
    count, before = len(pair.images), float(np.nanmean(own.diagonal()))
    orders = {"in reverse order": np.arange(count)[::-1]}
    if any(_natural(one) > _natural(other) for one, other in pairwise(pair.images)):
        natural = Texts(map(_natural, pair.images)).order()
        orders |= {"in the order of their numbers": natural, "in the order of their letters": np.argsort(natural)}
    spectrum, sums = np.zeros(count // 2 + 1, complex), dict.fromkeys(orders, 0.0)
    for label in used:  # one class at a time, as there may be millions of images
        one, other = _standard(pair.one[:, label]), _standard(pair.other[:, label])
        spectrum += np.fft.rfft(one).conj() * np.fft.rfft(other)
        for how, order in orders.items():
            sums[how] += float((one * other[order]).sum())
    shifts = np.fft.irfft(spectrum / len(used), n=count)
    best = 1 + int(shifts[1:].argmax())
    found = {f"shifted by {min(best, count - best)} rows": float(shifts[best])}
    found |= {how: total / len(used) for how, total in sums.items()}
    how = max(found, key=found.__getitem__)
    if not _sure(found[how], before, count * classes, MIN_ERRORS):
        return ""
    return (
        f"{pair.names[0]} has its rows {how} against {pair.names[1]} (rank correlation {found[how]:.2f} instead of "
        f"{before:.2f})"
    )


def _standard(side: np.ndarray) -> np.ndarray:
    side = side - side.mean(axis=0)
    return np.asarray(side / np.sqrt((side**2).sum(axis=0)))


def _natural(name: str) -> str:
    """A key that sorts numbers in a name by their value, before them what is no number.

    >>> sorted(["a10", "a9", "a"], key=_natural)
    ['a', 'a9', 'a10']
    """
    parts = re.split(r"([0-9]{1,18})", name)
    return "".join(f"\2{int(part):018d}" if part.isdecimal() else f"\1{part}\0" for part in parts if part)


def _part(pair: RankedPair, classes: float) -> str:
    """A part of the images, one after another, whose rows are shifted among them."""
    count = len(pair.images)
    own = _apart(pair.one, pair.other)
    for shift in sorted(range(-MAX_SHIFT, MAX_SHIFT + 1), key=abs):
        if shift == 0 or count - abs(shift) < 2 * MIN_PART:
            continue
        low, high = max(0, -shift), min(count, count - shift)
        moved = _apart(pair.one[low:high], pair.other[low + shift : high + shift])
        begin, end = _heaviest(own[low:high] - moved)
        rest = np.concatenate([own[: low + begin], own[low + end :]])
        if end - begin < max(MIN_PART, MIN_EVIDENCE / max(classes, 1)) or len(rest) < MIN_PART:
            continue
        before, after, usual = (float(np.median(v)) for v in (own[low + begin : low + end], moved[begin:end], rest))
        if before >= FAR * max(usual, after):
            first, last = pair.images[low + begin], pair.images[low + end - 1]
            return (
                f"{pair.names[0]} has the rows of {end - begin} images, {first} to {last}, shifted by {abs(shift)} "
                f"against {pair.names[1]}"
            )
    return ""


def _apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """float64[N]: mean difference of the classes' ranks."""
    found = np.zeros(len(one))
    for label in range(one.shape[1]):
        found += np.abs(one[:, label] - other[:, label])
    return found / one.shape[1]


def _heaviest(gains: np.ndarray) -> tuple[int, int]:
    """Begin and end of the stretch with the largest sum."""
    sums = np.append(0.0, gains.cumsum())
    lowest = np.minimum.accumulate(sums)
    end = int((sums - lowest).argmax())
    return int(sums[: end + 1].argmin()), end


def _exchanged(pair: RankedPair) -> list[int]:
    """Images whose rows are each other's: far from their own, nearest of all images to another's, and that to them."""
    own = _apart(pair.one, pair.other)
    usual = float(np.median(own))
    odd = np.flatnonzero(own > FAR * max(usual, 1 / len(own)))
    odd = odd[np.argsort(-own[odd], kind="stable")][:MAX_ODD]
    to = dict[int, int]()
    for i in odd.tolist():
        gaps = np.abs(pair.one[i] - pair.other).mean(axis=1)
        j = int(gaps.argmin())
        back = int(np.abs(pair.one - pair.other[j]).mean(axis=1).argmin())
        if j != i and back == i and gaps[j] <= own[i] / FAR:
            to[i] = j
    while outside := {i for i, j in to.items() if j not in to} | (to.keys() - set(to.values())):
        to = {i: j for i, j in to.items() if i not in outside}
    return sorted(to)
