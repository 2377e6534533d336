"""Lovasz hinge, exact: per image and class, on the pixels inside the margin, with integer-count gradients.

Berman et al., "The Lovasz-Softmax loss", 2018, binary hinge. The usual code differences neighbouring Jaccard values
in float32, which cancels most digits at millions of pixels. Here each step of the sorted errors has its closed form.
With I foreground pixels still right and U pixels in the union before the step, a foreground pixel adds 1/U and a
background pixel I/(U (U + 1)), from integer counts. A GPU sorts all masks at once (:mod:`.lovasz_batched`).
"""

import numpy as np
import torch
from torch import Tensor

from ..masks.planes_torch import bits
from .fused_autograd import ClassLoss, accumulation_dtype, add_class_losses, fused_loss

TILE = 1 << 16  # pixels searched at a time, so that temporaries stay in a CPU's cache


def lovasz_loss(logits: Tensor, planes: Tensor, class_weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean over images and classes of the Lovasz hinge, float[], and its detached parts float32[B, C].

    Args:
        logits: float[B, C, H, W].
        planes: bit-planes uint8[B, P, H, W] of the ground truth.
        class_weights: float[C] with mean 1; None: all are 1.
    """
    loss, parts = fused_loss(logits, lambda x, g: add_lovasz(x, planes, 1.0, class_weights, g))
    return loss, parts


def add_lovasz(
    logits: Tensor, planes: Tensor, weight: float, class_weights: Tensor | None, gradient: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Weighted loss and unweighted parts; adds to ``gradient`` as a :data:`LossFunction` does."""
    dtype = accumulation_dtype(logits)

    def losses_of_image(b: int) -> ClassLoss:
        def class_loss(c: int, grad: Tensor | None, scale: Tensor) -> Tensor:
            truth = bits(planes[b, c // 8], c % 8).reshape(-1)
            loss, steps, active, signs = _lovasz_of_mask(logits[b, c].reshape(-1), truth)
            if grad is not None:
                grad.view(-1)[active] += (steps * scale).to(dtype) * signs
            return loss

        return class_loss

    return add_class_losses(logits, losses_of_image, weight, class_weights, gradient)


def _lovasz_of_mask(logits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss, Jaccard steps, active pixels and signs (1 where the truth is 0, else -1) of one mask float[N], uint8[N].

    A pixel is active if its error is positive. Only active pixels have a gradient.
    """
    dtype, tiles = accumulation_dtype(logits), []
    size = TILE if logits.device.type == "cpu" else len(logits)
    one = torch.ones((), dtype=dtype, device=logits.device)
    for start in range(0, len(logits), size):
        y = truth[start : start + size]
        errors = torch.addcmul(one, logits[start : start + size].to(dtype), torch.rsub(y.to(dtype), 1, alpha=2))
        active = errors.clamp_(min=0).nonzero()[:, 0]  # NaN stays, so that the loss shows it
        tiles.append((errors[active], active + start, y[active]))
    errors, active, sorted_truth = _sort_descending(*(torch.cat(column) for column in zip(*tiles, strict=True)))
    steps = jaccard_steps(sorted_truth, int(truth.sum()))
    signs = torch.rsub(sorted_truth.to(dtype), 1, alpha=2)
    return (errors.double() * steps).sum().to(dtype), steps, active, signs


def _sort_descending(errors: Tensor, pixels: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three sorted by positive errors, the largest first; equal errors by pixel."""
    if errors.device.type == "cpu" and errors.dtype == torch.float32:
        # Bits of positive floats sort as integers, so one uint64 contains all three. numpy sorts those many times
        # faster than torch sorts floats with their indices.
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

    The first false pixel of a mask without foreground makes the loss 1: that step is 1, the others are 0.

    Args:
        positives: number of foreground pixels of the whole mask, those without error included.
    """
    # counts in float64, which is exact; an integer divided by an integer would give float32
    before = truth.cumsum(0, dtype=torch.float64).sub_(truth)
    union = torch.arange(positives, positives + len(truth), dtype=torch.float64, device=truth.device).sub_(before)
    steps = torch.where(truth > 0, union.reciprocal(), (positives - before) / (union * (union + 1)))
    if positives == 0 and len(truth):
        steps = torch.zeros_like(steps)
        steps[0] = 1
    return steps
