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
from .plan import Plan, make_plan


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
) -> BatchLoss:
    """Weighted sum of terms, mean over images and classes.

    Args:
        logits: float[B, C, H, W].
        planes: bit-planes uint8[B, P, H, W] of the ground truth.
        weights: of bce, focal, dice, tversky.
        class_weights: with mean 1.
        path: ``batched`` or ``triton``.
        more: further terms with their weights.
    """
    batch, classes, height, width = logits.shape
    assert len(class_weights) == classes
    dtype = accumulation_dtype(logits)
    if dtype == torch.float64:
        path = "batched"  # kernels compute in float32
    more = more or {}
    further = tuple(weight for weight, _ in more.values())
    plan = make_plan(weights, options, further, class_weights, batch, height * width, logits.device, dtype)
    total, values, *parts = _BatchLoss.apply(logits, planes, plan, path, tuple(term for _, term in more.values()))
    *terms, dice = values.unbind()
    return BatchLoss(total, dict(zip([*plan.names, *more], [*terms, *parts], strict=True)), dice)


class _BatchLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, planes: Tensor, plan: Plan, path: Path, more: tuple[MapTerm, ...]
    ) -> tuple[Tensor, ...]:
        # Triton launches on the current device, which device=cuda:1 does not set
        with torch.autocast(logits.device.type, enabled=False), torch.cuda.device_of(logits):
            (total, truth, values, rates), source = _kernels(path).map_losses(logits, planes, plan)
            saved, parts = [], []
            for term, factors in zip(more, plan.more, strict=True):
                part, own = term.forward(logits, source, truth, factors)
                value = (part * factors).sum(dtype=values.dtype)
                total = value if total is None else total + value
                parts.append(part.view(logits.shape[:2]).to(values.dtype))
                saved.append(own)
        if ctx.needs_input_grad[0]:
            ctx.plan, ctx.path = plan, path
            ctx.more = [(term, len(own)) for term, own in zip(more, saved, strict=True)]
            ctx.save_for_backward(logits, source, rates, *(tensor for own in saved for tensor in own))
        if total is None:  # no terms: the hard Dice alone
            total = torch.zeros_like(plan.one)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(values, *parts)
        return total, values, *parts

    @staticmethod
    @once_differentiable  # a second derivative would be wrong without an error
    def backward(ctx: Any, upstream: Tensor | None, *_: Tensor) -> tuple[Tensor | None, ...]:
        if upstream is None:
            return (None,) * 5
        logits, source, rates, *rest = ctx.saved_tensors
        gradient = _kernels(ctx.path).map_gradient(logits, source, ctx.plan, rates, upstream, flat=bool(ctx.more))
        for term, count in ctx.more:
            own, rest = tuple(rest[:count]), rest[count:]
            term.backward(gradient, own, upstream)
        return gradient.to(logits.dtype), None, None, None, None


def _kernels(path: Path) -> ModuleType:
    """The passes over all pixels, by PyTorch's operations or by Triton's kernels, imported when they are first used.

    ``map_losses`` returns :class:`.plan.Finished`, and the truth in the form that ``map_gradient`` needs. With ``flat``
    the gradient is contiguous.
    """
    return import_module(f".pixel_region_{path}", __package__)
