"""The loss of a training step: a weighted sum of terms, whose weights change from one loss stage to the next."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..config import Loss, PerClass, nearest
from ..config.loss import LossStage
from ..errors import ConfigError
from .batch_loss import MapTerm, PointTerm, batch_loss
from .boundary import add_boundary
from .boundary_batched import BatchedBoundary
from .fused_autograd import fused_loss
from .lovasz import add_lovasz
from .lovasz_batched import BatchedLovasz
from .paths import Path, path_of
from .pixel_region import TermOptions, add_pixel_region
from .points import batched_point_loss, point_loss

PIXEL_REGION = ("bce", "dice", "focal", "tversky")  # computed in one pass
PER_CLASS = {"boundary": add_boundary, "lovasz": add_lovasz}
TERMS = (*PIXEL_REGION, "boundary", "lovasz", "point")
SOFTMAX_TERMS = ("ce", "focal", "dice", "lovasz", "point")  # of losses/softmax.py


class StepLoss(NamedTuple):
    """The loss of a step, and what the log records of it.

    Attributes:
        total: the loss, float[].
        terms: each term, unweighted and detached, float32[B, C].
        dice: float32[B, C] of the thresholded coarse prediction, at no extra cost.
    """

    total: Tensor
    terms: dict[str, Tensor]
    dice: Tensor


class StagedLoss:
    """Terms and their weights per loss stage. The engine counts stages; :meth:`advance` decides if the next begins.

    Args:
        classes: names, in the order of the logits.
        path: how it is computed (:mod:`.paths`); None: as the logits' device needs.

    Raises:
        ConfigError: a stage has an unknown term.
    """

    def __init__(self, config: Loss, classes: Sequence[str], path: Path | None = None):
        self.stages, self.path = config.stages, path
        refuse_terms(config, TERMS, "sigmoid")
        assert isinstance(config.class_weights, dict)  # by the recipe's validation
        self.options = term_options(config, classes)
        self.point_dice_weight = config.options.point.dice_weight if config.options.point else 0.0
        class_weights = torch.tensor(by_class(config.class_weights, classes, 1.0))
        self.class_weights = class_weights / class_weights.mean()
        self.weights_by_class = tuple(self.class_weights.tolist())
        self.map_terms: dict[Path, dict[str, MapTerm]] = {}

    def __call__(self, stage: int, logits: Tensor, points: tuple[Tensor, Tensor] | None, planes: Tensor) -> StepLoss:
        """The loss of loss stage number ``stage``.

        Args:
            logits: float[B, C, H, W].
            points: coords[B, N, 2] and logits[B, C, N] of a point head; None without one.
            planes: bit-planes uint8[B, P, H, W] of the ground truth.
        """
        path = self.path or path_of(logits.device)
        compute = self._by_tiles if path == "tiles" else partial(self._batched, path=path)
        return compute(self.stages[stage].weights, logits, points, planes)

    def _by_tiles(
        self, weights: dict[str, float], logits: Tensor, points: tuple[Tensor, Tensor] | None, planes: Tensor
    ) -> StepLoss:
        pixel_region = {name: weights[name] for name in PIXEL_REGION if name in weights}
        per_class = [name for name in PER_CLASS if name in weights]

        def add_terms(x: Tensor, gradient: Tensor | None) -> tuple[Tensor, ...]:
            total, dice_hard, *parts = add_pixel_region(
                x, planes, pixel_region, self.options, self.class_weights, gradient
            )
            for name in per_class:
                value, part = PER_CLASS[name](x, planes, weights[name], self.class_weights, gradient)
                total = total + value
                parts.append(part)
            return total, dice_hard, *parts

        total, dice_hard, *parts = fused_loss(logits, add_terms)
        terms = dict(zip([*pixel_region, *per_class], parts, strict=True))
        if "point" in weights and points is not None:
            value, terms["point"] = point_loss(points[1], points[0], planes, self.class_weights, self.point_dice_weight)
            total = total + weights["point"] * value
        return StepLoss(total, terms, dice_hard)

    def _batched(
        self,
        weights: dict[str, float],
        logits: Tensor,
        points: tuple[Tensor, Tensor] | None,
        planes: Tensor,
        path: Path,
    ) -> StepLoss:
        """As a GPU computes it: all images and classes at once, with no loop over either."""
        pixel_region = {name: weights[name] for name in PIXEL_REGION if name in weights}
        if path not in self.map_terms:
            self.map_terms[path] = map_terms(path)
        more = {name: (weights[name], self.map_terms[path][name]) for name in PER_CLASS if name in weights}
        coords, at = points if points is not None and "point" in weights else (None, None)
        joined = None
        if coords is not None and at is not None and path == "batched" and not more:
            term = PointTerm(weights["point"], self.point_dice_weight, at, coords)
            joined = term if term.can_join(logits, pixel_region) else None
        total, terms, dice = batch_loss(
            logits, planes, pixel_region, self.options, self.weights_by_class, path, more, joined
        )
        if coords is not None and at is not None and joined is None:
            value, terms["point"] = batched_point_loss(
                at, coords, planes, self.weights_by_class, self.point_dice_weight, path
            )
            total = torch.add(total, value, alpha=weights["point"])
        return StepLoss(total, terms, dice)

    def advance(self, stage: int, epochs_in_stage: int, dice: float) -> bool:
        """Whether the next loss stage begins, after ``epochs_in_stage`` epochs and an epoch of this training Dice."""
        until = self.stages[stage].until
        if until is None:
            return False
        if until.epochs is not None:
            return epochs_in_stage >= until.epochs
        return dice >= (until.dice or 0.0)


def stage_texts(stages: Sequence[LossStage]) -> list[str]:
    """Each loss stage in words.

    >>> stage_texts([LossStage(weights={"bce": 0.5, "dice": 1}, until={"dice": 0.95}), LossStage(weights={"dice": 1})])
    ['0.5 bce + 1 dice, until a training Dice of 0.95', '1 dice, to the end']
    """
    found = []
    for stage in stages:
        terms = " + ".join(f"{weight:g} {term}" for term, weight in stage.weights.items())
        until = stage.until
        if until is None:
            end = "to the end"
        else:
            end = f"for {until.epochs} epochs" if until.epochs else f"until a training Dice of {until.dice:g}"
        found.append(f"{terms}, {end}")
    return found


def never_begins(stages: Sequence[LossStage], epochs: int) -> str | None:
    """What to say of loss stages that cannot begin within so many epochs, whatever the training Dice is; None if all
    can.

    >>> first, last = LossStage(weights={"bce": 1}, until={"epochs": 50}), LossStage(weights={"dice": 1})
    >>> never_begins([first, last], 51)
    >>> never_begins([first, last], 50)
    'loss stage 2 of 2 never begins: it comes after 50 epochs or more, and epochs=50; give epochs=51 or more'
    """
    before = 0
    for number, stage in enumerate(stages, 1):
        if before >= epochs:
            return (
                f"loss stage {number} of {len(stages)} never begins: it comes after {before} epochs or more, and "
                f"epochs={epochs}; give epochs={before + 1} or more"
            )
        before += stage.until.epochs or 1 if stage.until else 0
    return None


def refuse_terms(config: Loss, terms: Sequence[str], head: str) -> None:
    """Raises ConfigError if a stage has a term that is not among ``terms``, those of a head."""
    for number, stage in enumerate(config.stages):
        for term in stage.weights:
            if term not in terms:
                known = term in (*TERMS, *SOFTMAX_TERMS)
                why = f"is not a term of model.head={head}; known: {', '.join(terms)}" if known else "no such term"
                raise ConfigError(f"loss.stages[{number}].weights.{term}: {why}{'' if known else nearest(term, terms)}")


def map_terms(path: Path) -> dict[str, MapTerm]:
    """The terms that are not functions of a few sums, as ``batched`` or ``triton`` computes them."""
    if path == "triton":
        from .lovasz_triton import TritonLovasz  # Triton is not everywhere, and takes long to import

        return {"boundary": BatchedBoundary(), "lovasz": TritonLovasz()}
    return {"boundary": BatchedBoundary(), "lovasz": BatchedLovasz()}


def term_options(config: Loss, classes: Sequence[str]) -> TermOptions:
    """The options of the terms with one number per class, in the order of ``classes``."""
    options, bce, focal, tversky = TermOptions(), config.options.bce, config.options.focal, config.options.tversky
    if bce:
        pos_weight = by_class(bce.pos_weight, classes, 1.0)
        options = options._replace(smoothing=bce.smoothing, pos_weight=pos_weight)
    if focal:
        options = options._replace(focal_gamma=focal.gamma, focal_alpha=focal.alpha)
    if tversky:
        alpha, beta = by_class(tversky.alpha, classes, 0.3), by_class(tversky.beta, classes, 0.7)
        options = options._replace(tversky_alpha=alpha, tversky_beta=beta, tversky_gamma=tversky.gamma)
    return options


def by_class(values: PerClass, classes: Sequence[str], default: float) -> list[float]:
    """One number per class: its own, else that of ``others``, else the default.

    >>> by_class({"Ulna": 3.0, "others": 2.0}, ["Radius", "Ulna"], 1.0)
    [2.0, 3.0]
    """
    return [values.get(name, values.get("others", default)) for name in classes]
