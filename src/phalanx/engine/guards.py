"""Stops training where it can no longer learn anything, naming what was seen last."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import TrainingError


def check_loss(
    total: Tensor, terms: dict[str, Tensor], names: Sequence[str], classes: Sequence[str], step: int
) -> None:
    """Raises TrainingError where the loss is not finite, naming term, class and image.

    Args:
        terms: parts float[B, C] by name.
        names: the B images of the batch.
    """
    if torch.isfinite(total):
        return
    for term, parts in terms.items():
        bad = (~torch.isfinite(parts)).nonzero()
        if len(bad):
            image, label = bad[0].tolist()
            raise TrainingError(
                f"step {step}: the loss term {term} of class {classes[label]} in {names[image]} is not finite "
                f"(batch: {', '.join(names)}). The last checkpoint is whole; lower optim.lr, or use precision=32"
            )
    raise TrainingError(
        f"step {step}: the loss is not finite though its terms are (batch: {', '.join(names)}); lower optim.lr"
    )


def check_gradient(norm: Tensor, names: Sequence[str], step: int) -> None:
    """Raises TrainingError where the gradient's norm is not finite."""
    if not torch.isfinite(norm):
        raise TrainingError(
            f"step {step}: the gradient is not finite (last batch: {', '.join(names)}). The last checkpoint is "
            "whole; lower optim.lr, or use precision=32"
        )
