"""A normal distribution of what an image's bones are like, and what it says of one image.

All measures take, of the bones that are there: ``rest`` float[C, k], values less their means; ``inverse``
float[C, k, C, k], of the covariance; ``mean`` float[C, k].
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

FLOOR = 0.15  # least deviation of a value, of the median one
LEAST = 3  # images that tell of a class
MOST = 8  # pairs of bones exchanged at once

Measure = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class Model(NamedTuple):
    """A normal distribution: mean float[C, k] and covariance float[C, k, C, k]; NaN means for unknown classes."""

    mean: np.ndarray
    covariance: np.ndarray


def fit(values: np.ndarray, shrink: float) -> Model:
    """A normal distribution of float[N, C, k]; its correlations shrunk towards none, its deviations kept from 0."""
    count, classes, k = values.shape
    flat = values.reshape(count, classes * k)
    mean = np.where(np.isfinite(flat).sum(axis=0) >= LEAST, median(flat), np.nan)
    there = np.isfinite(flat - mean)
    rest = np.where(there, flat - mean, 0)
    covariance = rest.T @ rest / np.maximum(there.T.astype(float) @ there, 1)
    if not there.all():  # each pair comes from other images: what no distribution has is cut off
        own, axes = np.linalg.eigh(covariance)
        covariance = (axes * np.maximum(own, 0)) @ axes.T
    own = np.diag(covariance).copy()
    covariance *= 1 - shrink
    covariance[np.diag_indices(len(own))] = own + FLOOR**2 * np.median(own[own > 0]) if (own > 0).any() else 1.0
    return Model(mean.reshape(classes, k), covariance.reshape(classes, k, classes, k))


def exchange_ratios(rest: np.ndarray, inverse: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """float[C, C]: log likelihood ratio for bones a and b exchanged, against as they are."""
    x = rest + mean
    pull = np.einsum("aibj,bj->ai", inverse, rest)
    d = x[None] - x[:, None]  # what a would change by if it stood where b does
    own = np.einsum("aiaj->aij", inverse)
    both = own[:, None] + own[None] - inverse.transpose(0, 2, 1, 3) - inverse.transpose(2, 0, 3, 1)
    linear = np.einsum("abi,abi->ab", pull[:, None] - pull[None], d)
    return -linear - np.einsum("abi,abij,abj->ab", d, both, d) / 2


def energies(rest: np.ndarray, inverse: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """float[C]: each bone's part of the image's squared Mahalanobis distance."""
    return np.einsum("ai,aibj,bj->a", rest, inverse, rest, optimize=True)


def best_exchanges(kinds: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> tuple[float, np.ndarray]:
    """The exchanges int[S, 2] of pairs of bones that together gain most log likelihood, and that gain.

    One bone of a finger in another's place fits no better there: only all of them do. So each pair is tried as the
    first, whatever it costs, and others are added one by one: those that gain most, or that go best with it.

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
        for _ in range(MOST):
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
    """Gain of exchanging each pair float[M], and how much more two gain than both alone float[M, M]."""
    a, b = pairs.T
    alone, together = np.zeros(len(a)), np.zeros((len(a), len(a)))
    for rest, inverse, mean in kinds:
        x = rest + mean
        d = x[b] - x[a]  # what a changes by; b changes by as much the other way
        pull = np.einsum("aibj,bj->ai", inverse, rest)
        alone -= np.einsum("mi,mi->m", d, pull[a] - pull[b])
        moved = np.einsum("aimj,mj->aim", inverse[:, :, a] - inverse[:, :, b], d, optimize=True)
        together -= np.einsum("si,sit->st", d, moved[a] - moved[b], optimize=True)
    return alone + np.diag(together) / 2, together


def deviations(rest: np.ndarray, inverse: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """float[C]: how far each bone lies from what all the others let expect, in deviations."""
    pull = np.einsum("aibj,bj->ai", inverse, rest)
    own = np.einsum("aiaj->aij", inverse)
    return np.sqrt(np.einsum("ai,ai->a", pull, np.linalg.solve(own, pull[..., None])[..., 0]))


def median(values: np.ndarray) -> np.ndarray:
    """Median over the first axis, NaN where nothing is known."""
    middle = np.full(values.shape[1:], np.nan)
    some = np.isfinite(values).any(axis=0)
    middle[some] = np.nanmedian(values[:, some], axis=0)
    return middle
