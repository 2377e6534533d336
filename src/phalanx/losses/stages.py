"""The loss of a training step: a weighted sum of terms that changes by stages."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..config import Loss, PerClass, nearest
from ..errors import ConfigError
from .boundary import add_boundary
from .fused_autograd import explicit
from .lovasz import add_lovasz
from .pixel_region import Options, add_area
from .points import point_loss

AREA = ("bce", "dice", "focal", "tversky")
TERMS = (*AREA, "boundary", "lovasz", "point")
ALONE = {"boundary": add_boundary, "lovasz": add_lovasz}


class Result(NamedTuple):
    """``total``: the loss, float[]; ``terms``: unweighted parts float32[B, C], detached; ``dice``: float32[B, C]
    of the thresholded coarse prediction, at no extra cost."""

    total: Tensor
    terms: dict[str, Tensor]
    dice: Tensor


class StagedLoss:
    """Terms and weights by stage. The engine says which stage is on; :meth:`advance` says when the next begins.

    Args:
        classes: names, in the order of the logits.

    Raises:
        ConfigError: a stage weighs an unknown term.
    """

    def __init__(self, config: Loss, classes: Sequence[str]):
        self.stages = config.stages
        for number, stage in enumerate(self.stages):
            for term in stage.weights:
                if term not in TERMS:
                    raise ConfigError(f"loss.stages[{number}].weights.{term}: no such term{nearest(term, TERMS)}")
        bce, focal, tversky = config.options.bce, config.options.focal, config.options.tversky
        self.options = Options()
        if bce:
            pos_weight = by_class(bce.pos_weight, classes, 1.0)
            self.options = self.options._replace(smoothing=bce.smoothing, pos_weight=pos_weight)
        if focal:
            self.options = self.options._replace(gamma=focal.gamma, alpha=focal.alpha)
        if tversky:
            fp, fn = by_class(tversky.alpha, classes, 0.3), by_class(tversky.beta, classes, 0.7)
            self.options = self.options._replace(fp=fp, fn=fn, root=tversky.gamma)
        self.point_dice = config.options.point.dice_weight if config.options.point else 0.0
        shares = torch.tensor(by_class(config.class_weights, classes, 1.0))
        self.factors = shares / shares.mean()

    def __call__(self, stage: int, logits: Tensor, points: tuple[Tensor, Tensor] | None, planes: Tensor) -> Result:
        """The loss of stage number ``stage``.

        Args:
            logits: float[B, C, H, W].
            points: coords[B, N, 2] and logits[B, C, N] of a point head, where there is one.
            planes: bit-planes uint8[B, P, H, W] of the truth.
        """
        weights = self.stages[stage].weights
        area = {name: weights[name] for name in AREA if name in weights}
        alone = [name for name in ALONE if name in weights]

        def work(x: Tensor, gradient: Tensor | None) -> tuple[Tensor, ...]:
            total, hard, *parts = add_area(x, planes, area, self.options, self.factors, gradient)
            for name in alone:
                value, part = ALONE[name](x, planes, weights[name], self.factors, gradient)
                total = total + value
                parts.append(part)
            return total, hard, *parts

        total, hard, *parts = explicit(logits, work)
        terms = dict(zip([*area, *alone], parts, strict=True))
        if "point" in weights and points is not None:
            value, terms["point"] = point_loss(points[1], points[0], planes, self.factors, self.point_dice)
            total = total + weights["point"] * value
        return Result(total, terms, hard)

    def advance(self, stage: int, epochs_in_stage: int, dice: float) -> bool:
        """Whether the next stage begins, after ``epochs_in_stage`` epochs and an epoch of this training Dice."""
        until = self.stages[stage].until
        if until is None:
            return False
        if until.epochs is not None:
            return epochs_in_stage >= until.epochs
        return dice >= (until.dice or 0.0)


def by_class(values: PerClass, classes: Sequence[str], default: float) -> list[float]:
    """A number for each class: its own, else that of ``others``, else the default.

    >>> by_class({"Ulna": 3.0, "others": 2.0}, ["Radius", "Ulna"], 1.0)
    [2.0, 3.0]
    """
    return [values.get(name, values.get("others", default)) for name in classes]
