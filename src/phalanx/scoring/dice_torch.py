"""Hard Dice on the device. The definition is that of scoring (``scoring.score``), and tests hold it to that."""

import torch
from torch import Tensor

from ..masks.dice_torch import dice_from_counts
from ..masks.planes_torch import chunks, unpack


def hard_dice(logits: Tensor, planes: Tensor, threshold: float = 0.0) -> Tensor:
    """Dice float32[B, C] of ``logits > threshold`` against bit-planes; 1 if both are empty.

    Args:
        logits: float[B, C, H, W].
        planes: uint8[B, P, H, W].
    """
    parts = []
    for part in chunks(logits.shape[1]):
        guess, truth = logits[:, part] > threshold, unpack(planes, part)
        both = (guess & truth).sum((2, 3))
        either = guess.sum((2, 3)) + truth.sum((2, 3))
        parts.append(dice_from_counts(both, either).float())
    return torch.cat(parts, 1)
