"""Weights of classes in the box head of a detector, by the objects of the training fold."""

from collections.abc import Mapping, Sequence

import numpy as np

from ..config.loss import DEFAULT_BETA
from ..errors import ConfigError
from .class_weights import Counts, Weights, class_weights


def box_weights(
    rule: str | Mapping[str, float] | Sequence[float],
    classes: Sequence[str],
    objects: np.ndarray,
    beta: float | None = None,
) -> Weights:
    """Weights of the classes beside background, which weighs 1.

    A rule's weights have the mean 1 over the objects (see `class_weights.class_weights`); given numbers are taken as
    they are, as they are relative to background, too.

    Args:
        objects: float[C] of the training fold.

    Raises:
        ConfigError: a class that is weighted has no object.
    """
    empty = [name for name, count in zip(classes, objects, strict=True) if not count]
    if empty and rule != "none":
        more = f" and {len(empty) - 1} more" if empty[1:] else ""
        raise ConfigError(
            f"loss.class_weights: {empty[0]!r}{more} has no object in this training fold, and cannot be weighted; use "
            "folds that have every class, or class_weights=none"
        )
    counts = counts_of(objects)
    found = class_weights(rule, "softmax", classes, counts, DEFAULT_BETA if beta is None else beta)
    return found if isinstance(rule, str) else Weights(found.raw, found.raw, found.raw)


def counts_of(objects: np.ndarray) -> Counts:
    """Objects float[C] as the counts that weights are made of."""
    return Counts(objects, np.zeros_like(objects), "training objects")
