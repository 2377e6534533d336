"""Which bone bears another's label, and which lies where none should, by how likely the bones' places are together.

Places, sizes and shapes of an image's bones are taken as normally distributed around the set's, after a similarity
transform. What is learned is how bones move together, so that a pose of its own is no fault, and a bone that goes
against all others is one. Patients are judged by the others' statistics alone, a tenth of them at a time.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .normal import Measure, best_exchanges, deviations, energies, exchange_ratios, fit, median

FOLDS = 10
PATIENTS = 4  # below so many, each image is judged by all others, its patient's too
KINDS = ("place", "size", "shape")
SHRINK = {"place": 0.15, "size": 0.3, "shape": 0.3}  # of correlations, which few images tell badly
STEPS = (300.0, 100.0, 40.0, 20.0, 12.0)  # log likelihood ratios that suffice: the surest exchanges are made first
TOGETHER = 25.0  # ratio that suffices for several exchanges at once, of which there are many to choose from
TRIES = 6  # exchanges an image at each step
FIT = 4  # rounds of alignment, and of its weights
ODD = 9.0  # usual deviations from which on a bone is set aside before the others are looked at
FITS = 8.0  # deviations of a bone that is at home
FEW = 10  # images of which half as much is believed as of many
ASIDE = 8  # bones set aside at most
TINY = 1e-9

Values = dict[str, np.ndarray]
Rows = np.ndarray | None


class Judged(NamedTuple):
    """What the set says of each image.

    ``bearing`` int[N, C]: the label, as drawn, of the bone that should be class c; c itself where all is right.
    ``place``, ``size`` float[N, C]: how far the bone that should be c is from what all the other bones let expect, in
    deviations usual for c and for the image; NaN where it is absent or too few others have it.
    """

    bearing: np.ndarray
    place: np.ndarray
    size: np.ndarray


def judge(bones: np.ndarray, groups: Sequence[str], start: np.ndarray, *, flip: bool) -> Judged:
    """Undoes exchanges of labels, and measures what then remains odd.

    The surest exchanges are undone first and all statistics drawn again, so that a wrong image does not speak against
    a right one, and a finger whose labels went to its neighbour comes back bone by bone.

    Args:
        bones: float[N, C, 6] as `look.Look.bones`.
        groups: patient of each image.
        start: int[N, C], a first guess of the bearing.
        flip: images may show either side mirrored, as left and right hands do.
    """
    if len(set(groups)) < PATIENTS:
        groups = [str(image) for image in range(len(groups))]
    numbers = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    fold = np.array([numbers[group] % FOLDS for group in groups])
    values, bearing = align(bones, flip=flip), start.copy()
    count, classes = bearing.shape
    for step in STEPS:
        for _ in range(TRIES):
            borne = {kind: np.take_along_axis(values[kind], bearing[..., None], axis=1) for kind in KINDS}
            ratios = sum(_each(borne[kind], fold, SHRINK[kind], exchange_ratios) for kind in KINDS)
            flat = np.nan_to_num(np.asarray(ratios)).reshape(count, -1)
            sure = np.flatnonzero(flat.max(axis=1) > step)
            if not len(sure):
                break
            for i in sure:
                pair = list(divmod(int(flat[i].argmax()), classes))
                bearing[i, pair] = bearing[i, pair[::-1]]
    for _ in range(TRIES):
        if not _exchange_together(values, bearing, fold):
            break
    for _ in range(2):
        borne = {kind: np.take_along_axis(values[kind], bearing[..., None], axis=1) for kind in KINDS}
        place, size = (_odd(borne[kind], fold, SHRINK[kind]) for kind in ("place", "size"))
        strange = np.fmax(place, size) > FITS
        for row, odd in zip(bearing, strange, strict=True):  # exchanged, and still not at home: something else is wrong
            for cycle in cycles(row):
                if odd[cycle].any():
                    row[cycle] = cycle
    return Judged(bearing, place, size)


def _exchange_together(values: Values, bearing: np.ndarray, fold: np.ndarray) -> int:
    """Undoes exchanges of several bones each, such as two fingers', in place; returns in how many images."""
    borne = {kind: np.take_along_axis(values[kind], bearing[..., None], axis=1) for kind in KINDS}
    energy = np.nansum([np.nansum(_each(borne[kind], fold, SHRINK[kind], energies), axis=1) for kind in KINDS], axis=0)
    # an exchange cannot gain more than makes the image as likely as any
    odd = np.flatnonzero((energy - np.quantile(energy, 0.1)) / 2 > TOGETHER)
    changed = 0
    standing = (_standing(borne[kind], fold, SHRINK[kind], odd) for kind in KINDS)
    for one in zip(*standing, strict=True):
        i, there = one[0][:2]
        bones = np.flatnonzero(there)
        gain, pairs = best_exchanges([(rest, inverse, mean) for _, _, rest, inverse, mean in one])
        if gain > TOGETHER and len(pairs) > 1:
            for a, b in bones[pairs]:
                bearing[i, [a, b]] = bearing[i, [b, a]]
            changed += 1
    return changed


def cycles(bearing: np.ndarray) -> list[list[int]]:
    """Classes of int[C] whose labels change among themselves.

    >>> cycles(np.array([1, 0, 2, 4, 5, 3]))
    [[0, 1], [3, 4, 5]]
    """
    left, found = {c: int(label) for c, label in enumerate(bearing) if label != c}, []
    while left:
        cycle = [next(iter(left))]
        while (after := left.pop(cycle[-1])) != cycle[0]:
            cycle.append(after)
        found.append(cycle)
    return found


def align(bones: np.ndarray, *, flip: bool) -> Values:
    """Places float[N, C, 2], log areas float[N, C, 1] and shapes float[N, C, 2] in the frame of a usual image.

    A shape is a bone's direction, its angle doubled, as long as the bone is elongated.
    """
    x, y, area, xx, yy, xy = np.moveaxis(bones, -1, 0)
    place = x + 1j * y
    shape = np.empty_like(place)  # by parts: a complex quotient warns of NaN
    shape.real, shape.imag = (xx - yy) / (xx + yy + TINY), 2 * xy / (xx + yy + TINY)
    usual = place[np.isfinite(place).sum(axis=1).argmax()]
    for _ in range(FIT):
        moved, factor, misfit = _onto(usual, place)
        mirrored = np.zeros(len(place), bool)
        if flip:
            other, other_factor, other_misfit = _onto(usual, -place.conj())
            mirrored = other_misfit < misfit
            moved[mirrored], factor[mirrored] = other[mirrored], other_factor[mirrored]
        usual = median(moved.real) + 1j * median(moved.imag)
    shape = np.where(mirrored[:, None], shape.conj(), shape) * np.exp(2j * np.angle(factor))[:, None]
    size = np.log(np.maximum(area, TINY))
    size = size - median((size - median(size)).T)[:, None]
    return {
        "place": np.stack([moved.real, moved.imag], axis=-1),
        "size": size[..., None],
        "shape": np.stack([shape.real, shape.imag], axis=-1),
    }


def _onto(usual: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places complex[N, C] moved, turned and scaled onto usual ones complex[C], outliers forgiven.

    Returns:
        The moved places, the factors complex[N], and the median distance that remains float[N].
    """
    common = np.isfinite(usual) & np.isfinite(place)
    p, z, weight = np.where(common, place, 0), np.where(common, usual, 0), common.astype(float)
    for _ in range(FIT):
        total = np.maximum(weight.sum(axis=1, keepdims=True), TINY)
        middle_p, middle_z = (weight * p).sum(1, keepdims=True) / total, (weight * z).sum(1, keepdims=True) / total
        a, b = p - middle_p, z - middle_z
        factor = (weight * a.conj() * b).sum(1) / np.maximum((weight * np.abs(a) ** 2).sum(1), TINY**2)
        moved = (place - middle_p) * factor[:, None] + middle_z
        rest = np.where(common, np.abs(moved - usual), np.nan)
        misfit = np.nan_to_num(median(rest.T), nan=np.inf)
        weight = np.where(common, 1 / (1 + (np.nan_to_num(rest) / (2 * misfit[:, None] + TINY)) ** 2), 0)
    return moved, factor, misfit


def _odd(values: np.ndarray, fold: np.ndarray, shrink: float) -> np.ndarray:
    """float[N, C]: usual deviations, the worst bone of an image set aside before its neighbours are judged."""
    told = _each(values, fold, shrink, deviations)
    usual = np.fmax(median(told), TINY)
    found, left, rows = np.full(told.shape, np.nan), values.copy(), np.arange(len(values))
    for _ in range(ASIDE):
        now = told[rows] / usual
        now *= len(values) / (len(values) + FEW) / np.fmax(median(now.T), 1)[:, None]  # odd images tell less
        found[rows] = np.where(np.isfinite(now), now, found[rows])
        high, worst = np.nan_to_num(now).max(axis=1) > ODD, np.nan_to_num(now).argmax(axis=1)
        rows = rows[high]
        if not len(rows):
            break
        left[rows, worst[high]] = np.nan
        told = _each(left, fold, shrink, deviations, rows)
    return found


def _each(values: np.ndarray, fold: np.ndarray, shrink: float, measure: Measure, only: Rows = None) -> np.ndarray:
    """A measure of each image, by the statistics of the other folds; NaN where bones are absent."""
    result: np.ndarray | None = None
    for i, there, rest, inverse, mean in _standing(values, fold, shrink, only):
        told = measure(rest, inverse, mean)
        if result is None:
            result = np.full((len(values), *(values.shape[1] for _ in told.shape)), np.nan)
        result[i][np.ix_(*(there for _ in told.shape))] = told
    assert result is not None
    return result


def _standing(
    values: np.ndarray, fold: np.ndarray, shrink: float, only: Rows = None
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Each image, which bones are there bool[C], and of these the rest, inverse and mean of `exchange_ratios`."""
    k = values.shape[2]
    for number in np.unique(fold):
        rows = np.flatnonzero(fold == number)
        rows = rows if only is None else np.intersect1d(rows, only)
        if not len(rows):
            continue
        model = fit(values[fold != number], shrink)
        inverses: dict[bytes, np.ndarray] = {}
        for i in rows:
            there = np.isfinite(values[i] + model.mean).all(axis=1)
            bones = int(there.sum())
            if there.tobytes() not in inverses:
                part = model.covariance[there][:, :, there].reshape(bones * k, bones * k)
                inverses[there.tobytes()] = np.linalg.inv(part).reshape(bones, k, bones, k)
            yield int(i), there, (values[i] - model.mean)[there], inverses[there.tobytes()], model.mean[there]
