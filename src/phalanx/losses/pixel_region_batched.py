"""BCE, focal, Dice and Tversky of a whole batch and all classes at once, in a fixed number of PyTorch's operations.

The formulas are those of :mod:`.pixel_region`, whose tiles are for a CPU. Here a term costs a few operations on the
whole maps, whatever the batch and the number of classes. Sums are float32 within a row of pixels, float64 across rows.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..masks.planes_torch import pixels_at
from .finish import Finished, finish
from .plan import Plan, truth_of

LINEAR_FROM = 50.0  # log(1 + exp(z)) is z from here on, in float64 too


def map_values(logits: Tensor, planes: Tensor, plan: Plan) -> tuple[Finished, Tensor]:
    """The terms of a batch, and the truth bool[B, C, H, W].

    Args:
        logits: float[B, C, H, W].
        planes: bit-planes uint8[B, P, H, W] of the ground truth.
    """
    y = truth_of(planes, plan)
    rows = torch.stack([*_rows(logits, y, plan), *([_row(y, plan)] if plan.more else [])])
    if plan.points is not None:  # those of points as long as those of the map, with zeros
        rows = F.pad(rows, (0, 0, 0, plan.points.rows[0] - plan.points.rows[1])).unflatten(3, (2, -1))
    return finish(rows.sum(-2, keepdim=plan.points is None, dtype=torch.float64), plan), y


def add_up(found: Finished, parts: list[Tensor], plan: Plan) -> tuple[Tensor, list[Tensor]]:
    """The loss float[], and every term in the order of ``Plan.weights``, float[B, C]; of points last.

    Args:
        parts: float64[B C] of further terms, without points.
    """
    values = found.values
    if parts:
        shape = 1, *values[0].shape[1:]
        values = [*values, *(part.view(shape) for part in parts)]
    rows, dtype = torch.cat(values) if len(values) > 1 else values[0], plan.one.dtype
    total = (rows * plan.weights).sum(dtype=dtype)
    if plan.points is None:
        return total, list(rows.sum((3, 4), dtype=dtype).unbind())  # over sides of 1: changes type and shape at once
    of_map, of_points = rows.sum(4, dtype=dtype).unbind(3)
    at, share = dict(zip((*plan.names, ""), of_points.unbind(), strict=True)), plan.points.dice_weight
    point = torch.lerp(at["bce"], at["dice"], share) if 0 < share < 1 else at["dice" if share else "bce"]
    return total, [*of_map.unbind(), point]


def with_points(logits: Tensor, planes: Tensor, at: Tensor, coords: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
    """Logits and bit-planes with points as further rows, the last one filled up with what no sum sees.

    Args:
        logits: float[B, C, H, W].
        planes: bit-planes uint8[B, P, H, W] of the ground truth.
        at: float[B, C, N], predicted at the points.
        coords: float[B, N, 2] in 0..1.
    """
    assert plan.points is not None
    batch, classes, _, width = logits.shape
    x, y = pixels_at(coords.view(batch, 1, -1, 2), planes)
    picked = planes[plan.points.image, plan.points.plane, y, x]
    if plan.points.partial is None:
        further = at.view(batch, classes, -1, width), picked.view(batch, planes.shape[1], -1, width)
    else:
        of_logits, of_planes = plan.points.partial
        of_logits.points.copy_(at), of_planes.points.copy_(picked)
        further = of_logits.rows, of_planes.rows
    return torch.cat([logits, further[0]], 2), torch.cat([planes, further[1]], 2)


def without_points(gradient: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
    """The parts of a contiguous gradient by the map float[B, C, H, W], and by the logits at the points float[B, C, N].

    Both are views: a copy of the map is worth avoiding, and so is every operation.
    """
    assert plan.points is not None
    height, number = plan.points.rows[0], plan.points.number
    at = gradient.as_strided((*gradient.shape[:2], number), (*gradient.stride()[:2], 1), height * gradient.shape[3])
    return gradient.narrow(2, 0, height), at


def _rows(logits: Tensor, y: Tensor, plan: Plan) -> list[Tensor]:
    """Sums over each row of pixels, float[B, C, H, 1], in the order of ``Plan.sizes`` but for the truth."""
    members, guess = len(plan.region_names), logits > 0
    right, wrong = _row(guess & y, plan), _row(guess.logical_xor_(y), plan)  # of the hard Dice
    del guess
    if not plan.names:
        return [wrong, right]
    z, pixelwise = _flipped(logits, y, plan), []
    cross = F.softplus(z, threshold=LINEAR_FROM) if plan.pixelwise else None
    if cross is not None and "bce" in plan.names:
        pixelwise.append(_row(cross * _by_truth(y, plan.pixel[:2]) if plan.weighted_bce else cross, plan))
        if plan.smoothed:
            pixelwise[0] -= _row(z * _by_truth(y, plan.pixel[2:4]), plan)
    if not plan.region and "focal" not in plan.names:
        return [*pixelwise, wrong, right]
    q = z.sigmoid_()
    if cross is not None and "focal" in plan.names:
        cross.mul_(q).mul_(_power(q, plan.gamma - 1)) if plan.gamma >= 1 else cross.mul_(q**plan.gamma)
        pixelwise.append(_row(cross.mul_(_by_truth(y, plan.pixel[4:])) if plan.weighted_focal else cross, plan))
    del cross
    if not plan.region:
        return [*pixelwise, wrong, right]
    hits = _row(torch.addcmul(y, q, y, value=-1), plan)
    found = [*pixelwise, *[hits] * members, wrong, *[_row(q, plan)] * members, right]
    return [*found, *[_row(q.mul_(y), plan)] * members, wrong] if plan.uneven else found


def _row(maps: Tensor, plan: Plan) -> Tensor:
    return maps.sum(3, keepdim=True, dtype=plan.one.dtype)


def map_gradient(
    logits: Tensor, y: Tensor, plan: Plan, rates: Tensor | None, upstream: Tensor, *, flat: bool
) -> Tensor:
    """The loss's gradient by the logits, times ``upstream``, in the accumulation type, always contiguous.

    Args:
        y: the truth, from :func:`map_values`.
        rates: of :class:`.finish.Finished`.
        upstream: float[].
    """
    if not plan.names:
        return torch.zeros(logits.shape, dtype=plan.one.dtype, device=logits.device)
    z = _flipped(logits, y, plan)
    cross = F.softplus(z, threshold=LINEAR_FROM) if "focal" in plan.names else None
    q = z.sigmoid_()
    # with respect to z: q ((1 - q) rate + bce + focal q^(g - 1) (g (1 - q) cross + q)) - linear
    bce = plan.pixel_rates[0]  # 0 without the term
    if plan.weighted_bce:
        bce = _by_truth(y, plan.pixel_rates[:2])
    inner = bce
    if rates is not None:
        if plan.points is not None:
            rates = rates.index_select(3, plan.points.part)
        without, with_truth = rates.unbind()
        inner = torch.where(y, with_truth, without).lerp_(bce, q)  # rates have bce in them
    if cross is not None:
        torch.add(q, cross.addcmul_(cross, q, value=-1), alpha=plan.gamma, out=cross)
        focal = _by_truth(y, plan.pixel_rates[4:]) if plan.weighted_focal else plan.pixel_rates[4]
        if plan.gamma >= 1:
            inner = torch.addcmul(inner, cross.mul_(_power(q, plan.gamma - 1)), focal, out=cross)
            gradient = q.mul_(inner)
        else:  # a negative power is infinite at 0
            cross.mul_(_power(q, plan.gamma))
            gradient = q.mul_(inner).addcmul_(cross, focal)
    else:
        gradient = q.mul_(inner)
    if plan.smoothed:
        gradient.sub_(_by_truth(y, plan.pixel_rates[2:4]))
    del q, z, cross, inner, bce  # at most two maps in float32 for BCE and Dice
    return gradient.mul_(torch.addcmul(upstream, upstream, y, value=-2))


def _flipped(logits: Tensor, y: Tensor, plan: Plan) -> Tensor:
    """The logits with their sign flipped if the truth is 1, in the accumulation type."""
    return torch.add(plan.one, y, alpha=-2).mul_(logits)


def _by_truth(y: Tensor, pair: tuple[Tensor, ...]) -> Tensor:
    """The first of a pair [C, 1 or H, 1] where the truth is 0, the second where it is 1."""
    return torch.where(y, pair[1], pair[0])


def _power(q: Tensor, exponent: float) -> Tensor:
    return q if exponent == 1 else q**exponent
