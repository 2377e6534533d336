"""BCE and soft Dice at PointRend's sampled points."""

import torch.nn.functional as F
from torch import Tensor

from ..masks.planes_torch import sample_points
from .pixel_region import SMOOTH


def point_loss(
    logits: Tensor, coords: Tensor, planes: Tensor, factors: Tensor | None = None, dice: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Loss of logits[B, C, N] predicted at coords[B, N, 2] in 0..1, float[], and its detached parts float32[B, C].

    Args:
        planes: bit-planes uint8[B, P, H, W] of the truth.
        factors: float[C] of the classes in the mean, their own mean 1.
        dice: share of soft Dice over the N points of an image and class; the rest is BCE, the paper's loss.
    """
    logits = logits.float()
    truth = sample_points(planes, coords, logits.shape[1]).to(logits.dtype)
    parts = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(2)
    if dice:
        sure = logits.sigmoid()
        shared, total = (sure * truth).sum(2), sure.sum(2) + truth.sum(2)
        parts = (1 - dice) * parts + dice * (1 - (2 * shared + SMOOTH) / (total + SMOOTH))
    return (parts if factors is None else parts * factors.to(parts)).mean(), parts.detach()
