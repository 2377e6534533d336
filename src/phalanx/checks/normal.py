"""A normal distribution of the bones' places, sizes or shapes, and measures of one image under it.

All measures take, for the bones that are present: ``rest`` float[C, k], values minus means; ``inverse``
float[C, k, C, k], of the covariance; ``mean`` float[C, k].
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

MIN_DEVIATION = 0.15  # of a value, as a fraction of the median one
MIN_IMAGES = 3  # that have a class
MAX_SWAPS = 8  # pairs of bones swapped at once

Measure = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class NormalDistribution(NamedTuple):
    """Mean float[C, k] and covariance float[C, k, C, k]; means of unknown classes are NaN."""

    mean: np.ndarray
    covariance: np.ndarray


def fit(values: np.ndarray, shrink: float) -> NormalDistribution:
    """Fits a normal distribution to float[N, C, k].

    Args:
        shrink: fraction by which correlations are shrunk towards 0. Deviations have a lower bound.
    """
    count, classes, k = values.shape
    flat = values.reshape(count, classes * k)
    mean = np.where(np.isfinite(flat).sum(axis=0) >= MIN_IMAGES, median(flat), np.nan)
    present = np.isfinite(flat - mean)
    rest = np.where(present, flat - mean, 0)
    covariance = rest.T @ rest / np.maximum(present.T.astype(float) @ present, 1)
    if not present.all():  # pairs come from different images: clip negative eigenvalues
        own, axes = np.linalg.eigh(covariance)
        covariance = (axes * np.maximum(own, 0)) @ axes.T
    own = np.diag(covariance).copy()
    covariance *= 1 - shrink
    covariance[np.diag_indices(len(own))] = own + MIN_DEVIATION**2 * np.median(own[own > 0]) if (own > 0).any() else 1.0
    return NormalDistribution(mean.reshape(classes, k), covariance.reshape(classes, k, classes, k))


def swap_ratios(rest: np.ndarray, inverse: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Returns float[C, C]: log likelihood ratio of swapping bones a and b to leaving them."""
    x = rest + mean
    pull = np.einsum("aibj,bj->ai", inverse, rest)
    d = x[None] - x[:, None]  # change of a in the place of b
    own = np.einsum("aiaj->aij", inverse)
    both = own[:, None] + own[None] - inverse.transpose(0, 2, 1, 3) - inverse.transpose(2, 0, 3, 1)
    linear = np.einsum("abi,abi->ab", pull[:, None] - pull[None], d)
    return -linear - np.einsum("abi,abij,abj->ab", d, both, d) / 2


def energies(rest: np.ndarray, inverse: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Returns float[C]: each bone's part of the image's squared Mahalanobis distance."""
    return np.einsum("ai,aibj,bj->a", rest, inverse, rest, optimize=True)


def best_swaps(kinds: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> tuple[float, np.ndarray]:
    """Returns the swaps int[S, 2] of pairs of bones that together gain most log likelihood, and that gain.

    One bone of a finger does not fit better in the place of another finger's: only all of them do. So each pair is
    tried as the first at any cost, and others are added greedily: those with the largest gain, or that fit it best.

    Args:
        kinds: (rest, inverse, mean) of each kind of value.
    """
    pairs = np.stack(np.triu_indices(len(kinds[0][0]), 1), axis=1)
    if not len(pairs):
        return 0.0, pairs
    alone, together = _gains(kinds, pairs)
    clash = (pairs[:, None, :, None] == pairs[None, :, None, :]).any(axis=(2, 3))
    found, best = -np.inf, pairs[:0]
    for weight in (1.0, 0.0):
        rows = np.arange(len(pairs))
        chosen, total = [rows], alone.copy()
        fits = np.where(clash, -np.inf, together)
        for _ in range(MAX_SWAPS):
            if total.max() > found:
                first = int(total.argmax())
                found, best = float(total[first]), pairs[[which[first] for which in chosen]]
            added = (weight * alone + fits).argmax(axis=1)
            chosen.append(added)
            total = total + alone[added] + fits[rows, added]  # minus infinity once every bone has moved
            fits = np.where(clash[added], -np.inf, fits + together[added])
    return found, best


def _gains(
    kinds: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], pairs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the gain of swapping each pair float[M], and the extra gain of two swaps together float[M, M]."""
    a, b = pairs.T
    alone, together = np.zeros(len(a)), np.zeros((len(a), len(a)))
    for rest, inverse, mean in kinds:
        x = rest + mean
        d = x[b] - x[a]  # change of a; b changes by the opposite
        pull = np.einsum("aibj,bj->ai", inverse, rest)
        alone -= np.einsum("mi,mi->m", d, pull[a] - pull[b])
        moved = np.einsum("aimj,mj->aim", inverse[:, :, a] - inverse[:, :, b], d, optimize=True)
        together -= np.einsum("si,sit->st", d, moved[a] - moved[b], optimize=True)
    return alone + np.diag(together) / 2, together


def deviations(rest: np.ndarray, inverse: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Returns float[C]: distance of each bone from its prediction by all others, in deviations."""
    pull = np.einsum("aibj,bj->ai", inverse, rest)
    own = np.einsum("aiaj->aij", inverse)
    return np.sqrt(np.einsum("ai,ai->a", pull, np.linalg.solve(own, pull[..., None])[..., 0]))


def median(values: np.ndarray) -> np.ndarray:
    """Returns the median over the first axis, ignoring NaN; NaN if all are."""
    middle = np.full(values.shape[1:], np.nan)
    some = np.isfinite(values).any(axis=0)
    middle[some] = np.nanmedian(values[:, some], axis=0)
    return middle
