"""The terms of a loss stage for a whole batch and all classes at once, as a GPU computes them.

Forward saves sums, backward visits the logits again. The gradient is multiplied by the incoming one before it is
rounded to the logits' type: 1 / pixels underflows in half precision without the loss scaler's factor.
"""

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .fused_autograd import accumulation_dtype
from .paths import Path
from .pixel_region import TermOptions
from .plan import Plan, PointOptions, make_plan


class MapTerm(Protocol):
    """A term that is not a function of a few sums over pixels."""

    def forward(
        self, logits: Tensor, source: Tensor, truth: Tensor, factors: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The unweighted parts float64[B C], and what :meth:`backward` needs.

        Args:
            logits: float[B, C, H, W].
            source: the truth: bool[B, C, H, W], or bit-planes uint8[B, P, H, W] where Triton's kernels read them.
            truth: float64[1, B, C], its pixels.
            factors: float64[B C], of the parts in the loss.
        """

    def backward(self, gradient: Tensor, saved: tuple[Tensor, ...], upstream: Tensor) -> None:
        """Adds the gradient by the logits, times ``upstream`` float[], to the contiguous ``gradient`` [B, C, H, W]."""


class PointTerm(NamedTuple):
    """BCE and Dice at points, as a term of :func:`batch_loss` with its own logits.

    Attributes:
        weight: in the loss.
        dice_weight: of Dice over an image's points; the rest is BCE.
        logits: float[B, C, N], predicted at the points.
        coords: float[B, N, 2] in 0..1.
    """

    weight: float
    dice_weight: float
    logits: Tensor
    coords: Tensor

    def can_join(self, logits: Tensor, weights: Mapping[str, float]) -> bool:
        """Whether the points can be further rows of a map: it has their type and terms, and as many pixels."""
        terms = {name for name, weight in (("bce", 1 - self.dice_weight), ("dice", self.dice_weight)) if weight}
        fits = self.logits.shape[2] <= logits.shape[2] * logits.shape[3]
        return fits and self.logits.dtype == logits.dtype and weights.keys() >= terms


class BatchLoss(NamedTuple):
    """A loss by :func:`batch_loss`; all but the total are detached.

    Attributes:
        total: float[].
        terms: each term, unweighted, float[B, C].
        dice: float[B, C] of ``logits > 0``, 1 if truth and prediction are both empty.
    """

    total: Tensor
    terms: dict[str, Tensor]
    dice: Tensor


def batch_loss(
    logits: Tensor,
    planes: Tensor,
    weights: dict[str, float],
    options: TermOptions,
    class_weights: tuple[float, ...],
    path: Path,
    more: Mapping[str, tuple[float, MapTerm]] | None = None,
    points: PointTerm | None = None,
) -> BatchLoss:
    """Weighted sum of terms, mean over images and classes.

    Args:
        logits: float[B, C, H, W].
        planes: bit-planes uint8[B, P, H, W] of the ground truth.
        weights: of bce, focal, dice, tversky.
        class_weights: with mean 1.
        path: ``batched`` or ``triton``.
        more: further terms with their weights.
        points: a term named ``point``, if :meth:`PointTerm.can_join`; with ``batched`` and without ``more`` only.
    """
    batch, classes, height, width = logits.shape
    assert len(class_weights) == classes
    dtype = accumulation_dtype(logits)
    if dtype == torch.float64:
        path = "batched"  # kernels compute in float32
    more = more or {}
    further = tuple(weight for weight, _ in more.values())
    at: tuple[Tensor | None, Tensor | None] = None, None
    extra = None
    if points is not None:
        at = points.logits, points.coords
        extra = PointOptions(points.weight, points.dice_weight, points.logits.shape[2], (height, width), logits.dtype)
    pixels = height * width
    plan = make_plan(weights, options, further, class_weights, batch, pixels, logits.device, dtype, extra)
    total, *values = _BatchLoss.apply(logits, *at, planes, plan, path, tuple(term for _, term in more.values()))
    names = *plan.names, "_dice", *more, *(() if points is None else ("point",))
    terms = dict(zip(names, values, strict=True))
    return BatchLoss(total, dice=terms.pop("_dice"), terms=terms)


class _BatchLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        at: Tensor | None,
        coords: Tensor | None,
        planes: Tensor,
        plan: Plan,
        path: Path,
        more: tuple[MapTerm, ...],
    ) -> tuple[Tensor, ...]:
        kernels = _kernels(path)
        # Triton launches on the current device, which device=cuda:1 does not set
        with torch.autocast(logits.device.type, enabled=False), torch.cuda.device_of(logits):
            if at is not None:
                logits, planes = kernels.with_points(logits, planes, at, coords, plan)
            found, source = kernels.map_values(logits, planes, plan)
            saved, parts = [], []
            for term, factors in zip(more, plan.more, strict=True):
                part, own = term.forward(logits, source, found.truth, factors)
                parts.append(part)
                saved.append(own)
            total, values = kernels.add_up(found, parts, plan)
        if any(ctx.needs_input_grad):
            ctx.plan, ctx.path = plan, path
            ctx.more = [(term, len(own)) for term, own in zip(more, saved, strict=True)]
            ctx.save_for_backward(logits, source, found.rates, *(tensor for own in saved for tensor in own))
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*values)
        return total, *values

    @staticmethod
    @once_differentiable  # a second derivative would be wrong without an error
    def backward(ctx: Any, upstream: Tensor | None, *_: Tensor) -> tuple[Tensor | None, ...]:
        if upstream is None:
            return (None,) * 7
        logits, source, rates, *rest = ctx.saved_tensors
        kernels = _kernels(ctx.path)
        gradient = kernels.map_gradient(logits, source, ctx.plan, rates, upstream, flat=bool(ctx.more))
        for term, count in ctx.more:
            own, rest = tuple(rest[:count]), rest[count:]
            term.backward(gradient, own, upstream)
        if ctx.plan.points is None:
            return gradient.to(logits.dtype), *(None,) * 6
        parts = (_by_itself(part, logits.dtype) for part in kernels.without_points(gradient, ctx.plan))
        return *parts, *(None,) * 5


def _by_itself(part: Tensor, dtype: torch.dtype) -> Tensor:
    """A contiguous copy of part of a tensor, as what comes next wants it, in one pass."""
    if part.dtype == dtype:
        return part.contiguous()
    return part.to(dtype, memory_format=torch.contiguous_format)


def _kernels(path: Path) -> ModuleType:
    """The passes over all pixels, by PyTorch's operations or by Triton's kernels, imported when they are first used.

    ``map_values`` returns :class:`.finish.Finished`, and the truth in the form that ``map_gradient`` needs. With
    ``flat`` the gradient is contiguous. ``add_up`` returns the loss and all terms. Only PyTorch's takes points with the
    map: to a kernel they are a map of one row, at few launches.
    """
    return import_module(f".pixel_region_{path}", __package__)
