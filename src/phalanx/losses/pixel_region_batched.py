"""BCE, focal, Dice and Tversky of a whole batch and all classes at once, in a fixed number of PyTorch's operations.

The formulas are those of :mod:`.pixel_region`, whose tiles are for a CPU. Here a term costs a few operations on the
whole maps, whatever the batch and the number of classes. Sums are float32 within a row of pixels, float64 across rows.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .plan import Finished, Plan, finish, truth_of

LINEAR_FROM = 50.0  # log(1 + exp(z)) is z from here on, in float64 too


def map_losses(logits: Tensor, planes: Tensor, plan: Plan) -> tuple[Finished, Tensor]:
    """The loss of a batch, and the truth bool[B, C, H, W]."""
    sums, y = map_sums(logits, planes, plan)
    return finish(sums, plan), y


def map_sums(logits: Tensor, planes: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
    """``Plan.rows`` over the pixels, float64[S, B, C], and the truth bool[B, C, H, W].

    Args:
        logits: float[B, C, H, W].
        planes: bit-planes uint8[B, P, H, W] of the ground truth.
    """
    y, dtype = truth_of(planes, plan), plan.one.dtype
    guess = logits > 0
    rows = [y.sum(3, dtype=dtype), guess.sum(3, dtype=dtype), guess.logical_and_(y).sum(3, dtype=dtype)]
    del guess
    if plan.names:
        z, pixelwise = _flipped(logits, y, plan), []
        cross = F.softplus(z, threshold=LINEAR_FROM) if plan.pixelwise else None
        if cross is not None and "bce" in plan.names:
            pixelwise.append((cross * _by_truth(y, plan.pixel[:2]) if plan.weighted_bce else cross).sum(3))
            if plan.smoothed:
                pixelwise[0] -= (z * _by_truth(y, plan.pixel[2:4])).sum(3)
        q = z.sigmoid_()
        if cross is not None and "focal" in plan.names:
            focal = cross.mul_(q).mul_(_power(q, plan.gamma - 1)) if plan.gamma >= 1 else cross.mul_(q**plan.gamma)
            pixelwise.append((focal.mul_(_by_truth(y, plan.pixel[4:])) if plan.weighted_focal else focal).sum(3))
        if plan.region:
            rows += [q.sum(3), q.mul_(y).sum(3)]
        rows += pixelwise
    return torch.stack(rows).sum(3, dtype=torch.float64), y


def map_gradient(
    logits: Tensor, y: Tensor, plan: Plan, rates: Tensor | None, upstream: Tensor, *, flat: bool
) -> Tensor:
    """The loss's gradient by the logits, times ``upstream``, in the accumulation type, always contiguous.

    Args:
        y: the truth, from :func:`map_losses`.
        rates: of :class:`.plan.Finished`.
        upstream: float[].
    """
    if not plan.names:
        return torch.zeros(logits.shape, dtype=plan.one.dtype, device=logits.device)
    z = _flipped(logits, y, plan)
    cross = F.softplus(z, threshold=LINEAR_FROM) if "focal" in plan.names else None
    q = z.sigmoid_()
    # with respect to z: q ((1 - q) rate + bce + focal q^(g - 1) (g (1 - q) cross + q)) - linear
    if rates is not None:
        on_fp, on_fn = rates.unbind()
        inner = torch.where(y, on_fn, on_fp)
        inner.addcmul_(inner, q, value=-1)
    else:
        inner = torch.zeros_like(q)
    if "bce" in plan.names:
        inner.add_(_by_truth(y, plan.pixel_rates[:2]) if plan.weighted_bce else plan.pixel_rates[0])
    if cross is not None:
        torch.add(q, cross.addcmul_(cross, q, value=-1), alpha=plan.gamma, out=cross)
        focal = _by_truth(y, plan.pixel_rates[4:]) if plan.weighted_focal else plan.pixel_rates[4]
        if plan.gamma >= 1:
            inner.addcmul_(cross.mul_(_power(q, plan.gamma - 1)), focal)
            gradient = inner.mul_(q)
        else:  # a negative power is infinite at 0
            gradient = inner.mul_(q).addcmul_(cross.mul_(_power(q, plan.gamma)), focal)
    else:
        gradient = inner.mul_(q)
    if plan.smoothed:
        gradient.sub_(_by_truth(y, plan.pixel_rates[2:4]))
    del q, z, cross  # at most two maps in float32 for BCE and Dice
    return gradient.mul_(torch.add(plan.one, y, alpha=-2)).mul_(upstream)


def _flipped(logits: Tensor, y: Tensor, plan: Plan) -> Tensor:
    """The logits with their sign flipped if the truth is 1, in the accumulation type."""
    return torch.add(plan.one, y, alpha=-2).mul_(logits)


def _by_truth(y: Tensor, pair: tuple[Tensor, ...]) -> Tensor:
    """The first of a pair [C, 1, 1] where the truth is 0, the second where it is 1."""
    return torch.where(y, pair[1], pair[0])


def _power(q: Tensor, exponent: float) -> Tensor:
    return q if exponent == 1 else q**exponent
