"""Lovasz hinge, exact: per image and class, on the pixels inside the margin, with integer-count gradients.

Berman et al., "The Lovasz-Softmax loss", 2018, binary hinge. The usual code differences neighbouring Jaccard
values in float32, which cancels most digits at millions of pixels; here each step of the sorted errors has its
closed form: with I foreground pixels still right and U pixels in the union before the step, a foreground pixel
adds 1/U and a background pixel I/(U (U + 1)), from integer counts.
"""

from typing import Any

import torch
from torch import Tensor

from .bits import unpack


def lovasz_loss(logits: Tensor, planes: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over images and classes of the Lovasz hinge, float[], and its detached parts float32[B, C].

    Args:
        logits: float[B, C, H, W].
        planes: bit-planes uint8[B, P, H, W] of the truth.
    """
    return _Lovasz.apply(logits, planes)


class _Lovasz(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, planes: Tensor) -> tuple[Tensor, Tensor]:
        batch, classes = logits.shape[:2]
        wide = torch.promote_types(logits.dtype, torch.float32)
        parts = torch.zeros(batch, classes, dtype=wide, device=logits.device)
        gradient = torch.zeros_like(logits)
        for c in range(classes):
            truth = unpack(planes, slice(c, c + 1))[:, 0].flatten(1)
            flat = logits[:, c].flatten(1).to(wide)
            for b in range(batch):
                parts[b, c], steps, active, signs = _one(flat[b], truth[b])
                slope = torch.zeros_like(flat[b])
                slope[active] = (-signs * steps / (batch * classes)).to(wide)
                gradient[b, c] = slope.view(logits.shape[2:])
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(parts)
        return parts.mean(), parts

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream[0].to(gradient.dtype), None


def _one(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss, steps, active pixels and signs of one mask: logits float[N], truth bool[N]."""
    signs = torch.where(y, 1.0, -1.0).to(x.dtype)
    errors = 1 - x * signs
    active = (errors > 0).nonzero()[:, 0]  # the others add nothing to value or gradient
    errors, order = errors[active].sort(descending=True, stable=True)
    active = active[order]
    steps = jaccard_steps(y[active], int(y.sum()))
    return (errors.double() * steps).sum().to(x.dtype), steps, active, signs[active]


def jaccard_steps(truth: Tensor, positives: int) -> Tensor:
    """What each sorted error adds to the Jaccard loss, float64[N], from truth bool[N] in the sorted order.

    Args:
        positives: foreground pixels of the whole mask, those without error included.

    A mask without foreground is wrong altogether at its first false pixel: that step is 1, the rest 0.
    """
    after = truth.cumsum(0)
    right = positives - (after - truth.long())  # I before the step
    union = positives + torch.arange(len(truth), device=truth.device) - (after - truth.long())  # U before it
    # .double() on both: a whole number divided by a whole number would be float32
    gain = torch.where(truth, 1 / union.clamp(min=1).double(), right / (union * (union + 1)).clamp(min=1).double())
    if positives == 0 and len(truth):
        gain = torch.zeros_like(gain)
        gain[0] = 1
    return gain
