"""Dice from counts of pixels, computed in torch here alone."""

import torch
from torch import Tensor


def dice_from_counts(shared: Tensor, total: Tensor) -> Tensor:
    """Dice float[...] of masks that share ``shared`` pixels and have ``total`` pixels together; 1 if both are empty.

    Args:
        shared: |A and B|, of any shape; integers or floats.
        total: |A| + |B|, of the same shape.
    """
    return torch.where(total > 0, 2 * shared / total.clamp(min=1), 1.0)
