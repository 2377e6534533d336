"""Expected places and sizes of bones, from the geometry of the most similar images.

This holds for any anatomy: each image is compared with its nearest neighbours after a similarity transform
(Procrustes), mirrored images included. With neighbours instead of one mean, no group of poses is an outlier, such as
upright and deviated wrists.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .normal import median

MAX_REFERENCES = 200  # images to compare with, drawn at random, so that the cost stays linear
NEIGHBOURS = 12
MIN_IMAGES = 8  # below so many, images are not compared
MIN_COMMON = 4  # classes that two images must share to be aligned
MAX_ROTATION = np.deg2rad(60)  # between two images
MIN_DEVIATIONS = 4.0  # by which a label must be wrong, and a new one better
MAX_MIRRORED = 0.4  # fraction of the misfit that remains if left and right are mislabelled
MAX_DEVIATIONS = 30.0  # cost of a label is capped here


class Expected(NamedTuple):
    """Each image's bones and what its neighbours predict; lengths in units of the image's own hand or jaw.

    Attributes:
        own_place: complex[N, C], centroids; NaN if absent.
        own_area: float[N, C], log areas; NaN if absent.
        place: complex[N, C], predicted centroids; NaN if the neighbours lack the class.
        area: float[N, C], predicted log areas, likewise.
        place_scale: float[N, C], one deviation of a centroid.
        area_scale: float[N, C], one deviation of a log area.
        misfit: float[N], the image's median deviation.
        log_scale: float[N], log of the image's size relative to the others.
        mirrored: bool[N], fits far better with all left-right partners swapped.
    """

    own_place: np.ndarray
    own_area: np.ndarray
    place: np.ndarray
    area: np.ndarray
    place_scale: np.ndarray
    area_scale: np.ndarray
    misfit: np.ndarray
    log_scale: np.ndarray
    mirrored: np.ndarray

    def deviations(self, image: int) -> np.ndarray:
        """Returns float[C, C]: deviations between bone a of the image and what is expected of class b."""
        apart = np.abs(self.own_place[image][:, None] - self.place[image]) / self.place_scale[image]
        size = np.abs(self.own_area[image][:, None] - self.area[image]) / self.area_scale[image]
        return np.hypot(apart, size / 2)  # sizes are less specific than places


def expect(bones: np.ndarray, swap: Sequence[tuple[int, int]], seed: int = 0) -> Expected:
    """Returns what its nearest neighbours predict for each image.

    Args:
        bones: float[N, C, 3], centroid x, y and area; NaN if absent.
        swap: left-right partners that a mirror swaps.
    """
    count, classes = bones.shape[:2]
    points = bones[..., 0] + 1j * bones[..., 1]
    with np.errstate(divide="ignore"):
        sizes = np.log(bones[..., 2])
    partner = np.arange(classes)
    for a, b in swap:
        partner[a], partner[b] = b, a
    drawn = np.random.default_rng(seed).permutation(count)[: MAX_REFERENCES + 1]
    expected = np.full((count, classes), np.nan + 0j)
    areas, spread = np.full((count, classes), np.nan), np.full((count, classes), np.nan)
    log_scale, mirrored = np.full(count, np.nan), np.zeros(count, bool)
    for image in range(count):
        others = drawn[drawn != image][:MAX_REFERENCES]
        # a mirrored image is as good a reference, with left-right classes swapped
        p = np.concatenate([points[others], -points[others][:, partner].conj()])
        q = np.concatenate([sizes[others], sizes[others][:, partner]])
        aligned, shift, apart = align(p, points[image])
        order = np.argsort(apart)[:NEIGHBOURS]
        order = order[np.isfinite(apart[order])]
        if len(order) < MIN_IMAGES // 2:
            continue
        log_scale[image] = np.median(shift[np.isfinite(apart)]) / 2
        if swap:
            swapped = np.sort(align(p, points[image, partner])[2])[:NEIGHBOURS]
            mirrored[image] = np.median(swapped) < MAX_MIRRORED * np.median(apart[order])
        near, size = aligned[order], q[order] + shift[order, None]
        enough = np.isfinite(near).sum(axis=0) >= MIN_IMAGES // 2
        expected[image, enough] = median(near.real[:, enough]) + 1j * median(near.imag[:, enough])
        areas[image, enough] = median(size[:, enough])
        spread[image, enough] = median(np.abs(near[:, enough] - expected[image, enough]))
    return _scaled(points, sizes, expected, areas, spread)._replace(log_scale=log_scale, mirrored=mirrored)


def align(references: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Aligns references to an image by translation, rotation and scale, with robust least squares.

    Args:
        references: complex[R, C], x + iy of each class; NaN if absent.
        points: complex[C], the image's, likewise.

    Returns:
        The aligned references complex[R, C]; the log change of their areas float[R]; the remaining distance
        float[R], the median over common classes, infinite if those are too few.
    """
    common = np.isfinite(references) & np.isfinite(points)
    p, z = np.where(common, references, 0), np.where(common, points, 0)
    weight = common.astype(float)
    need = max(MIN_COMMON, int(np.isfinite(points).sum()) // 2)
    usable = common.sum(axis=1) >= need
    for _ in range(4):
        total = np.maximum(weight.sum(axis=1, keepdims=True), 1e-9)
        middle_p, middle_z = (weight * p).sum(1, keepdims=True) / total, (weight * z).sum(1, keepdims=True) / total
        a, b = p - middle_p, z - middle_z
        factor = (weight * a.conj() * b).sum(1) / np.maximum((weight * np.abs(a) ** 2).sum(1), 1e-12)
        factor = np.abs(factor) * np.exp(1j * np.clip(np.angle(factor), -MAX_ROTATION, MAX_ROTATION))
        moved = (references - middle_p) * factor[:, None] + middle_z
        rest = np.where(common, np.abs(moved - points), np.nan)
        usual = np.full(len(references), np.inf)
        usual[usable] = np.nanmedian(rest[usable], axis=1)
        weight = np.where(common, 1 / (1 + (np.nan_to_num(rest) / (2 * usual[:, None] + 1e-9)) ** 2), 0)
    with np.errstate(divide="ignore"):
        return moved, 2 * np.log(np.abs(factor)), usual


def _scaled(
    points: np.ndarray, sizes: np.ndarray, expected: np.ndarray, areas: np.ndarray, spread: np.ndarray
) -> Expected:
    """Returns deviations relative to those usual for the class, wider if neighbours or the whole image fit badly."""
    apart, size = np.abs(points - expected), np.abs(sizes - areas)
    usual_apart, usual_size = median(apart), median(size)
    floor = np.nanmedian(usual_apart) if np.isfinite(usual_apart).any() else 1e-3
    usual_apart = np.fmax(np.where(np.isfinite(usual_apart), usual_apart, floor), floor / 2)
    usual_size = np.fmax(np.where(np.isfinite(usual_size), usual_size, 0.1), 0.03)
    place_scale = np.fmax(usual_apart, spread)
    misfit = np.full(len(points), np.nan)
    some = np.isfinite(apart).any(axis=1)
    misfit[some] = np.nanmedian((apart / place_scale)[some], axis=1)
    worse = np.fmax(misfit, 1)[:, None]
    return Expected(
        points,
        sizes,
        expected,
        areas,
        place_scale * worse,
        usual_size * worse,
        misfit,
        misfit,
        np.zeros(len(points), bool),
    )


def relabel(deviations: np.ndarray) -> dict[int, int]:
    """Returns labels that should change: a bone's class -> the class whose place it has.

    This is the best assignment of bones to places (Hungarian method), as far as it is clear: the bone is far from the
    place of its label and near that of the other.

    Args:
        deviations: float[C, C], of bone a from class b; NaN if either is absent.

    >>> d = np.array([[9.0, 1.0, 20.0], [1.0, 9.0, 20.0], [20.0, 20.0, 1.0]])
    >>> relabel(d)
    {0: 1, 1: 0}
    """
    present = np.flatnonzero(np.isfinite(deviations).any(axis=1))
    if not len(present):
        return {}
    from scipy.optimize import linear_sum_assignment  # half a second, which labels have no use for

    cost = np.minimum(np.where(np.isfinite(deviations), deviations, MAX_DEVIATIONS), MAX_DEVIATIONS)
    rows, columns = linear_sum_assignment(cost[present] ** 2)
    found = {}
    for a, b in zip(present[rows], columns, strict=True):
        old, new = cost[a, a], cost[a, b]
        if (
            a != b
            and np.isfinite(deviations[a, a])
            and old > MIN_DEVIATIONS
            and new < MIN_DEVIATIONS
            and old > new + MIN_DEVIATIONS
        ):
            found[int(a)] = int(b)
    return found
