"""Pixels of masks on the device: shared, true and predicted, as `mask_counts` has them of submissions."""

import torch
from torch import Tensor

from ..config.loss import Head
from ..masks.planes_torch import chunks, label_map, unpack


def counts_of_logits(logits: Tensor, planes: Tensor, head: Head) -> Tensor:
    """int64[B, 3, C + 1]: pixels of each class, then of the background, in both, in the truth and in the prediction.

    Args:
        logits: float[B, C, H, W] of sigmoids, of which classes above 0 are predicted; of a softmax float[B, 1 + C, H,
            W], of which the likeliest is.
        planes: uint8[B, P, H, W].
    """
    parts = []
    if head == "softmax":
        guess, truth, channels = logits.argmax(1), label_map(planes), logits.shape[1]
        for channel in (*range(1, channels), 0):
            parts.append(_counted(truth == channel, guess == channel))
        return torch.stack(parts, 2)
    some = [torch.zeros_like(logits[:, 0], dtype=torch.bool) for _ in range(2)]  # of the truth and the prediction
    for part in chunks(logits.shape[1]):
        truth, guess = unpack(planes, part), logits[:, part] > 0
        some = [before | found.any(1) for before, found in zip(some, (truth, guess), strict=True)]
        parts += [_counted(truth[:, c], guess[:, c]) for c in range(truth.shape[1])]
    parts.append(_counted(~some[0], ~some[1]))
    return torch.stack(parts, 2)


def _counted(truth: Tensor, guess: Tensor) -> Tensor:
    """int64[B, 3] of two masks bool[B, H, W]."""
    return torch.stack([one.sum((1, 2)) for one in (truth & guess, truth, guess)], 1)
