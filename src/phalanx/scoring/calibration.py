"""Temperatures and thresholds, fitted on all folds but one and measured on that one.

A temperature divides the logits (Guo et al., 2017). It makes probabilities honest and changes no ranking within a
class. A threshold makes a decision of a probability.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..config.classify_loss import Head
from ..errors import DataError
from .classify_draws import GroupedFigures
from .confusion import ratio
from .resampling import Interval, bootstrap, draws, interval

MIN_PROBABILITY = 1e-9  # of either side: what is nearer to 0 or 1 has no logit that a table of 9 decimals knows
COLDEST, HOTTEST = 0.1, 10.0  # temperatures: labels that are all predicted right would make any lower one better
THRESHOLD = 0.5  # by default
MIN_POSITIVES = 5  # of a class, to fit a threshold to


@dataclass(frozen=True)
class CrossFitted:
    """Numbers per class as cross-fitting finds them.

    Attributes:
        what: what is fitted.
        fitted: float64[C], on all images; to be used if ``adopted``.
        by_fold: the same, fitted without that fold.
        applied: float64[N, C]: probabilities at the temperature, or thresholds, as fitted without each image's fold.
        before, after: mean negative log-likelihood (temperature) or macro F1 (thresholds), by default and as
            ``applied``.
        interval: 95%, of the improvement over draws of patients.
    """

    what: str
    fitted: np.ndarray
    by_fold: dict[int, np.ndarray]
    applied: np.ndarray
    before: float
    after: float
    interval: Interval

    @property
    def adopted(self) -> bool:
        """It is better on images that it was not fitted on, and the interval of the improvement is above 0."""
        return self.interval is not None and self.interval[0] > 0


def to_logits(probabilities: np.ndarray, head: Head) -> np.ndarray:
    """Logits float64[N, C] of probabilities, finite; of a softmax up to a number per image."""
    p = np.clip(np.asarray(probabilities, float), MIN_PROBABILITY, 1)
    return np.log(p) if head == "softmax" else np.log(p) - np.log(np.clip(1 - p, MIN_PROBABILITY, 1))


def apply_temperature(probabilities: np.ndarray, temperature: float | np.ndarray, head: Head) -> np.ndarray:
    """Probabilities float64[N, C] whose logits are divided by a temperature, or by one float[C] per sigmoid."""
    logits = to_logits(probabilities, head) / temperature
    if head == "sigmoid":
        return np.exp(-np.logaddexp(0, -logits))
    logits = np.exp(logits - logits.max(axis=1, keepdims=True))
    return logits / logits.sum(axis=1, keepdims=True)


def fit_temperature(
    probabilities: np.ndarray, labels: np.ndarray, head: Head, *, per_class: bool = False
) -> np.ndarray:
    """Temperatures float64[C] of the least negative log-likelihood, from ``COLDEST`` to ``HOTTEST``; 1 without labels.

    Args:
        labels: float[N, C] of 0, 1 and NaN (missing).
        per_class: one for each sigmoid; otherwise one for all.

    Raises:
        DataError: ``per_class`` of a softmax, whose classes have one temperature together.
    """
    classes = labels.shape[1]
    if not per_class:
        return np.full(classes, _fit_one(to_logits(probabilities, head), labels, head))
    if head == "softmax":
        raise DataError("one temperature per class: is for head=sigmoid; a softmax has one for all its classes")
    logits = to_logits(probabilities, head)
    return np.array([_fit_one(logits[:, [c]], labels[:, [c]], head) for c in range(classes)])


def _fit_one(logits: np.ndarray, labels: np.ndarray, head: Head) -> float:
    from scipy.optimize import minimize_scalar  # half a second, which most commands do not need

    known = ~np.isnan(labels).any(axis=1) if head == "softmax" else ~np.isnan(labels).all(axis=1)
    if not known.any():
        return 1.0
    z, y = logits[known], labels[known]
    # in 1 / temperature it is convex
    found = minimize_scalar(
        lambda cold: float(_likelihood(z * cold, y, head).mean()), bounds=(1 / HOTTEST, 1 / COLDEST), method="bounded",
        options={"xatol": 1e-7},
    )  # fmt: skip
    return float(1 / found.x)


def negative_log_likelihood(probabilities: np.ndarray, labels: np.ndarray, head: Head) -> np.ndarray:
    """Float64[N]: of each image, the mean over its labelled classes if they are sigmoids; NaN without a label."""
    return _likelihood(to_logits(probabilities, head), labels, head)


def _likelihood(z: np.ndarray, labels: np.ndarray, head: Head) -> np.ndarray:
    if head == "softmax":
        top = z.max(axis=1, keepdims=True)
        log_p = z - top - np.log(np.exp(z - top).sum(axis=1, keepdims=True))
        return -(labels * log_p).sum(axis=1)  # NaN if a label is
    cells = np.logaddexp(0, -z) * labels + np.logaddexp(0, z) * (1 - labels)
    known = ~np.isnan(cells)
    return ratio(np.where(known, cells, 0).sum(axis=1), known.sum(axis=1))


def fit_thresholds(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Thresholds float64[C], at least which is positive, of the largest F1 of each class.

    A threshold is half-way between two probabilities, or ``THRESHOLD`` where that does as well. A class with fewer than
    ``MIN_POSITIVES`` positives has ``THRESHOLD``.

    Args:
        labels: float[N, C] of 0, 1 and NaN (missing). Several classes of an image may be 1, whatever head predicted.
    """
    columns = zip(np.asarray(probabilities, float).T, np.asarray(labels, float).T, strict=True)
    return np.array([_best_threshold(p[~np.isnan(y)], y[~np.isnan(y)] == 1) for p, y in columns])


def _best_threshold(p: np.ndarray, positive: np.ndarray) -> float:
    if positive.sum() < MIN_POSITIVES:
        return THRESHOLD
    order = np.argsort(-p, kind="stable")
    ordered = p[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))  # all equal ones are found at once
    tp = positive[order].cumsum()[ends]
    f1 = 2 * tp / (ends + 1 + positive.sum())
    lowest, below = ordered[ends], np.append(ordered[ends[:-1] + 1], 0.0)
    # between the lowest probability that is found and the next below it
    cuts = np.where((below < THRESHOLD) & (lowest >= THRESHOLD), THRESHOLD, (lowest + below) / 2)
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    return float(cuts[best[np.argmin(np.abs(cuts[best] - THRESHOLD))]])


def cross_fit_temperature(
    probabilities: np.ndarray,
    labels: np.ndarray,
    head: Head,
    folds: np.ndarray,
    patients: Sequence[str],
    *,
    per_class: bool = False,
) -> CrossFitted:
    """A temperature fitted without each fold and measured on it, by the negative log-likelihood.

    Args:
        probabilities: float[N, C], out of fold, so that none is of an image its network has seen.
        folds: int[N]; the images of a patient are in one.
        patients: of each image.

    Raises:
        DataError: a patient in two folds, fewer than two folds, or ``per_class`` of a softmax.
    """

    def fit(rows: np.ndarray) -> np.ndarray:
        return fit_temperature(probabilities[rows], labels[rows], head, per_class=per_class)

    fitted, by_fold, numbers = _cross_fit(fit, folds, patients, labels.shape)
    applied = apply_temperature(probabilities, numbers, head)
    before, after = (negative_log_likelihood(p, labels, head) for p in (probabilities, applied))
    known = ~np.isnan(before)
    span, means = None, (np.nan, np.nan)
    if known.any():
        means = float(before[known].mean()), float(after[known].mean())
        whose = np.unique(np.array(patients, str)[known], return_inverse=True)[1]
        span = interval(bootstrap((before - after)[known, None], whose)[:, 0]) if whose.max() else None
    return CrossFitted("temperature", fitted, by_fold, applied, *means, span)


def cross_fit_thresholds(
    probabilities: np.ndarray,
    labels: np.ndarray,
    folds: np.ndarray,
    patients: Sequence[str],
    *,
    plain: np.ndarray | None = None,
) -> CrossFitted:
    """Thresholds fitted without each fold and measured on it, by macro F1. As :func:`cross_fit_temperature`.

    Args:
        plain: bool[N, C], the decisions to improve on; by default those at ``THRESHOLD``.
    """
    decided = probabilities >= THRESHOLD if plain is None else plain

    def fit(rows: np.ndarray) -> np.ndarray:
        return fit_thresholds(probabilities[rows], labels[rows])

    fitted, by_fold, applied = _cross_fit(fit, folds, patients, labels.shape)
    known = ~np.isnan(labels).all(axis=1)
    whose = np.array(patients, str)[known]
    default, fine = (
        GroupedFigures(probabilities[known], labels[known], made[known], whose, "sigmoid", None)
        for made in (decided, probabilities >= applied)
    )
    before, after = (figures.function("macro_f1") for figures in (default, fine))
    span = None
    if default.groups > 1:
        span = interval(np.concatenate([after(drawn) - before(drawn) for drawn in draws(default.groups)]))
    values = float(before(default.whole)[0]), float(after(default.whole)[0])
    return CrossFitted("thresholds", fitted, by_fold, applied, *values, span)


def _cross_fit(
    fit: Callable[[np.ndarray], np.ndarray], folds: np.ndarray, patients: Sequence[str], shape: tuple[int, ...]
) -> tuple[np.ndarray, dict[int, np.ndarray], np.ndarray]:
    """What is fitted on all images, without each fold, and float64[N, C] of the latter for each image."""
    folds = np.asarray(folds)
    pairs = {*zip(patients, folds.tolist(), strict=True)}
    if len(pairs) > len({patient for patient, _ in pairs}):
        counted = [patient for patient, _ in pairs]
        twice = min(patient for patient in counted if counted.count(patient) > 1)
        raise DataError(f"patient {twice!r} is in more than one fold, so nothing is unseen; draw the folds by patient")
    numbers = np.unique(folds).tolist()
    if len(numbers) < 2:
        raise DataError(f"{len(numbers)} fold: cross-fitting needs two or more; train the other folds")
    by_fold = {fold: fit(np.flatnonzero(folds != fold)) for fold in numbers}
    applied = np.empty(shape)
    for fold, values in by_fold.items():
        applied[folds == fold] = values
    return fit(np.arange(len(folds))), by_fold, applied
