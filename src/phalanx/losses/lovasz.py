"""Lovasz hinge, exact: per image and class, on the pixels inside the margin, with integer-count gradients.

Berman et al., "The Lovasz-Softmax loss", 2018, binary hinge. The usual code differences neighbouring Jaccard
values in float32, which cancels most digits at millions of pixels; here each step of the sorted errors has its
closed form: with I foreground pixels still right and U pixels in the union before the step, a foreground pixel
adds 1/U and a background pixel I/(U (U + 1)), from integer counts.
"""

import numpy as np
import torch
from torch import Tensor

from .fused_autograd import explicit, wide


def lovasz_loss(logits: Tensor, planes: Tensor, factors: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean over images and classes of the Lovasz hinge, float[], and its detached parts float32[B, C].

    Args:
        logits: float[B, C, H, W].
        planes: bit-planes uint8[B, P, H, W] of the truth.
        factors: float[C] of the classes in the mean, their own mean 1.
    """
    loss, parts = explicit(logits, lambda x, g: add_lovasz(x, planes, 1.0, factors, g))
    return loss, parts


def add_lovasz(
    logits: Tensor, planes: Tensor, weight: float, factors: Tensor | None, gradient: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Weighted loss and unweighted parts; adds to ``gradient`` as ``explicit`` wants it."""
    batch, classes = logits.shape[:2]
    parts = torch.zeros(batch, classes, dtype=wide(logits), device=logits.device)
    factors = torch.ones_like(parts[0]) if factors is None else factors.to(parts)
    scale = weight * factors / (batch * classes)
    for b in range(batch):
        for c in range(classes):
            truth = ((planes[b, c // 8] >> (c % 8)) & 1).reshape(-1)
            parts[b, c], steps, active, signs = _one(logits[b, c].reshape(-1), truth)
            if gradient is not None:
                gradient[b, c].view(-1)[active] += (steps * scale[c]).to(parts.dtype) * signs
    return weight * (parts * factors).mean(), parts


TILE = 1 << 16  # pixels searched at a time: what is held beside the active ones stays in a CPU's cache


def _one(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss, steps, active pixels and signs (1 where the truth is 0, else -1) of one mask: float[N], uint8[N]."""
    dtype, found = wide(x), []
    step = TILE if x.device.type == "cpu" else len(x)
    one = torch.ones((), dtype=dtype, device=x.device)
    for first in range(0, len(x), step):
        truth = y[first : first + step]
        errors = torch.addcmul(one, x[first : first + step].to(dtype), torch.rsub(truth.to(dtype), 1, alpha=2))
        active = errors.clamp_(min=0).nonzero()[:, 0]  # the others add nothing; one that is no number stays to be seen
        found.append((errors[active], active + first, truth[active]))
    errors, active, truth = _descending(*(torch.cat(column) for column in zip(*found, strict=True)))
    steps = jaccard_steps(truth, int(y.sum()))
    return (errors.double() * steps).sum().to(dtype), steps, active, torch.rsub(truth.to(dtype), 1, alpha=2)


def _descending(errors: Tensor, pixels: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three sorted by errors (positive), the largest first, equal ones by pixel."""
    if errors.device.type == "cpu" and errors.dtype == torch.float32:
        # bits of positive floats sort as integers, so one number holds all three, and numpy sorts those many times as
        # fast as torch sorts floats with their indices
        keys = (~errors.numpy().view(np.uint32)).astype(np.uint64) << np.uint64(32)
        keys |= (2 * pixels + truth).numpy().view(np.uint64)
        keys.sort()
        low = keys.astype(np.uint32)
        errors = torch.from_numpy((~(keys >> np.uint64(32)).astype(np.uint32)).view(np.float32))
        return errors, torch.from_numpy((low >> 1).astype(np.int64)), torch.from_numpy(low.astype(np.uint8) & 1)
    errors, order = errors.sort(descending=True, stable=True)
    return errors, pixels[order], truth[order]


def jaccard_steps(truth: Tensor, positives: int) -> Tensor:
    """What each sorted error adds to the Jaccard loss, float64[N], from truth uint8[N] in the sorted order.

    Args:
        positives: foreground pixels of the whole mask, those without error included.

    A mask without foreground is wrong altogether at its first false pixel: that step is 1, the rest 0.
    """
    # whole numbers, exact in float64 (a whole number divided by a whole number would be float32)
    before = truth.cumsum(0, dtype=torch.float64).sub_(truth)
    union = torch.arange(positives, positives + len(truth), dtype=torch.float64, device=truth.device).sub_(before)
    gain = torch.where(truth > 0, union.reciprocal(), (positives - before) / (union * (union + 1)))
    if positives == 0 and len(truth):
        gain = torch.zeros_like(gain)
        gain[0] = 1
    return gain
