"""BCE and soft Dice in one pass, reduced per image and class, with a hand-written backward.

One sigmoid serves both terms; the gradient is made in the forward pass, a few classes at a time, so beside the
logits only their gradient is kept. The reference forms in plain PyTorch below are what tests compare with.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .bits import chunks, unpack

SMOOTH = 1.0  # pixels added above and below in soft Dice: an absent class costs what is predicted of it


class Area(NamedTuple):
    """``loss``: weighted mean over images and classes, float[]; the rest detached, float32[B, C] each.

    ``dice_hard`` is the Dice of ``logits > 0``, 1 where truth and prediction are both empty.
    """

    loss: Tensor
    bce: Tensor
    dice: Tensor
    dice_hard: Tensor


def area_loss(logits: Tensor, planes: Tensor, *, bce: float, dice: float) -> Area:
    """Weighted sum of BCE and soft Dice (Milletari et al., 2016) of sigmoid classes.

    Args:
        logits: float[B, C, H, W].
        planes: bit-planes uint8[B, P, H, W] of the truth.
        bce, dice: weights of the terms; 0 leaves a term out of the loss, not out of the report.
    """
    loss, *parts = _Area.apply(logits, planes, bce, dice)
    return Area(loss, *parts)


class _Area(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, planes: Tensor, bce: float, dice: float) -> tuple[Tensor, ...]:
        batch, classes, height, width = logits.shape
        pixels = height * width
        wide = torch.promote_types(logits.dtype, torch.float32)
        gradient = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        bce_parts, dice_parts, hard_parts = [], [], []
        for part in chunks(classes):
            x = logits[:, part].to(wide)
            truth = unpack(planes, part)
            y = truth.to(wide)
            s = torch.sigmoid(x)
            # softplus(x) - x y = -log(1 - s) - x y, from whichever side keeps its digits
            bce_parts.append((F.softplus(x) - x * y).mean((2, 3)))
            inner = (s * y).sum((2, 3))
            sizes = s.sum((2, 3)) + y.sum((2, 3)) + SMOOTH
            dice_parts.append(1 - (2 * inner + SMOOTH) / sizes)
            guess = x > 0
            both = (guess & truth).sum((2, 3))
            either = guess.sum((2, 3)) + truth.sum((2, 3))
            hard_parts.append(torch.where(either > 0, 2 * both / either.clamp(min=1), 1.0).float())
            if gradient is not None:
                # d bce/dx = (s - y)/pixels;  d dice/ds = ((2 inner + 1)/sizes - 2 y)/sizes;  ds/dx = s (1 - s)
                slope = ((2 * inner + SMOOTH) / sizes)[:, :, None, None] - 2 * y
                slope *= s * (1 - s)
                slope *= (dice / sizes)[:, :, None, None]
                slope.add_(s.sub_(y), alpha=bce / pixels)
                gradient[:, part] = slope / (batch * classes)
        bce_all, dice_all = torch.cat(bce_parts, 1), torch.cat(dice_parts, 1)
        hard = torch.cat(hard_parts, 1)
        if gradient is not None:
            ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(bce_all, dice_all, hard)
        return (bce * bce_all + dice * dice_all).mean(), bce_all, dice_all, hard

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream[0].to(gradient.dtype), None, None, None


def bce_reference(logits: Tensor, target: Tensor) -> Tensor:
    """BCE float[B, C] per image and class from logits and float targets [B, C, H, W], in plain PyTorch."""
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((2, 3))


def dice_reference(logits: Tensor, target: Tensor) -> Tensor:
    """Soft Dice loss float[B, C] per image and class from logits and float targets [B, C, H, W]."""
    s = torch.sigmoid(logits)
    inner = (s * target).sum((2, 3))
    return 1 - (2 * inner + SMOOTH) / (s.sum((2, 3)) + target.sum((2, 3)) + SMOOTH)
