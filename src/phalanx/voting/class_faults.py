"""Classes of a member that are misaligned in all images or some: exchanged, empty, or copies of others."""

from collections import Counter

import numpy as np

from .partial import Compared, Finding, named
from .places import median, quantile

FAR = 1.5  # times the class's typical distance: a mask that is not in its place
NEAREST = 0.4  # of the distance of the nearest other class: a nearer mask is in its own place
NEAREST_IMAGES = 64  # in which that is measured
FITS = 1 / 2  # of the distance of two masks, at most, that exchanging them leaves
FITS_WELL = 1 / 3  # the same, for a mask of a longer cycle
MAX_IMAGES = 2000  # that are searched for exchanged classes
MIN_EXCHANGED = 3  # images, to stop a vote; fewer are noted
MIN_EXCHANGED_FRACTION = 0.02  # the same, of the images that have both classes
MIN_PERMUTED = 0.6  # of the masks of an image, to call its whole class list permuted
MIN_PRESENT = 0.6  # of the images: less often found classes may be missed by an honest member
MIN_IMAGES = 8  # in which the other member has a class that is empty
FOUND = 0.5  # of the masks of a class that a member must find, for the class to count as learned
MIN_LEARNED = 0.9  # of the other classes, to wonder at an empty one
STRONG = 0.002  # of the long side: members that are nearer have learned all classes; others may lack several yet
RARE = 0.85  # of the usual number of images: a class in fewer is learned last
MIN_COPIED = 0.25  # of the masks


def class_findings(pair: Compared) -> list[Finding]:
    """What is found class by class."""
    if len(pair.classes) < 2:
        return []
    permuted = _permuted(pair)
    return [
        *_empty_classes(pair),
        *_copies(pair),
        *_permuted_finding(pair, permuted),
        *_exchanged(pair, set(permuted)),
    ]


def _exchanged(pair: Compared, permuted: set[int]) -> list[Finding]:
    """Classes whose masks are in each other's places, or in those of a longer cycle, in all images or some."""
    one = pair.one[..., :2] - pair.shifts[:, None]  # what all masks of an image share does not distinguish classes
    own = np.hypot(*np.moveaxis(one - pair.other[..., :2], -1, 0))
    typical = quantile(median(own), 0.25)
    by_class = median(own.T)
    noise = np.clip(np.where(np.isfinite(by_class), by_class, typical), typical / 2, 2 * typical)
    far = own > np.maximum(np.maximum(FAR * noise, pair.min_far), NEAREST * _nearest(pair.other))
    rows = np.flatnonzero(far.sum(axis=1) >= 2)
    if not len(rows):
        return []
    if len(rows) > MAX_IMAGES:
        rows = rows[np.linspace(0, len(rows) - 1, MAX_IMAGES).astype(int)]
    swaps: dict[tuple[int, ...], list[int]] = {}
    for row in rows.tolist():
        at = np.flatnonzero(far[row])
        cost = np.hypot(*(one[row][at, None] - pair.other[row][None, at, :2]).T).T
        here = cost.diagonal()
        both, crossed = here[:, None] + here, cost + cost.T
        pairs = np.argwhere(np.triu(crossed <= FITS * both, 1))
        for a, b in pairs.tolist():
            swaps.setdefault((int(at[a]), int(at[b])), []).append(row)
        for cycle in _cycles(cost, here, at):
            swaps.setdefault(cycle, []).append(row)
    return _swap_findings(pair, swaps, permuted)


def _nearest(places: np.ndarray) -> np.ndarray:
    """float[C]: how near other classes come to each: the distance that an exchanged mask is off at least."""
    some = places[np.unique(np.linspace(0, len(places) - 1, min(len(places), NEAREST_IMAGES)).astype(int)), :, :2]
    gaps = np.hypot(*np.moveaxis(some[:, :, None] - some[:, None], -1, 0))
    gaps[:, np.arange(places.shape[1]), np.arange(places.shape[1])] = np.nan
    gaps = np.where(np.isfinite(gaps), gaps, np.inf).min(axis=2)  # (S, C)
    low = np.quantile(np.where(np.isfinite(gaps), gaps, 1e9), 0.1, axis=0)
    return np.where(low < 1e9, low, 0)


def _cycles(cost: np.ndarray, here: np.ndarray, at: np.ndarray) -> list[tuple[int, ...]]:
    """Cycles of three classes or more, each of which fits the place of the next."""
    best = cost.argmin(axis=1)
    to = np.where(cost[np.arange(len(at)), best] <= FITS_WELL * here, best, -1)
    found, seen = [], set[int]()
    for start in range(len(at)):
        path = [start]
        while to[path[-1]] >= 0 and to[path[-1]] not in path:
            path.append(int(to[path[-1]]))
        if to[path[-1]] == start and len(path) > 2 and start not in seen:
            seen |= set(path)
            found.append(tuple(int(at[p]) for p in path))
    return found


def _permuted(pair: Compared) -> list[int]:
    """Images most of whose masks are in places of other classes, each of another."""
    found = []
    for row in np.flatnonzero(pair.by_image > 2 * max(pair.typical, pair.min_far)).tolist()[:MAX_IMAGES]:
        at = np.flatnonzero(np.isfinite(pair.own[row]))
        cost = np.hypot(*(pair.one[row][at, None, :2] - pair.other[row][None, at, :2]).T).T
        best = cost.argmin(axis=1)
        fits = (best != np.arange(len(at))) & (cost.min(axis=1) <= FITS_WELL * cost.diagonal())
        if len(set(best[fits].tolist())) >= max(4, MIN_PERMUTED * len(at)):
            found.append(row)
    return found


def _permuted_finding(pair: Compared, rows: list[int]) -> list[Finding]:
    if len(rows) < 2:
        return []
    return [Finding(f"most classes are in the places of others in {pair.listed(np.array(rows))}", True)]


def _swap_findings(pair: Compared, swaps: dict[tuple[int, ...], list[int]], permuted: set[int]) -> list[Finding]:
    found = []
    shared = np.isfinite(pair.own)
    for classes, rows in sorted(swaps.items(), key=lambda item: -len(item[1])):
        images = np.array([row for row in rows if row not in permuted], int)
        if not len(images):
            continue
        both = int(shared[:, list(classes)].all(axis=1).sum())
        how = (
            " and ".join(pair.classes[c] for c in classes)
            if len(classes) == 2
            else ", ".join(pair.classes[c] for c in classes)
        )
        text = f"{how} are exchanged in {pair.listed(images)}"
        found.append(Finding(text, len(images) >= max(MIN_EXCHANGED, MIN_EXCHANGED_FRACTION * both)))
    return found


def _empty_classes(pair: Compared) -> list[Finding]:
    """Classes that one member never has and the other in most images, though the first has learned the others.

    Several at once, or one that is rarer than the others, may be what a weak member has not learned yet.
    """
    found = []
    for which in (0, 1):
        own, others = pair.there(which), pair.there(1 - which)
        usual = others.sum(axis=0)
        rates = np.divide((own & others).sum(axis=0), usual, out=np.ones(len(usual)), where=usual > 0)
        wanted = usual >= max(MIN_IMAGES, MIN_PRESENT * len(own))
        empty = wanted & (own.sum(axis=0) == 0)
        rest = rates[wanted & ~empty]
        if not empty.any() or not len(rest) or (rest >= FOUND).mean() < MIN_LEARNED:
            continue
        classes = np.flatnonzero(empty)
        names = named([pair.classes[c] for c in classes.tolist()])
        text = (
            f"{pair.names[which]} has no {names} in any image, {pair.names[1 - which]} has "
            f"{'it' if len(classes) == 1 else 'them'} in {int(usual[classes].min())} of {len(own)}"
        )
        strong = pair.typical <= STRONG * pair.sizes.max()
        rare = usual[classes].min() < RARE * np.median(usual[wanted])
        found.append(Finding(text, not rare and (len(classes) == 1 or strong)))
    return found


def _copies(pair: Compared) -> list[Finding]:
    """Classes of one member that have the very masks of another class, and images with those of another image."""
    found = []
    for which in (0, 1):
        own, other = (pair.one, pair.other) if which == 0 else (pair.other, pair.one)
        name = pair.names[which]
        same, theirs = same_classes(own), same_classes(other)
        for (a, b), count in same.items():
            either = int((own[:, [a, b], 2] > 0).all(axis=1).sum())
            if count >= max(2, MIN_COPIED * either) and theirs.get((a, b), 0) < count / 2:
                text = f"{pair.classes[a]} and {pair.classes[b]} of {name} are the same mask in {count} images"
                found.append(Finding(text, True))
        repeated = same_images(own) - same_images(other)
        if len(repeated) > 1:
            text = f"{name} has the masks of another image in {pair.listed(np.array(sorted(repeated)))}"
            found.append(Finding(text, True))
    return found


def same_classes(places: np.ndarray) -> Counter[tuple[int, int]]:
    """How often two classes of an image have equal centres and areas."""
    area = places[..., 2]
    ordered = np.sort(np.where(area > 0, area, np.nan), axis=1)
    rows = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))
    count = Counter[tuple[int, int]]()
    for row in rows.tolist():
        masks = places[row]
        equal = np.triu((masks[:, None] == masks).all(axis=2), 1)
        count.update((a, b) for a, b in np.argwhere(equal).tolist())
    return count


def same_images(places: np.ndarray) -> set[int]:
    """Images whose masks all equal those of another image, of two masks at least."""
    flat = np.nan_to_num(places, nan=-1).reshape(len(places), -1)
    _, inverse, counts = np.unique(flat, axis=0, return_inverse=True, return_counts=True)
    repeated = (counts[inverse.reshape(-1)] > 1) & ((places[..., 2] > 0).sum(axis=1) > 1)
    return set(np.flatnonzero(repeated).tolist())
