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
        pixels, maps = height * width, batch * classes
        wide = torch.promote_types(logits.dtype, torch.float32)
        gradient = torch.empty_like(logits, memory_format=torch.contiguous_format) if ctx.needs_input_grad[0] else None
        bce_all, dice_all, hard = (torch.empty(batch, classes, dtype=wide, device=logits.device) for _ in range(3))
        # one image and one plane at a time: what is held stays in a CPU's cache, and is small beside a GPU's logits
        for b in range(batch):
            for part in chunks(classes):
                x = logits[b, part].reshape(-1, pixels).to(wide)
                y = unpack(planes[b : b + 1], part).view(-1, pixels).to(wide)
                s = torch.sigmoid(x)
                truth_size = y.sum(1)
                bce_all[b, part] = (F.softplus(x).sum(1) - (x * y).sum(1)) / pixels
                inner = (s * y).sum(1)
                sizes = s.sum(1) + truth_size + SMOOTH
                dice_all[b, part] = 1 - (2 * inner + SMOOTH) / sizes
                # counts in floats: exact up to 2^24 pixels, and quicker than sums of bool
                guess = (x > 0).to(wide)
                either = guess.sum(1) + truth_size
                hard[b, part] = torch.where(either > 0, 2 * (guess * y).sum(1) / either.clamp(min=1), 1.0)
                if gradient is not None:
                    # d bce/dx = (s - y)/pixels;  d dice/ds = ((2 inner + 1)/sizes - 2 y)/sizes;  ds/dx = s - s^2
                    slope = torch.addcmul(s, s, s, value=-1)
                    slope *= torch.sub(((2 * inner + SMOOTH) / sizes)[:, None], y, alpha=2)
                    slope *= (dice / (sizes * maps))[:, None]
                    slope.add_(s.sub_(y), alpha=bce / (pixels * maps))
                    gradient[b, part] = slope.view(-1, height, width)
        if gradient is not None:
            ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(bce_all, dice_all, hard)
        return (bce * bce_all + dice * dice_all).mean(), bce_all, dice_all, hard

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        if not gradient.is_cuda and upstream[0] == 1:  # the usual case, which a GPU would have to wait to know
            return gradient, None, None, None
        return gradient * upstream[0].to(gradient.dtype), None, None, None


def bce_reference(logits: Tensor, target: Tensor) -> Tensor:
    """BCE float[B, C] per image and class from logits and float targets [B, C, H, W], in plain PyTorch."""
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((2, 3))


def dice_reference(logits: Tensor, target: Tensor) -> Tensor:
    """Soft Dice loss float[B, C] per image and class from logits and float targets [B, C, H, W]."""
    s = torch.sigmoid(logits)
    inner = (s * target).sum((2, 3))
    return 1 - (2 * inner + SMOOTH) / (s.sum((2, 3)) + target.sum((2, 3)) + SMOOTH)
