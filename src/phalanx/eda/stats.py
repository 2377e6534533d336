"""Effect sizes, correlations and the linear regression, each with a 95% interval. Pure functions of numpy arrays."""

import math
from typing import NamedTuple

import numpy as np

Z = 1.959964  # standard deviations on either side that contain 95% of a normal distribution


class Effect(NamedTuple):
    """An estimate and the ends of its 95% interval; NaN if it cannot be estimated."""

    value: float
    low: float
    high: float


UNKNOWN = Effect(math.nan, math.nan, math.nan)


def cohens_d(a: np.ndarray, b: np.ndarray) -> Effect:
    """Returns the mean of b minus that of a in pooled standard deviations (Cohen, 1988).

    The interval is that of Hedges and Olkin (1985).

    >>> round(cohens_d(np.array([1.0, 2, 3]), np.array([2.0, 3, 4])).value, 6)
    1.0
    """
    a, b = a[np.isfinite(a)], b[np.isfinite(b)]
    n, m = len(a), len(b)
    if min(n, m) < 2:
        return UNKNOWN
    pooled = math.sqrt(((n - 1) * a.var(ddof=1) + (m - 1) * b.var(ddof=1)) / (n + m - 2))
    if not pooled:
        return UNKNOWN
    d = float((b.mean() - a.mean()) / pooled)
    error = math.sqrt((n + m) / (n * m) + d * d / (2 * (n + m)))
    return Effect(d, d - Z * error, d + Z * error)


def wilson(hits: int, count: int) -> Effect:
    """Returns a proportion and its interval (Wilson, 1927), which stays within 0 and 1 for rare events too."""
    if not count:
        return UNKNOWN
    proportion, z2 = hits / count, Z * Z
    middle = (proportion + z2 / (2 * count)) / (1 + z2 / count)
    half = Z / (1 + z2 / count) * math.sqrt(proportion * (1 - proportion) / count + z2 / (4 * count * count))
    return Effect(proportion, max(0.0, middle - half), min(1.0, middle + half))


def proportion_difference(hits_a: int, count_a: int, hits_b: int, count_b: int) -> Effect:
    """Returns the proportion of b minus that of a, with an interval from Wilson's (Newcombe, 1998).

    >>> tuple(round(x, 4) for x in proportion_difference(48, 80, 56, 70))  # Newcombe's example, method 10
    (0.2, 0.0524, 0.3339)
    """
    a, b = wilson(hits_a, count_a), wilson(hits_b, count_b)
    difference = b.value - a.value
    low = difference - math.hypot(b.value - b.low, a.high - a.value)
    return Effect(difference, low, difference + math.hypot(b.high - b.value, a.value - a.low))


def correlation(x: np.ndarray, y: np.ndarray) -> Effect:
    """Returns Pearson's r over the rows with both values, with Fisher's interval."""
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if len(x) < 4 or not x.std() or not y.std():
        return UNKNOWN
    r = float(np.clip(np.corrcoef(x, y)[0, 1], -1, 1))
    if abs(r) == 1:
        return Effect(r, r, r)
    half = Z / math.sqrt(len(x) - 3)
    return Effect(r, math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half))


def regression(factors: dict[str, np.ndarray], target: np.ndarray) -> tuple[dict[str, Effect], float, int]:
    """Fits the target to all factors jointly by least squares, everything in standard deviations.

    Returns:
        The coefficient of each factor that varies, R squared, and the number of complete rows.
    """
    known = np.isfinite(target) & np.all([np.isfinite(column) for column in factors.values()], axis=0)
    used = {name: column[known] for name, column in factors.items() if known.any() and column[known].std()}
    y = target[known]
    freedom = len(y) - len(used) - 1
    if not used or freedom < 1 or not y.std():
        return {}, math.nan, len(y)
    design = np.stack([(column - column.mean()) / column.std() for column in used.values()], axis=1)
    y = (y - y.mean()) / y.std()
    coefficients, *_ = np.linalg.lstsq(design, y, rcond=None)
    left = float(((y - design @ coefficients) ** 2).sum())
    errors = np.sqrt(np.diag(np.linalg.pinv(design.T @ design)) * left / freedom)
    effects = {
        name: Effect(float(c), float(c - Z * e), float(c + Z * e))
        for name, c, e in zip(used, coefficients, errors, strict=True)
    }
    return effects, 1 - left / len(y), len(y)


class JointRegression(NamedTuple):
    """Several measures regressed on one group at once.

    Attributes:
        effects: by measure, the mean of the group less that of the others, in the measure's unit.
        explained: R squared of each measure.
        p: of Hotelling's T squared (1931), that the group changes none of them; NaN if it cannot be computed.
        rows: with all values.
    """

    effects: dict[str, Effect]
    explained: dict[str, float]
    p: float
    rows: int


def joint_regression(measures: dict[str, np.ndarray], group: np.ndarray) -> JointRegression:
    """Regresses all measures on a group (0 or 1, NaN if not known), over the rows with all values."""
    known = np.isfinite(group) & np.all([np.isfinite(column) for column in measures.values()], axis=0)
    x, y = group[known] == 1, np.stack([column[known] for column in measures.values()], axis=1)
    n, m = int(x.sum()), int((~x).sum())
    if min(n, m) < 2 or n + m - 2 < len(measures):
        return JointRegression({}, {}, math.nan, n + m)
    gap = y[x].mean(axis=0) - y[~x].mean(axis=0)
    left = y - np.where(x[:, None], y[x].mean(axis=0), y[~x].mean(axis=0))
    pooled = left.T @ left / (n + m - 2)
    error = np.sqrt(np.diag(pooled) * (1 / n + 1 / m))
    total = ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    explained = 1 - np.divide((left**2).sum(axis=0), total, out=np.ones_like(total), where=total > 0)
    effects = {
        name: Effect(float(g), float(g - Z * e), float(g + Z * e))
        for name, g, e in zip(measures, gap, error, strict=True)
    }
    return JointRegression(
        effects, dict(zip(measures, explained.tolist(), strict=True)), _hotelling(gap, pooled, n, m), n + m
    )


def _hotelling(gap: np.ndarray, pooled: np.ndarray, n: int, m: int) -> float:
    """p of the difference of two means float64[K] with a pooled covariance."""
    k, freedom = len(gap), n + m - len(gap) - 1
    if freedom < 1 or np.linalg.matrix_rank(pooled) < k:
        return math.nan
    from scipy.stats import f  # slow to load

    t2 = float(n * m / (n + m) * gap @ np.linalg.solve(pooled, gap))
    return float(f.sf(freedom / ((n + m - 2) * k) * t2, k, freedom))
