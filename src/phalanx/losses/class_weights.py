"""Weights and margins of classes from the labels of the training fold."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..config.base import Positive
from ..config.classify_loss import Head
from ..errors import ConfigError


class Counts(NamedTuple):
    """Labelled images of the training fold by class; those whose label is missing are in neither."""

    positives: np.ndarray  # int64[C]
    negatives: np.ndarray  # int64[C]


class Weights(NamedTuple):
    """Factors of the loss by class. Their mean over the labels of the training fold is 1."""

    positive: np.ndarray  # float64[C]: of an image that has the class
    negative: np.ndarray  # float64[C]: of one that does not; a softmax has no such term


def count_labels(labels: np.ndarray) -> Counts:
    """Positives and negatives of each class.

    Args:
        labels: float[N, C] of 0, 1 and NaN (missing).
    """
    return Counts((labels == 1).sum(axis=0), (labels == 0).sum(axis=0))


def effective_number(counts: np.ndarray, beta: float) -> np.ndarray:
    """Effective numbers of samples, (1 - beta^n) / (1 - beta) (Cui et al., 2019, "Class-balanced loss").

    >>> effective_number(np.array([1, 2]), 0.5).tolist()
    [1.0, 1.5]
    """
    return -np.expm1(counts * np.log(beta)) / (1 - beta)


def class_weights(
    rule: str | Mapping[str, Positive], head: Head, classes: Sequence[str], counts: Counts, beta: float | None = None
) -> Weights:
    """Weights by a rule, or by class name.

    ``inverse`` is 1 / n, ``one_minus_share`` is 1 - n / N, ``effective_number`` is 1 / its effective number, for n of N
    images. With a softmax n counts a class's images. With sigmoids each class has two sides, its positives and its
    negatives, which are weighted against each other, and N is their sum; numbers by name weigh both sides alike.

    Raises:
        ConfigError: a rule divides by the number of images of a class, or of a side of it, that has none.
    """
    positives, negatives = (np.asarray(side, float) for side in counts)
    if not isinstance(rule, str):
        named = np.array([rule.get(name, rule.get("others", 1.0)) for name in classes], float)
        both = positives if head == "softmax" else positives + negatives
        scaled = named / _mean(named, both)
        return Weights(scaled, scaled)
    if rule == "none":
        return Weights(np.ones(len(classes)), np.ones(len(classes)))
    if head == "softmax":
        found = _by_rule(rule, positives, positives.sum(), beta, classes, "training images")
        found /= _mean(found, positives)
        return Weights(found, found)
    total = positives + negatives
    one = _by_rule(rule, positives, total, beta, classes, "positive training images")
    other = _by_rule(rule, negatives, total, beta, classes, "negative training images")
    mean = (one * positives + other * negatives) / np.where(total > 0, total, 1)
    mean = np.where(mean > 0, mean, 1)  # one_minus_share of a class that has one side only
    return Weights(one / mean, other / mean)


def _by_rule(
    rule: str, counts: np.ndarray, total: np.ndarray, beta: float | None, classes: Sequence[str], what: str
) -> np.ndarray:
    if rule == "one_minus_share":
        return 1 - counts / np.where(total > 0, total, 1)
    refuse_empty(counts, classes, what, f"loss.class_weights={rule}")
    if rule == "inverse":
        return 1 / counts
    assert beta is not None
    return 1 / effective_number(counts, beta)


def margins(positives: np.ndarray, max_margin: float, classes: Sequence[str]) -> np.ndarray:
    """LDAM's margins float64[C], proportional to n^(-1/4), of which the rarest class has the largest.

    (Cao et al., 2019, "Learning imbalanced datasets with label-distribution-aware margin loss", equation 13.)

    Raises:
        ConfigError: a class has no training image.
    """
    refuse_empty(positives, classes, "training images", "loss.name=ldam")
    found = np.asarray(positives, float) ** -0.25
    return max_margin * found / found.max()


def log_priors(positives: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Logarithms float64[C] of the classes' frequencies in training. Raises ConfigError as :func:`margins`."""
    refuse_empty(positives, classes, "training images", "loss.name=logit_adjusted")
    return np.log(positives / positives.sum())


def refuse_empty(counts: np.ndarray, classes: Sequence[str], what: str, key: str) -> None:
    """Raises ConfigError if a class has no images, by whose number something is divided."""
    empty = [name for name, count in zip(classes, counts, strict=True) if count == 0]
    if empty:
        more = f" and {len(empty) - 1} more" if empty[1:] else ""
        raise ConfigError(
            f"{key}: {empty[0]!r}{more} has no {what} in this fold, and cannot be weighted by their number; use "
            "class_weights=none with ce, bce, focal or asl, or folds that have every class"
        )


def _mean(weights: np.ndarray, counts: np.ndarray) -> float:
    """Mean of weights over images; over classes if there are no images."""
    return float((weights * counts).sum() / counts.sum() if counts.sum() else weights.mean()) or 1.0
