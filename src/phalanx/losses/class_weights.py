"""Weights and margins of classes from the labels, or the pixels, of the training fold."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..config.loss import Head
from ..errors import ConfigError

SHOWN = 8  # classes in the line of class weights


class Counts(NamedTuple):
    """Labelled images of the training fold by class; those whose label is missing are in neither. Of a softmax
    segmentation, its pixels, of which ``negatives`` are not used."""

    positives: np.ndarray  # int64[C], or float64[C] if images count as often as an epoch shows them
    negatives: np.ndarray  # as positives
    what: str = "training images"  # that are counted


class Weights(NamedTuple):
    """Factors of the loss by class. Their mean over the labels of the training fold is 1.

    ``raw``: the positive ones as the rule gives them, before they are scaled to that mean.
    """

    positive: np.ndarray  # float64[C]: of an image that has the class
    negative: np.ndarray  # float64[C]: of one that does not; a softmax has no such term
    raw: np.ndarray  # float64[C]


def count_labels(labels: np.ndarray, weights: np.ndarray | None = None) -> Counts:
    """Positives and negatives of each class.

    Args:
        labels: float[N, C] of 0, 1 and NaN (missing).
        weights: float64[N], how often each image counts; None: once.
    """
    if weights is None:
        return Counts((labels == 1).sum(axis=0), (labels == 0).sum(axis=0))
    return Counts(weights @ (labels == 1), weights @ (labels == 0))


def count_pixels(areas: np.ndarray, sizes: np.ndarray, weights: np.ndarray | None = None) -> Counts:
    """Pixels of background and of each class, which exclude each other.

    Args:
        areas: int64[N, C] of each image and class.
        sizes: int64[N], pixels of each image.
        weights: float64[N], how often each image counts; None: once.
    """
    pixels = np.column_stack([sizes - areas.sum(axis=1), areas]).astype(float)
    found = pixels.sum(axis=0) if weights is None else weights @ pixels
    return Counts(found, found.sum() - found, "training pixels")


def effective_number(counts: np.ndarray, beta: float) -> np.ndarray:
    """Effective numbers of samples, (1 - beta^n) / (1 - beta) (Cui et al., 2019, "Class-balanced loss").

    >>> effective_number(np.array([1, 2]), 0.5).tolist()
    [1.0, 1.5]
    """
    return -np.expm1(counts * np.log(beta)) / (1 - beta)


def class_weights(
    rule: str | Mapping[str, float] | Sequence[float],
    head: Head,
    classes: Sequence[str],
    counts: Counts,
    beta: float | None = None,
) -> Weights:
    """Weights by a rule, by class name, or as a list in the order of ``classes``.

    ``inverse`` is 1 / n, ``one_minus_share`` is 1 - n / N, ``effective_number`` is 1 / its effective number, for n of N
    images or pixels. With a softmax n counts a class's images. With sigmoids each class has two sides, its positives
    and its negatives, which are weighted against each other, and N is their sum; numbers weigh both sides alike.

    Raises:
        ConfigError: a rule for a class without images, or without images on a side by whose number it divides.
    """
    positives, negatives = (np.asarray(side, float) for side in counts[:2])
    if not isinstance(rule, str):
        values = [rule.get(name, rule.get("others", 1.0)) for name in classes] if isinstance(rule, Mapping) else rule
        named = np.array(values, float)
        both = positives if head == "softmax" else positives + negatives
        scaled = named / _mean(named, both)
        return Weights(scaled, scaled, named)
    if rule == "none":
        return Weights(*[np.ones(len(classes))] * 3)
    if head == "softmax":
        refuse_empty(positives, classes, counts.what, f"loss.class_weights={rule}")
        raw = _by_rule(rule, positives, positives.sum(), beta, classes, counts.what)
        found = raw / _mean(raw, positives)
        return Weights(found, found, raw)
    total = positives + negatives
    one = _by_rule(rule, positives, total, beta, classes, "positive training images")
    other = _by_rule(rule, negatives, total, beta, classes, "negative training images")
    mean = (one * positives + other * negatives) / np.where(total > 0, total, 1)
    mean = np.where(mean > 0, mean, 1)  # one_minus_share of a class that has one side only
    return Weights(one / mean, other / mean, one)


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


def weights_event(
    rule: str | Mapping[str, float] | Sequence[float],
    weights: Weights,
    classes: Sequence[str],
    counts: Counts,
    *,
    after: bool,
) -> dict[str, Any]:
    """What the log and the terminal say about class weights; the terminal's line is ``text``."""
    how = rule if isinstance(rule, str) else "given"
    raw, used = weights.raw.tolist(), weights.positive.tolist()
    values = {
        "rule": how,
        "weights": dict(zip(classes, raw, strict=True)),
        "scaled": dict(zip(classes, used, strict=True)),
    }
    values["counts"] = dict(zip(classes, np.asarray(counts.positives, float).tolist(), strict=True))
    listed = ", ".join(f"{name} {value:.4g}" for name, value in list(zip(classes, raw, strict=True))[:SHOWN])
    more = f", and {len(classes) - SHOWN} more in log.jsonl" if len(classes) > SHOWN else ""
    when = "" if how == "given" else f" of {counts.what} {'as an epoch shows them' if after else 'counted once'}"
    numbers = "/".join(f"{value:,.0f}" for value in counts.positives[:SHOWN])
    return {**values, "text": f"class weights ({how}{when}, {numbers}): {listed}{more}"}


def _mean(weights: np.ndarray, counts: np.ndarray) -> float:
    """Mean of weights over images; over classes if there are no images."""
    return float((weights * counts).sum() / counts.sum() if counts.sum() else weights.mean()) or 1.0
