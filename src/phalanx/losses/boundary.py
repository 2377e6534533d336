"""Boundary loss: predictions weighted by their distance to the true outline (Kervadec et al., 2019).

Distances vary slowly. So they are computed on the CPU, one image at a time, from planes subsampled to at most 512
pixels on a side, and upsampled class by class. No array of classes x full size is ever held. A GPU measures the
distances of all masks at once (:mod:`.boundary_batched`).
"""

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .fused_autograd import ClassLoss, accumulation_dtype, add_class_losses, fused_loss

DISTANCE_SIDE = 512  # longest side, in pixels, of the maps on which distances are measured
CHAMFER = cv2.DIST_MASK_5  # within 2% of the Euclidean distance; the exact transform takes three times as long


def boundary_loss(logits: Tensor, planes: Tensor, class_weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean over images and classes of mean(sigmoid * signed distance), float[], and its detached parts float32[B, C].

    The distance is a fraction of the image's long side and negative inside, so good predictions have a negative loss.
    Classes that are absent, or fill the image, have no outline and add nothing.

    Args:
        logits: float[B, C, H, W].
        planes: bit-planes uint8[B, P, H, W] of the ground truth.
        class_weights: float[C] with mean 1; None: all are 1.
    """
    loss, parts = fused_loss(logits, lambda x, g: add_boundary(x, planes, 1.0, class_weights, g))
    return loss, parts


def add_boundary(
    logits: Tensor, planes: Tensor, weight: float, class_weights: Tensor | None, gradient: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Weighted loss and unweighted parts; adds to ``gradient`` as a :data:`LossFunction` does."""
    classes, height, width = logits.shape[1:]
    dtype, pixels, step = accumulation_dtype(logits), height * width, stride(height, width)

    def losses_of_image(b: int) -> ClassLoss:
        coarse = torch.from_numpy(signed_distances(planes[b].cpu().numpy(), classes)).to(logits.device)

        def class_loss(c: int, grad: Tensor | None, scale: Tensor) -> Tensor:
            distance = F.interpolate(coarse[None, c : c + 1].to(dtype), scale_factor=step, mode="bilinear")
            s = torch.sigmoid(logits[b, c].to(dtype))
            product = s * distance[0, 0, :height, :width]
            loss = product.sum() / pixels
            if grad is not None:  # ds/dx = s (1 - s)
                grad += product.addcmul_(product, s, value=-1).mul_(scale)
            return loss

        return class_loss

    return add_class_losses(logits, losses_of_image, weight, class_weights, gradient, pixels=pixels)


def stride(height: int, width: int) -> int:
    """Pixels of the full size per pixel of the distance map."""
    return -(-max(height, width) // DISTANCE_SIDE)


def signed_distances(planes: np.ndarray, classes: int) -> np.ndarray:
    """Distance float32[C, h, w] to each class's outline, negative inside, as a fraction of the long side.

    Zero for a class that is absent or fills the image. Planes are sampled at the middle of blocks of ``stride``
    pixels. A class that no sample hits is represented by the blocks that contain any of it.

    Args:
        planes: bit-planes uint8[P, H, W].
    """
    height, width = planes.shape[1:]
    step = stride(height, width)
    rows, columns = (np.minimum(np.arange(0, side, step) + step // 2, side - 1) for side in (height, width))
    coarse = planes[:, rows[:, None], columns]
    distances = np.zeros((classes, len(rows), len(columns)), np.float32)
    for c in range(classes):
        inside = (coarse[c // 8] >> (c % 8)) & 1
        if not inside.any():
            y, x = np.nonzero(planes[c // 8] & (1 << (c % 8)))
            inside[y // step, x // step] = 1
        if inside.all() or not inside.any():
            continue
        left, top, across, down = cv2.boundingRect(inside)
        # with one pixel more on each side, the box contains the nearest background of every pixel inside
        box = np.s_[max(top - 1, 0) : top + down + 1, max(left - 1, 0) : left + across + 1]
        outward = cv2.distanceTransform(1 - inside, cv2.DIST_L2, CHAMFER)
        inward = cv2.distanceTransform(np.ascontiguousarray(inside[box]), cv2.DIST_L2, CHAMFER)
        # the outline runs between pixels: half a pixel from the nearest one on the other side
        outward[box] = np.where(inside[box] > 0, 0.5 - inward, outward[box])
        distances[c] = np.where(inside > 0, outward, outward - 0.5)
    distances *= step / max(height, width)
    return distances
