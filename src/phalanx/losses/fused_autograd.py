"""Losses that compute their gradient in the forward pass, all into one buffer next to the logits."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# (logits, gradient or None) to (loss, reports ...); adds d loss / d logits to the gradient if there is one
LossFunction = Callable[[Tensor, Tensor | None], tuple[Tensor, ...]]
# (class, its gradient [H, W] or None, scale) to the class's loss float[]; adds scale * d loss / d logits
ClassLoss = Callable[[int, Tensor | None, Tensor], Tensor]


def fused_loss(logits: Tensor, function: LossFunction) -> tuple[Tensor, ...]:
    """The values of ``function``: a loss that backpropagates the gradient it wrote, and detached reports.

    Reductions and the gradient are float32 or wider, whatever the logits are. A gradient of 1 / pixels vanishes in
    half precision and comes back only with the loss scaler's factor.
    """
    return _FusedLoss.apply(logits, function)


def accumulation_dtype(logits: Tensor) -> torch.dtype:
    """The type of sums and gradients: float32, or float64 for float64 logits."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def add_class_losses(
    logits: Tensor,
    losses_of_image: Callable[[int], ClassLoss],
    weight: float,
    class_weights: Tensor | None,
    gradient: Tensor | None,
    *,
    pixels: int = 1,
) -> tuple[Tensor, Tensor]:
    """A loss computed per image and class: its weighted mean, float[], and the unweighted parts float32[B, C].

    Args:
        logits: float[B, C, H, W].
        losses_of_image: from the number of an image to the loss of its classes.
        class_weights: float[C] with mean 1; None: all are 1.
        gradient: as in :data:`LossFunction`.
        pixels: further divisor of the gradient, for class losses that are a mean over pixels.
    """
    batch, classes = logits.shape[:2]
    parts = torch.zeros(batch, classes, dtype=accumulation_dtype(logits), device=logits.device)
    class_weights = torch.ones_like(parts[0]) if class_weights is None else class_weights.to(parts)
    scale = weight * class_weights / (pixels * batch * classes)
    for b in range(batch):
        class_loss = losses_of_image(b)
        for c in range(classes):
            parts[b, c] = class_loss(c, None if gradient is None else gradient[b, c], scale[c])
    return weight * (parts * class_weights).mean(), parts


class _FusedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, function: LossFunction) -> tuple[Tensor, ...]:
        gradient = None
        if ctx.needs_input_grad[0]:
            gradient = torch.zeros(logits.shape, dtype=accumulation_dtype(logits), device=logits.device)
        with torch.autocast(logits.device.type, enabled=False):
            loss, *reports = function(logits, gradient)
        if gradient is not None:
            ctx.save_for_backward(gradient)
            ctx.dtype = logits.dtype
        ctx.mark_non_differentiable(*reports)
        return loss, *reports

    @staticmethod
    @once_differentiable  # a second derivative would be wrong without an error
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        if gradient.dtype == ctx.dtype and not gradient.is_cuda and upstream[0] == 1:
            return gradient, None  # the usual case; to test for it on a GPU would wait for the GPU
        return (gradient * upstream[0]).to(ctx.dtype), None
