"""Bones in the wrong place, of the wrong size or under the wrong label, told by the other images' geometry.

Nothing here knows hands: each image is compared with those whose bones lie most like its own after a similarity
transform (Procrustes), mirrored ones included. Neighbours instead of one mean let groups of poses stand side by
side, such as upright and deviated wrists, without either being an outlier.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

REFERENCES = 200  # images compared with, drawn at random: enough for neighbours, and the cost stays linear
NEIGHBOURS = 12
FEWEST = 8  # images below which nothing can be said
COMMON = 4  # classes two images must share to be aligned
TURN = np.deg2rad(60)  # most that an image may be turned against another
CLEAR = 4.0  # deviations by which a label must be wrong, and by which the new one must be less wrong
MIRRORED = 0.4  # an image whose misfit falls below this share when left and right change places is mislabelled
CAP = 30.0  # deviations beyond which one is as wrong as any


class Places(NamedTuple):
    """What the neighbours of each image expect of it; lengths in units of the image's own hand or jaw.

    ``place`` complex[N, C], ``area`` float[N, C] (log), NaN where neighbours do not have the class; ``own_place``
    and ``own_area`` likewise. ``place_scale``, ``area_scale`` float[N, C]: one deviation. ``misfit`` float[N]: the
    image's median deviation. ``growth`` float[N]: log of its size against the others'. ``mirrored`` bool[N]: fits
    far better with all left-right partners exchanged.
    """

    own_place: np.ndarray
    own_area: np.ndarray
    place: np.ndarray
    area: np.ndarray
    place_scale: np.ndarray
    area_scale: np.ndarray
    misfit: np.ndarray
    growth: np.ndarray
    mirrored: np.ndarray

    def deviations(self, image: int) -> np.ndarray:
        """float[C, C]: how many deviations bone a of the image lies from what is expected of class b."""
        apart = np.abs(self.own_place[image][:, None] - self.place[image]) / self.place_scale[image]
        size = np.abs(self.own_area[image][:, None] - self.area[image]) / self.area_scale[image]
        return np.hypot(apart, size / 2)  # sizes tell less than places


def expect(bones: np.ndarray, swap: Sequence[tuple[int, int]], seed: int = 0) -> Places:
    """Compares each image with its nearest neighbours.

    Args:
        bones: float[N, C, 3], centroid x, y and area; NaN where absent.
        swap: left-right partners that a mirror exchanges.
    """
    count, classes = bones.shape[:2]
    points = bones[..., 0] + 1j * bones[..., 1]
    with np.errstate(divide="ignore"):
        sizes = np.log(bones[..., 2])
    partner = np.arange(classes)
    for a, b in swap:
        partner[a], partner[b] = b, a
    drawn = np.random.default_rng(seed).permutation(count)[: REFERENCES + 1]
    expected = np.full((count, classes), np.nan + 0j)
    areas, spread = np.full((count, classes), np.nan), np.full((count, classes), np.nan)
    growth, mirrored = np.full(count, np.nan), np.zeros(count, bool)
    for image in range(count):
        others = drawn[drawn != image][:REFERENCES]
        # a mirrored image is as good a reference, its left-right classes exchanged
        p = np.concatenate([points[others], -points[others][:, partner].conj()])
        q = np.concatenate([sizes[others], sizes[others][:, partner]])
        aligned, shift, apart = align(p, points[image])
        order = np.argsort(apart)[:NEIGHBOURS]
        order = order[np.isfinite(apart[order])]
        if len(order) < FEWEST // 2:
            continue
        growth[image] = np.median(shift[np.isfinite(apart)]) / 2
        if swap:
            exchanged = np.sort(align(p, points[image, partner])[2])[:NEIGHBOURS]
            mirrored[image] = np.median(exchanged) < MIRRORED * np.median(apart[order])
        near, size = aligned[order], q[order] + shift[order, None]
        enough = np.isfinite(near).sum(axis=0) >= FEWEST // 2
        expected[image, enough] = _median(near.real[:, enough]) + 1j * _median(near.imag[:, enough])
        areas[image, enough] = _median(size[:, enough])
        spread[image, enough] = _median(np.abs(near[:, enough] - expected[image, enough]))
    return _scaled(points, sizes, expected, areas, spread)._replace(growth=growth, mirrored=mirrored)


def align(references: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """References moved, turned and scaled onto an image, by least squares that forgive outliers.

    Args:
        references: complex[R, C], x + iy of each class. points: complex[C]. NaN where absent.

    Returns:
        The moved references complex[R, C], the log of their areas' change float[R], and how far they remain
        from the image float[R]: the median over common classes, infinite where those are too few.
    """
    common = np.isfinite(references) & np.isfinite(points)
    p, z = np.where(common, references, 0), np.where(common, points, 0)
    weight = common.astype(float)
    need = max(COMMON, int(np.isfinite(points).sum()) // 2)
    usable = common.sum(axis=1) >= need
    for _ in range(4):
        total = np.maximum(weight.sum(axis=1, keepdims=True), 1e-9)
        middle_p, middle_z = (weight * p).sum(1, keepdims=True) / total, (weight * z).sum(1, keepdims=True) / total
        a, b = p - middle_p, z - middle_z
        factor = (weight * a.conj() * b).sum(1) / np.maximum((weight * np.abs(a) ** 2).sum(1), 1e-12)
        factor = np.abs(factor) * np.exp(1j * np.clip(np.angle(factor), -TURN, TURN))
        moved = (references - middle_p) * factor[:, None] + middle_z
        rest = np.where(common, np.abs(moved - points), np.nan)
        usual = np.full(len(references), np.inf)
        usual[usable] = np.nanmedian(rest[usable], axis=1)
        weight = np.where(common, 1 / (1 + (np.nan_to_num(rest) / (2 * usual[:, None] + 1e-9)) ** 2), 0)
    with np.errstate(divide="ignore"):
        return moved, 2 * np.log(np.abs(factor)), usual


def _scaled(
    points: np.ndarray, sizes: np.ndarray, expected: np.ndarray, areas: np.ndarray, spread: np.ndarray
) -> Places:
    """Deviations are those usual for the class, wider where the neighbours or the whole image do not fit well."""
    apart, size = np.abs(points - expected), np.abs(sizes - areas)
    usual_apart, usual_size = _median(apart), _median(size)
    floor = np.nanmedian(usual_apart) if np.isfinite(usual_apart).any() else 1e-3
    usual_apart = np.fmax(np.where(np.isfinite(usual_apart), usual_apart, floor), floor / 2)
    usual_size = np.fmax(np.where(np.isfinite(usual_size), usual_size, 0.1), 0.03)
    place_scale = np.fmax(usual_apart, spread)
    misfit = np.full(len(points), np.nan)
    some = np.isfinite(apart).any(axis=1)
    misfit[some] = np.nanmedian((apart / place_scale)[some], axis=1)
    worse = np.fmax(misfit, 1)[:, None]
    return Places(
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
    """Labels that should change: the class a bone bears -> the class in whose place it lies.

    The best assignment of bones to places (Hungarian method), kept where it is clear: the bone is far from where its
    label belongs and near where the other does.

    Args:
        deviations: float[C, C], bone a against class b; NaN where either is not there.

    >>> d = np.array([[9.0, 1.0, 20.0], [1.0, 9.0, 20.0], [20.0, 20.0, 1.0]])
    >>> relabel(d)
    {0: 1, 1: 0}
    """
    there = np.flatnonzero(np.isfinite(deviations).any(axis=1))
    if not len(there):
        return {}
    cost = np.minimum(np.where(np.isfinite(deviations), deviations, CAP), CAP)
    rows, columns = linear_sum_assignment(cost[there] ** 2)
    found = {}
    for a, b in zip(there[rows], columns, strict=True):
        old, new = cost[a, a], cost[a, b]
        if a != b and np.isfinite(deviations[a, a]) and old > CLEAR and new < CLEAR and old > new + CLEAR:
            found[int(a)] = int(b)
    return found


def _median(values: np.ndarray) -> np.ndarray:
    """float[C]: median over images, NaN for classes that no image has."""
    middle = np.full(values.shape[1], np.nan)
    some = np.isfinite(values).any(axis=0)
    middle[some] = np.nanmedian(values[:, some], axis=0)
    return middle
