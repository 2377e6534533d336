"""BCE and soft Dice at PointRend's sampled points."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..masks.planes_torch import pick_points, sample_points
from .batch_loss import batch_loss
from .paths import Path
from .pixel_region import DEFAULTS, SMOOTH


def point_loss(
    logits: Tensor, coords: Tensor, planes: Tensor, class_weights: Tensor | None = None, dice_weight: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Loss of a point head, float[], and its detached parts float32[B, C].

    Args:
        logits: float[B, C, N], predicted at the points.
        coords: float[B, N, 2] in 0..1.
        planes: bit-planes uint8[B, P, H, W] of the ground truth.
        class_weights: float[C] with mean 1; None: all are 1.
        dice_weight: of soft Dice over the N points of an image and class. The rest is BCE, the paper's loss.
    """
    logits = logits.float()
    truth = sample_points(planes, coords, logits.shape[1]).to(logits.dtype)
    parts = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(2)
    if dice_weight:
        probability = logits.sigmoid()
        intersection, total = (probability * truth).sum(2), probability.sum(2) + truth.sum(2)
        dice_loss = 1 - (2 * intersection + SMOOTH) / (total + SMOOTH)
        parts = (1 - dice_weight) * parts + dice_weight * dice_loss
    return (parts if class_weights is None else parts * class_weights.to(parts)).mean(), parts.detach()


def batched_point_loss(
    logits: Tensor,
    coords: Tensor,
    planes: Tensor,
    class_weights: tuple[float, ...],
    dice_weight: float = 0.0,
    path: Path = "batched",
) -> tuple[Tensor, Tensor]:
    """As :func:`point_loss`, by the passes over maps: points are a map of one row. PyTorch's
    operations rather compute them with the image's map, if :class:`.batch_loss.PointTerm` can join it."""
    weights = {name: weight for name, weight in (("bce", 1 - dice_weight), ("dice", dice_weight)) if weight}
    picked = pick_points(planes, coords)
    found = batch_loss(logits[:, :, None], picked, weights, DEFAULTS, class_weights, path)
    terms = list(found.terms.values())
    return found.total, terms[0] if len(terms) == 1 else torch.lerp(terms[0], terms[1], dice_weight)
