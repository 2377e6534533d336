"""Boundary loss: predictions weighted by their distance to the true outline (Kervadec et al., 2019).

Distances vary slowly, so they are made on the host from planes sampled to at most 512 pixels a side, one image at a
time, and enlarged class by class where they are used: nothing of classes x full size is ever held.
"""

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .fused_autograd import explicit, wide

GRID = 512  # longest side on which distances are measured
CHAMFER = cv2.DIST_MASK_5  # within 2% of the Euclidean distance; the exact transform takes three times as long


def boundary_loss(logits: Tensor, planes: Tensor, factors: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean over images and classes of mean(sigmoid * signed distance), float[], and its detached parts float32[B, C].

    The distance is a share of the image's long side, negative inside, so the loss is negative for good predictions.
    Classes that are absent, or fill the image, have no outline and add nothing.

    Args:
        logits: float[B, C, H, W].
        planes: bit-planes uint8[B, P, H, W] of the truth.
        factors: float[C] of the classes in the mean, their own mean 1.
    """
    loss, parts = explicit(logits, lambda x, g: add_boundary(x, planes, 1.0, factors, g))
    return loss, parts


def add_boundary(
    logits: Tensor, planes: Tensor, weight: float, factors: Tensor | None, gradient: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Weighted loss and unweighted parts; adds to ``gradient`` as ``explicit`` wants it."""
    batch, classes, height, width = logits.shape
    dtype, pixels, step = wide(logits), height * width, stride(height, width)
    parts = torch.zeros(batch, classes, dtype=dtype, device=logits.device)
    factors = torch.ones_like(parts[0]) if factors is None else factors.to(parts)
    for b in range(batch):
        distances = signed_distances(planes[b].cpu().numpy(), classes)
        coarse = torch.from_numpy(distances).to(logits.device)
        for c in range(classes):
            far = F.interpolate(coarse[None, c : c + 1].to(dtype), scale_factor=step, mode="bilinear")
            far = far[0, 0, :height, :width]
            s = torch.sigmoid(logits[b, c].to(dtype))
            product = s * far
            parts[b, c] = product.sum() / pixels
            if gradient is not None:  # ds/dx = s (1 - s)
                product.addcmul_(product, s, value=-1).mul_(weight * factors[c] / (pixels * batch * classes))
                gradient[b, c] += product
    return weight * (parts * factors).mean(), parts


def stride(height: int, width: int) -> int:
    """Pixels of the full grid to one of the grid of distances."""
    return -(-max(height, width) // GRID)


def signed_distances(planes: np.ndarray, classes: int) -> np.ndarray:
    """Distance float32[C, h, w] to each class's outline, negative inside, as a share of the long side.

    Zero for a class that is absent or fills everything. Pixels are those in the middle of blocks of ``stride``; a
    class too small to be met by them is taken as the blocks that hold any of it.

    Args:
        planes: bit-planes uint8[P, H, W].
    """
    height, width = planes.shape[1:]
    step = stride(height, width)
    rows, columns = (np.minimum(np.arange(0, side, step) + step // 2, side - 1) for side in (height, width))
    coarse = planes[:, rows[:, None], columns]
    found = np.zeros((classes, len(rows), len(columns)), np.float32)
    for c in range(classes):
        inside = (coarse[c // 8] >> (c % 8)) & 1
        if not inside.any():
            y, x = np.nonzero(planes[c // 8] & (1 << (c % 8)))
            inside[y // step, x // step] = 1
        if inside.all() or not inside.any():
            continue
        left, top, across, down = cv2.boundingRect(inside)
        # one pixel more on each side holds all the background that can be nearest to a pixel inside
        box = np.s_[max(top - 1, 0) : top + down + 1, max(left - 1, 0) : left + across + 1]
        far = cv2.distanceTransform(1 - inside, cv2.DIST_L2, CHAMFER)
        depth = cv2.distanceTransform(np.ascontiguousarray(inside[box]), cv2.DIST_L2, CHAMFER)
        # the outline runs between pixels: half a pixel from the nearest on the other side
        far[box] = np.where(inside[box] > 0, 0.5 - depth, far[box])
        found[c] = np.where(inside > 0, far, far - 0.5)
    found *= step / max(height, width)
    return found
