"""The loss of a training step: a weighted sum of terms that changes by stages."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..config import Loss, Stage, nearest
from ..errors import ConfigError
from .area import area_loss
from .lovasz import lovasz_loss
from .points import point_loss

TERMS = ("bce", "dice", "lovasz", "point")


class Result(NamedTuple):
    """``total``: the loss, float[]; ``terms``: unweighted parts float32[B, C], detached; ``dice``: float32[B, C]
    of the thresholded coarse prediction, at no extra cost."""

    total: Tensor
    terms: dict[str, Tensor]
    dice: Tensor


class StagedLoss:
    """Terms and weights by stage. The engine says which stage is on; :meth:`advance` says when the next begins.

    Raises:
        ConfigError: a stage weighs an unknown term.
    """

    def __init__(self, config: Loss):
        self.stages = config.stages
        for number, stage in enumerate(self.stages):
            for term in stage.weights:
                if term not in TERMS:
                    raise ConfigError(f"loss.stages[{number}].weights.{term}: no such term{nearest(term, TERMS)}")

    def __call__(self, stage: int, logits: Tensor, points: tuple[Tensor, Tensor] | None, planes: Tensor) -> Result:
        """The loss of stage number ``stage``.

        Args:
            logits: float[B, C, H, W].
            points: coords[B, N, 2] and logits[B, C, N] of a point head, where there is one.
            planes: bit-planes uint8[B, P, H, W] of the truth.
        """
        weights = self.stages[stage].weights
        area = area_loss(logits, planes, bce=weights.get("bce", 0.0), dice=weights.get("dice", 0.0))
        terms = {name: part for name, part in (("bce", area.bce), ("dice", area.dice)) if name in weights}
        total = area.loss
        if "lovasz" in weights:
            value, terms["lovasz"] = lovasz_loss(logits, planes)
            total = total + weights["lovasz"] * value
        if "point" in weights and points is not None:
            value, terms["point"] = point_loss(points[1], points[0], planes)
            total = total + weights["point"] * value
        return Result(total, terms, area.dice_hard)

    def advance(self, stage: int, epochs_in_stage: int, dice: float) -> bool:
        """Whether the next stage begins, after ``epochs_in_stage`` epochs and an epoch of this training Dice."""
        until = self.stages[stage].until
        if until is None:
            return False
        if until.epochs is not None:
            return epochs_in_stage >= until.epochs
        return dice >= (until.dice or 0.0)


def weights_of(stage: Stage) -> str:
    """A stage in one line, as in 'bce 0.5, dice 0.5'."""
    return ", ".join(f"{name} {weight:g}" for name, weight in stage.weights.items())


def guilty(terms: dict[str, Tensor]) -> str | None:
    """The first term with a value that is not finite, or None."""
    return next((name for name, parts in terms.items() if not torch.isfinite(parts).all()), None)
