"""BCE at PointRend's sampled points."""

import torch.nn.functional as F
from torch import Tensor

from .bits import bits_at


def point_loss(logits: Tensor, coords: Tensor, planes: Tensor, factors: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean BCE of logits[B, C, N] predicted at coords[B, N, 2] in 0..1, and its detached parts float32[B, C].

    planes: bit-planes uint8[B, P, H, W] of the truth. factors: float[C] of the classes in the mean, their own mean 1.
    """
    truth = bits_at(planes, coords, logits.shape[1])
    logits = logits.float()
    parts = F.binary_cross_entropy_with_logits(logits, truth.to(logits.dtype), reduction="none").mean(2)
    return (parts if factors is None else parts * factors.to(parts)).mean(), parts.detach()
