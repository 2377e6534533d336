"""Weights of classes in the box head of a detector, by the objects of the training fold."""

from collections.abc import Sequence

import numpy as np

from ..config.classify_loss import DEFAULT_BETA
from ..errors import ConfigError
from .class_weights import Counts, class_weights


def box_weights(
    rule: str | Sequence[float], classes: Sequence[str], objects: np.ndarray, beta: float | None = None
) -> np.ndarray:
    """Float64[C + 1]: background, which weighs 1, then the classes.

    A rule's weights have the mean 1 over the objects (see `class_weights.class_weights`); numbers are taken as they
    are.

    Args:
        rule: none, one_minus_share, inverse or effective_number; or a number per class.
        objects: float[C], objects of the training fold that an epoch shows.

    Raises:
        ConfigError: a class that is weighted has no object.
    """
    if rule == "none":
        return np.ones(len(classes) + 1)
    empty = [name for name, count in zip(classes, objects, strict=True) if not count]
    if empty:
        more = f" and {len(empty) - 1} more" if empty[1:] else ""
        raise ConfigError(
            f"loss.class_weights: {empty[0]!r}{more} has no object in this training fold, and cannot be weighted; use "
            "folds that have every class, or class_weights=none"
        )
    if not isinstance(rule, str):
        return np.array([1.0, *rule])
    found = class_weights(rule, "softmax", classes, Counts(objects, np.zeros_like(objects)), beta or DEFAULT_BETA)
    return np.concatenate([[1.0], found.positive])
