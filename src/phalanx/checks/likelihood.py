"""Finds swapped labels and misplaced bones by the joint likelihood of the bones' places, sizes and shapes.

After a similarity transform these are modelled as normally distributed. The covariance captures how bones move
together: an unusual pose is accepted, a bone that contradicts all others is not. Patients are assessed by the
statistics of other patients only, in ten folds.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .normal import Measure, best_swaps, deviations, energies, fit, median, swap_ratios

FOLDS = 10
MIN_PATIENTS = 4  # with fewer, each image is assessed by all other images
KINDS = ("place", "size", "shape")
SHRINKAGE = {"place": 0.15, "size": 0.3, "shape": 0.3}  # of correlations, which need many images
MIN_RATIOS = (300.0, 100.0, 40.0, 20.0, 12.0)  # log likelihood ratios, the most certain swaps first
MIN_JOINT_RATIO = 25.0  # for several swaps at once, of which there are many
MAX_SWAPS = 6  # per image and ratio
ALIGN_ROUNDS = 4  # of alignment, and of its weights
MIN_OUTLIER = 9.0  # usual deviations from which a bone is set aside before others are measured
MAX_FITTING = 8.0  # deviations of a bone in its place
HALF_TRUST = 10  # number of images at which deviations count half
MAX_SET_ASIDE = 8  # bones
TINY = 1e-9

Values = dict[str, np.ndarray]
Rows = np.ndarray | None


class Assessment(NamedTuple):
    """The corrected labels of each image, and how unusual its bones are.

    Attributes:
        labels: int[N, C], the annotated label of the bone that should be class c; c itself if it is right.
        place: float[N, C], distance of the bone that should be c from its prediction by all other bones, in deviations
            usual for c and for the image; NaN if it is absent or too few other images have it.
        size: float[N, C], likewise.
    """

    labels: np.ndarray
    place: np.ndarray
    size: np.ndarray


def assess(bones: np.ndarray, groups: Sequence[str], start: np.ndarray, *, flip: bool) -> Assessment:
    """Undoes swaps of labels, and measures how unusual the bones then are.

    The most certain swaps are undone first and all statistics computed again, so that wrong images do not distort
    them, and a finger labelled as its neighbour is corrected bone by bone.

    Args:
        bones: float[N, C, 6] as `inspection.Look.bones`.
        groups: patient of each image.
        start: int[N, C], initial labels.
        flip: images may show either side mirrored, as left and right hands do.
    """
    if len(set(groups)) < MIN_PATIENTS:
        groups = [str(image) for image in range(len(groups))]
    numbers = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    fold = np.array([numbers[group] % FOLDS for group in groups])
    values, labels = align(bones, flip=flip), start.copy()
    count, classes = labels.shape
    for step in MIN_RATIOS:
        for _ in range(MAX_SWAPS):
            relabelled = {kind: np.take_along_axis(values[kind], labels[..., None], axis=1) for kind in KINDS}
            ratios = sum(_measure_each(relabelled[kind], fold, SHRINKAGE[kind], swap_ratios) for kind in KINDS)
            flat = np.nan_to_num(np.asarray(ratios)).reshape(count, -1)
            certain = np.flatnonzero(flat.max(axis=1) > step)
            if not len(certain):
                break
            for i in certain:
                pair = list(divmod(int(flat[i].argmax()), classes))
                labels[i, pair] = labels[i, pair[::-1]]
    for _ in range(MAX_SWAPS):
        if not _swap_together(values, labels, fold):
            break
    for _ in range(2):
        relabelled = {kind: np.take_along_axis(values[kind], labels[..., None], axis=1) for kind in KINDS}
        place, size = (_outliers(relabelled[kind], fold, SHRINKAGE[kind]) for kind in ("place", "size"))
        strange = np.fmax(place, size) > MAX_FITTING
        for row, odd in zip(labels, strange, strict=True):  # swapped and still out of place: something else is wrong
            for cycle in cycles(row):
                if odd[cycle].any():
                    row[cycle] = cycle
    return Assessment(labels, place, size)


def _swap_together(values: Values, labels: np.ndarray, fold: np.ndarray) -> int:
    """Undoes swaps of several bones, such as of two fingers, in place; returns the number of images changed."""
    relabelled = {kind: np.take_along_axis(values[kind], labels[..., None], axis=1) for kind in KINDS}
    energy = np.nansum(
        [np.nansum(_measure_each(relabelled[kind], fold, SHRINKAGE[kind], energies), axis=1) for kind in KINDS], axis=0
    )
    # a swap cannot make an image more likely than the best ones
    odd = np.flatnonzero((energy - np.quantile(energy, 0.1)) / 2 > MIN_JOINT_RATIO)
    changed = 0
    images = (_present_bones(relabelled[kind], fold, SHRINKAGE[kind], odd) for kind in KINDS)
    for one in zip(*images, strict=True):
        i, present = one[0][:2]
        bones = np.flatnonzero(present)
        gain, pairs = best_swaps([(rest, inverse, mean) for _, _, rest, inverse, mean in one])
        if gain > MIN_JOINT_RATIO and len(pairs) > 1:
            for a, b in bones[pairs]:
                labels[i, [a, b]] = labels[i, [b, a]]
            changed += 1
    return changed


def cycles(labels: np.ndarray) -> list[list[int]]:
    """Returns the cycles of int[C]: classes whose labels are permuted among themselves.

    >>> cycles(np.array([1, 0, 2, 4, 5, 3]))
    [[0, 1], [3, 4, 5]]
    """
    left, found = {c: int(label) for c, label in enumerate(labels) if label != c}, []
    while left:
        cycle = [next(iter(left))]
        while (after := left.pop(cycle[-1])) != cycle[0]:
            cycle.append(after)
        found.append(cycle)
    return found


def align(bones: np.ndarray, *, flip: bool) -> Values:
    """Returns places float[N, C, 2], log areas float[N, C, 1] and shapes float[N, C, 2] in a common frame.

    A shape is a vector of twice a bone's angle, as long as the bone is elongated.
    """
    x, y, area, xx, yy, xy = np.moveaxis(bones, -1, 0)
    place = x + 1j * y
    shape = np.empty_like(place)  # by parts: complex division warns about NaN
    shape.real, shape.imag = (xx - yy) / (xx + yy + TINY), 2 * xy / (xx + yy + TINY)
    usual = place[np.isfinite(place).sum(axis=1).argmax()]
    for _ in range(ALIGN_ROUNDS):
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
    """Aligns places complex[N, C] to usual ones complex[C], robust to outliers.

    Returns:
        The aligned places, the factors (rotation and scale) complex[N], and the remaining median distance float[N].
    """
    common = np.isfinite(usual) & np.isfinite(place)
    p, z, weight = np.where(common, place, 0), np.where(common, usual, 0), common.astype(float)
    for _ in range(ALIGN_ROUNDS):
        total = np.maximum(weight.sum(axis=1, keepdims=True), TINY)
        middle_p, middle_z = (weight * p).sum(1, keepdims=True) / total, (weight * z).sum(1, keepdims=True) / total
        a, b = p - middle_p, z - middle_z
        factor = (weight * a.conj() * b).sum(1) / np.maximum((weight * np.abs(a) ** 2).sum(1), TINY**2)
        moved = (place - middle_p) * factor[:, None] + middle_z
        rest = np.where(common, np.abs(moved - usual), np.nan)
        misfit = np.nan_to_num(median(rest.T), nan=np.inf)
        weight = np.where(common, 1 / (1 + (np.nan_to_num(rest) / (2 * misfit[:, None] + TINY)) ** 2), 0)
    return moved, factor, misfit


def _outliers(values: np.ndarray, fold: np.ndarray, shrink: float) -> np.ndarray:
    """Returns deviations float[N, C], with the worst bones of an image set aside before its others are measured."""
    measured = _measure_each(values, fold, shrink, deviations)
    usual = np.fmax(median(measured), TINY)
    found, left, rows = np.full(measured.shape, np.nan), values.copy(), np.arange(len(values))
    for _ in range(MAX_SET_ASIDE):
        now = measured[rows] / usual
        now *= (
            len(values) / (len(values) + HALF_TRUST) / np.fmax(median(now.T), 1)[:, None]
        )  # unusual images inform less
        found[rows] = np.where(np.isfinite(now), now, found[rows])
        high, worst = np.nan_to_num(now).max(axis=1) > MIN_OUTLIER, np.nan_to_num(now).argmax(axis=1)
        rows = rows[high]
        if not len(rows):
            break
        left[rows, worst[high]] = np.nan
        measured = _measure_each(left, fold, shrink, deviations, rows)
    return found


def _measure_each(
    values: np.ndarray, fold: np.ndarray, shrink: float, measure: Measure, only: Rows = None
) -> np.ndarray:
    """Returns a measure of each image by the statistics of the other folds; NaN if bones are absent."""
    result: np.ndarray | None = None
    for i, present, rest, inverse, mean in _present_bones(values, fold, shrink, only):
        measured = measure(rest, inverse, mean)
        if result is None:
            result = np.full((len(values), *(values.shape[1] for _ in measured.shape)), np.nan)
        result[i][np.ix_(*(present for _ in measured.shape))] = measured
    assert result is not None
    return result


def _present_bones(
    values: np.ndarray, fold: np.ndarray, shrink: float, only: Rows = None
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Yields each image, its bones bool[C], and their rest, inverse and mean (see `normal.py`)."""
    k = values.shape[2]
    for number in np.unique(fold):
        rows = np.flatnonzero(fold == number)
        rows = rows if only is None else np.intersect1d(rows, only)
        if not len(rows):
            continue
        model = fit(values[fold != number], shrink)
        inverses: dict[bytes, np.ndarray] = {}
        for i in rows:
            present = np.isfinite(values[i] + model.mean).all(axis=1)
            bones = int(present.sum())
            if present.tobytes() not in inverses:
                part = model.covariance[present][:, :, present].reshape(bones * k, bones * k)
                inverses[present.tobytes()] = np.linalg.inv(part).reshape(bones, k, bones, k)
            yield (
                int(i),
                present,
                (values[i] - model.mean)[present],
                inverses[present.tobytes()],
                model.mean[present],
            )
