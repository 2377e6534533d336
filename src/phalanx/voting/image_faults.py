"""Images of a member that are misaligned though most are not: other names, mirrored, turned, moved, scaled, empty."""

from collections.abc import Callable

import numpy as np

from .image_names import renamed_findings
from .partial import Compared, Finding
from .places import median

FAR = 2.0  # times the typical distance: an image that is not aligned
FITS = 1 / 2  # of an image's distance, at most, that an explanation may leave
FITS_WELL = 1 / 3  # the same, to count without others of its kind
GOOD = 3.0  # times the typical distance, at most, that an explanation leaves
MIN_ALIKE = 3  # images moved or scaled alike, to call it a transform
MIN_ALIKE_FRACTION = 0.02  # the same, of all images
COMPETENT = 0.9  # of the other's masks that a member has elsewhere, to wonder at images without any
MIN_EMPTY_FRACTION = 0.07  # of the images without any: honest members have none in some hard ones
FITTED = {"moved": 1.5, "scaled": 2.0}  # times what a fitted transform leaves, to compare it with one that is not
MIN_SCALED = 6  # masks that a scale is fitted to
MIN_SCALE = 0.015  # a smaller change of scale is a difference of outlines


def image_findings(pair: Compared) -> list[Finding]:
    """What is found image by image."""
    found = _empty_images(pair)
    limit = max(FAR * pair.typical, pair.min_far)
    far = np.flatnonzero(pair.by_image > limit)
    if not len(far):
        return found
    found += renamed_findings(pair)
    best = {"": pair.by_image[far] * FITS}
    best |= _turned(pair, far)
    shifts, best["moved"] = _moved(pair, far)
    scales, best["scaled"] = _scaled(pair, far)
    kinds = list(best)
    left = np.stack([np.where(np.isfinite(v), v, np.inf) for v in best.values()])
    # a shift and a scale are fitted to the very image: they must leave clearly less than what is not
    chosen = (left * np.array([FITTED.get(kind, 1.0) for kind in kinds])[:, None]).argmin(axis=0)
    good = left[chosen, np.arange(len(far))] <= GOOD * pair.typical + pair.min_far
    for number, kind in enumerate(kinds[1:], 1):
        at = np.flatnonzero((chosen == number) & good)
        if not len(at):
            continue
        if kind == "moved":
            found += _alike(pair, far[at], shifts[at], 2 * pair.typical + pair.min_far, _shift_text)
        elif kind == "scaled":
            found += _alike(pair, far[at], scales[at], 1.5 * MIN_SCALE, _scale_text)
        else:
            sure = at[left[number, at] <= pair.by_image[far[at]] * FITS_WELL]
            if len(sure):
                found.append(Finding(f"masks of {pair.listed(far[sure])} are {kind}", len(sure) > 1))
    return found


def _turned(pair: Compared, far: np.ndarray) -> dict[str, np.ndarray]:
    """float[F] of each way to turn an image: the distance that is left."""
    one, other, ends = pair.one[far, :, :2], pair.other[far, :, :2], (pair.sizes[far, None, ::-1] - 1)
    across, down = np.array([1, 0]), np.array([0, 1])
    swapped, swapped_ends = one[..., ::-1], ends[..., ::-1]
    turned = {
        "mirrored left to right": one * (down - across) + ends * across,
        "upside down": one * (across - down) + ends * down,
        "turned by 180 degrees": ends - one,
        "with rows and columns swapped (an RLE along columns?)": swapped,
        "turned by 90 degrees": swapped * (down - across) + swapped_ends * across,
        "turned by 270 degrees": swapped * (across - down) + swapped_ends * down,
    }
    return {how: median(np.hypot(*np.moveaxis(places - other, -1, 0))) for how, places in turned.items()}


def _moved(pair: Compared, far: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shifts float[F, 2], and the distance that is left float[F]."""
    gaps = pair.gaps[far]
    shifts = median(np.swapaxes(gaps, 1, 2))
    return shifts, median(np.hypot(*np.moveaxis(gaps - shifts[:, None], -1, 0)))


def _scaled(pair: Compared, far: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scales float[F, 2] about any point, and the distance that is left float[F]."""
    scales, left = np.full((len(far), 2), np.nan), np.full(len(far), np.inf)
    for n, image in enumerate(far.tolist()):
        both = np.isfinite(pair.own[image])
        start, end = pair.one[image, both, :2], pair.other[image, both, :2]
        if len(start) < MIN_SCALED or np.ptp(start, axis=0).min() < 0.05 * pair.sizes[image].max():
            continue
        slopes = np.array([_slope(start[:, axis], end[:, axis]) for axis in range(2)])
        if (np.abs(slopes - 1) < 0.25).all() and np.abs(slopes - 1).max() > MIN_SCALE:
            scales[n] = 1 / slopes
            rest = end - start * slopes
            left[n] = np.median(np.hypot(*(rest - np.median(rest, axis=0)).T))
    return scales, left


def _slope(start: np.ndarray, end: np.ndarray) -> float:
    """Of a line through points, the median over pairs of them that are far apart."""
    rises, runs = end[:, None] - end, start[:, None] - start
    apart = runs > np.ptp(start) / 3
    return float(np.median(rises[apart] / runs[apart]))


def _alike(
    pair: Compared, images: np.ndarray, values: np.ndarray, close: float, text: Callable[[Compared, np.ndarray], str]
) -> list[Finding]:
    """Images with the same shift or scale."""
    middle = np.median(values, axis=0)
    same = np.abs(values - middle).max(axis=1) <= close
    count = int(same.sum())
    if count < max(MIN_ALIKE, MIN_ALIKE_FRACTION * len(pair.images)):
        return []
    return [Finding(f"masks of {pair.listed(images[same])} are {text(pair, middle)}", True)]


def _shift_text(pair: Compared, shift: np.ndarray) -> str:
    x, y = shift.tolist()
    return f"{abs(x):.1f} px {'right' if x > 0 else 'left'} of and {abs(y):.1f} px {'below' if y > 0 else 'above'}"


def _scale_text(pair: Compared, scale: np.ndarray) -> str:
    return f"scaled by {scale[0]:.3f} x {scale[1]:.3f}"


def _empty_images(pair: Compared) -> list[Finding]:
    """Images in which one member has nothing and the other what it usually has."""
    found = []
    for which in (0, 1):
        own, others = pair.there(which), pair.there(1 - which)
        usual = np.median(others.sum(axis=1))
        full = others.sum(axis=1) >= max(2, usual / 2)
        empty = full & ~own.any(axis=1)
        some = full & own.any(axis=1)
        if not empty.any() or not some.any():
            continue
        competent = (own & others)[some].sum() >= COMPETENT * others[some].sum()
        images = np.flatnonzero(empty)
        text = f"{pair.names[which]} has no masks in {pair.listed(images)}"
        found.append(Finding(text, bool(competent and len(images) >= max(MIN_ALIKE, MIN_EMPTY_FRACTION * len(own)))))
    return found
