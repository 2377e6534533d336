"""Losses that write their gradient themselves, all into one buffer beside the logits."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# (logits, gradient or None) to (loss, reports ...): adds d loss / d logits to the gradient, where there is one
Work = Callable[[Tensor, Tensor | None], tuple[Tensor, ...]]


def explicit(logits: Tensor, work: Work) -> tuple[Tensor, ...]:
    """What ``work`` returns, its first tensor tied to ``logits`` by the gradient that it wrote, the others detached.

    Reductions and their gradient are float32 at least, whatever the logits are: a step of 1 / pixels vanishes in
    half precision, and only comes back with the loss scaler's factor.
    """
    return _Explicit.apply(logits, work)


def wide(logits: Tensor) -> torch.dtype:
    """float32, or float64 for such logits."""
    return torch.promote_types(logits.dtype, torch.float32)


class _Explicit(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, work: Work) -> tuple[Tensor, ...]:
        gradient = None
        if ctx.needs_input_grad[0]:
            gradient = torch.zeros(logits.shape, dtype=wide(logits), device=logits.device)
        with torch.autocast(logits.device.type, enabled=False):
            loss, *reports = work(logits, gradient)
        if gradient is not None:
            ctx.save_for_backward(gradient)
            ctx.dtype = logits.dtype
        ctx.mark_non_differentiable(*reports)
        return loss, *reports

    @staticmethod
    @once_differentiable  # a second derivative would silently be wrong
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        if gradient.dtype == ctx.dtype and not gradient.is_cuda and upstream[0] == 1:
            return gradient, None  # the usual case, which a GPU would have to wait to know
        return (gradient * upstream[0]).to(ctx.dtype), None
