"""BCE, focal, Dice and Tversky as Triton kernels: one pass over a batch's logits forward, one backward.

The formulas are those of :mod:`.pixel_region` and :mod:`.plan`. A program handles the eight classes of a bit-plane on a
block of pixels. Logits are read in their own type and computed in float32. Forward stores sums of blocks; one small
kernel adds them up in float64, in a fixed order, and makes terms and derivatives of them. Backward computes all again.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import triton_op, wrap_triton

from .finish import Finished
from .pixel_region import SMOOTH
from .plan import LEAST_INDEX, TINY, Plan

TILE, WARPS = 4096, 8  # logits of a program: 16 in each of 256 threads, so that none of their values is spilled
LANES = 1024  # sums of blocks that the small kernel adds up at a time
S_HALF, S_LEAST, S_TINY = tl.constexpr(SMOOTH / 2), tl.constexpr(LEAST_INDEX), tl.constexpr(TINY)


@triton.jit
def _wrong(z):
    """sigmoid(z), log(1 + exp(z)); the latter by 2 atanh(e / (2 + e)), as small values need more than log has."""
    e = tl.exp(-tl.abs(z))
    inverse = 1.0 / (1.0 + e)
    q = tl.where(z >= 0, inverse, e * inverse)
    s = e / (2.0 + e)
    t = s * s
    series = 1.0 / 17
    series = series * t + 1.0 / 15
    series = series * t + 1.0 / 13
    series = series * t + 1.0 / 11
    series = series * t + 1.0 / 9
    series = series * t + 1.0 / 7
    series = series * t + 1.0 / 5
    series = series * t + 1.0 / 3
    series = series * t + 1.0
    return q, 2.0 * s * series + tl.maximum(z, 0.0)


@triton.jit
def _power(q, GAMMA: tl.constexpr):
    if GAMMA == 0:
        return q * 0 + 1
    if GAMMA == 1:
        return q
    if GAMMA == 2:
        return q * q
    return tl.exp(GAMMA * tl.log(q))


@triton.jit
def _by_truth(table, row: tl.constexpr, c, classes, y):
    """Row ``row`` of a table [12, C] where the truth is 0, the next one where it is 1, as [classes, pixels]."""
    none = tl.load(table + row * classes + c, mask=c < classes, other=0.0)
    one = tl.load(table + (row + 1) * classes + c, mask=c < classes, other=0.0)
    return tl.where(y > 0, one[:, None], none[:, None])


@triton.jit
def map_tile(
    logits, planes, classes, pixels, plane_count, stride_b, stride_c, stride_p, CT: tl.constexpr, BLOCK: tl.constexpr
):
    """Of a program: image, classes [CT], offsets and validity [CT, BLOCK], logits float32 and truth int32."""
    block, plane, b = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    p = block.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    bit = tl.arange(0, CT)
    c = plane * 8 + bit
    valid = (c < classes)[:, None] & (p < pixels)[None, :]
    byte = tl.load(planes + (b * plane_count + plane) * pixels + p, mask=p < pixels, other=0).to(tl.int32)
    y = tl.where(valid, (byte[None, :] >> bit[:, None]) & 1, 0)
    offset = b * stride_b + c.to(tl.int64)[:, None] * stride_c + p[None, :] * stride_p
    # where there is no logit, -inf on a truth of 0 adds nothing to any sum
    x = tl.load(logits + offset, mask=valid, other=-float("inf")).to(tl.float32)
    return b, c, offset, valid, x, y


@triton.jit
def sums_kernel(
    logits, planes, table, sums, classes, pixels, blocks, plane_count, stride_b, stride_c, stride_p,
    GAMMA: tl.constexpr, BCE: tl.constexpr, FOCAL: tl.constexpr, REGION: tl.constexpr, SMOOTHED: tl.constexpr,
    CT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sums of one block of pixels, float32[S, B C, blocks]: of the truth, of what is above the threshold, of where both
    agree; with region terms of q, and of q where the truth is 1; of BCE and focal."""
    b, c, _, valid, x, y = map_tile(
        logits, planes, classes, pixels, plane_count, stride_b, stride_c, stride_p, CT, BLOCK
    )  # fmt: skip
    step = tl.num_programs(2).to(tl.int64) * classes * blocks
    out, mine = sums + (b * classes + c) * blocks + tl.program_id(0), c < classes
    truth, guess = y.to(tl.float32), tl.where(x > 0, 1.0, 0.0)
    tl.store(out, tl.sum(truth, 1), mask=mine)
    tl.store(out + step, tl.sum(guess, 1), mask=mine)
    tl.store(out + 2 * step, tl.sum(guess * truth, 1), mask=mine)
    out += 3 * step
    if BCE or FOCAL or REGION:
        z = tl.where(y > 0, -x, x)
        q, cross = _wrong(z)
        if REGION:
            tl.store(out, tl.sum(q, 1), mask=mine)
            tl.store(out + step, tl.sum(q * truth, 1), mask=mine)
            out += 2 * step
        if BCE:
            values = _by_truth(table, 0, c, classes, y) * cross
            if SMOOTHED:
                values -= tl.where(valid, _by_truth(table, 2, c, classes, y) * z, 0.0)
            tl.store(out, tl.sum(values, 1), mask=mine)
            out += step
        if FOCAL:
            values = _by_truth(table, 4, c, classes, y) * (cross * _power(q, GAMMA))
            tl.store(out, tl.sum(values, 1), mask=mine)


@triton.jit
def gradient_kernel(
    logits, planes, table, rates, upstream, gradient, classes, pixels, plane_count, stride_b, stride_c, stride_p,
    out_b, out_c, out_p,
    GAMMA: tl.constexpr, BCE: tl.constexpr, FOCAL: tl.constexpr, REGION: tl.constexpr, SMOOTHED: tl.constexpr,
    CT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The gradient by the logits, times the incoming one, rounded once, to the type of ``gradient``."""
    b, c, _, valid, x, y = map_tile(
        logits, planes, classes, pixels, plane_count, stride_b, stride_c, stride_p, CT, BLOCK
    )  # fmt: skip
    p = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    z = tl.where(y > 0, -x, x)
    q, cross = _wrong(z)
    found = tl.zeros_like(q)
    if REGION:
        images = tl.num_programs(2).to(tl.int64) * classes
        on_fp = tl.load(rates + b * classes + c, mask=c < classes, other=0.0)
        on_fn = tl.load(rates + images + b * classes + c, mask=c < classes, other=0.0)
        found = tl.where(y > 0, on_fn[:, None], on_fp[:, None]) * (q - q * q)
    if BCE:
        found += _by_truth(table, 6, c, classes, y) * q
        if SMOOTHED:
            found -= _by_truth(table, 8, c, classes, y)
    if FOCAL:
        inner = GAMMA * (cross - cross * q) + q
        found += _by_truth(table, 10, c, classes, y) * (_power(q, GAMMA) * inner)
    found = tl.where(y > 0, -found, found) * tl.load(upstream).to(tl.float32)
    offset = b * out_b + c.to(tl.int64)[:, None] * out_c + p[None, :] * out_p
    tl.store(gradient + offset, found.to(gradient.dtype.element_ty), mask=valid)


@triton.jit
def _total(sums, row, blocks, LANES: tl.constexpr):
    """A row of sums of blocks added up in float64, always in the same order."""
    lane = tl.arange(0, LANES)
    total = tl.zeros([LANES], tl.float64)
    for first in range(0, blocks, LANES):
        total += tl.load(sums + row * blocks + first + lane, mask=first + lane < blocks, other=0.0).to(tl.float64)
    return tl.sum(total, 0)


@triton.jit
def finish_kernel(
    sums, family, weights, values, losses, rates, truths, classes, blocks, pixels,
    BCE: tl.constexpr, FOCAL: tl.constexpr, REGION: tl.constexpr, POWERS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Terms and derivatives of one image's class, as :func:`.finish.finish`; ``losses`` float64[B C] is weighted."""
    mask, masks = tl.program_id(0).to(tl.int64), tl.num_programs(0).to(tl.int64)
    c = mask % classes
    truth = _total(sums, mask, blocks, LANES)
    guess = _total(sums, masks + mask, blocks, LANES)
    both = _total(sums, 2 * masks + mask, blocks, LANES)
    row = 3 * masks + mask
    loss = truth * 0
    term = 0
    if REGION > 0:
        q = _total(sums, row, blocks, LANES)
        fn = _total(sums, row + masks, blocks, LANES)
        row += 2 * masks
    for present in tl.static_range(2):
        if (BCE and present == 0) or (FOCAL and present == 1):
            value = _total(sums, row, blocks, LANES) / pixels
            tl.store(values + term * masks + mask, value.to(tl.float32))
            loss += value * tl.load(weights + term * classes + c)
            row += masks
            term += 1
    if REGION > 0:
        on_fp, on_fn = truth * 0, truth * 0
        for k in tl.static_range(REGION):
            own = family + k * 3 * classes + c
            alpha, beta, power = tl.load(own), tl.load(own + classes), tl.load(own + 2 * classes)
            weight = tl.load(weights + term * classes + c)
            wrong = alpha * (q - fn) + beta * fn
            total = truth - fn + wrong + S_HALF
            index = wrong / total
            slope = weight / total
            by_fp, by_fn = alpha * (1 - index), beta + (1 - beta) * index
            if POWERS:
                base = tl.maximum(index, S_LEAST)
                slope *= tl.where(index >= S_LEAST, power * tl.exp((power - 1) * tl.log(base)), 0.0)
                index = tl.where(power == 1, base, tl.exp(power * tl.log(base)))
            on_fp += slope * by_fp
            on_fn += slope * by_fn
            tl.store(values + term * masks + mask, index.to(tl.float32))
            loss += index * weight
            term += 1
        tl.store(rates + mask, on_fp.to(tl.float32))
        tl.store(rates + masks + mask, on_fn.to(tl.float32))
    dice = (both + both + S_TINY) / (guess + truth + S_TINY)
    tl.store(values + term * masks + mask, dice.to(tl.float32))
    tl.store(losses + mask, loss)
    tl.store(truths + mask, truth)


def program_sides(classes: int) -> tuple[int, int]:
    """Classes and pixels of a program."""
    side = min(8, triton.next_power_of_2(classes))
    return side, TILE // side


def strides(maps: Tensor) -> tuple[int, int, int]:
    """Of image, class and pixel; rows follow one another."""
    return maps.stride(0), maps.stride(1), maps.stride(3)


@triton_op("phalanx::pixel_region_forward", mutates_args=())
def pixel_region_forward(
    logits: Tensor, planes: Tensor, table: Tensor, family: Tensor, weights: Tensor,
    gamma: float, bce: bool, focal: bool, smoothed: bool, powers: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Weighted losses float64[B, C], values float[T + 1, B, C], rates float[2, B, C] and truth float64[1, B, C]."""
    batch, classes, height, width = logits.shape
    side, block = program_sides(classes)
    region, pixels = family.shape[0], height * width
    blocks, terms = triton.cdiv(pixels, block), region + bce + focal
    sums = table.new_empty(3 + 2 * (region > 0) + bce + focal, batch, classes, blocks)
    values = table.new_empty(terms + 1, batch, classes)
    rates = table.new_empty(2, batch, classes)
    losses, truth = weights.new_empty(batch, classes), weights.new_empty(1, batch, classes)
    wrap_triton(sums_kernel)[(blocks, triton.cdiv(classes, 8), batch)](
        logits, planes, table, sums, classes, pixels, blocks, planes.shape[1], *strides(logits),
        gamma, bce, focal, region > 0, smoothed, side, block, num_warps=WARPS,
    )  # fmt: skip
    wrap_triton(finish_kernel)[(batch * classes,)](
        sums, family, weights, values, losses, rates, truth, classes, blocks, pixels,
        bce, focal, region, powers, min(LANES, triton.next_power_of_2(blocks)), num_warps=4,
    )  # fmt: skip
    return losses, values, rates, truth


@triton_op("phalanx::pixel_region_backward", mutates_args=())
def pixel_region_backward(
    logits: Tensor, planes: Tensor, table: Tensor, rates: Tensor, upstream: Tensor,
    gamma: float, bce: bool, focal: bool, region: bool, smoothed: bool, flat: bool,
) -> Tensor:  # fmt: skip
    """The gradient by the logits, in their type and layout, or contiguous if ``flat``."""
    batch, classes, height, width = logits.shape
    side, block = program_sides(classes)
    gradient = torch.empty_like(logits, memory_format=torch.contiguous_format if flat else torch.preserve_format)
    wrap_triton(gradient_kernel)[(triton.cdiv(height * width, block), triton.cdiv(classes, 8), batch)](
        logits, planes, table, rates, upstream, gradient, classes, height * width, planes.shape[1],
        *strides(logits), *strides(gradient),
        gamma, bce, focal, region, smoothed, side, block, num_warps=WARPS,
    )  # fmt: skip
    return gradient


def map_values(logits: Tensor, planes: Tensor, plan: Plan) -> tuple[Finished, Tensor]:
    """The terms of a batch with their weighted sum, and the bit-planes."""
    planes = planes.contiguous()
    losses, values, rates, truth = pixel_region_forward(
        readable(logits), planes, plan.table, plan.family, plan.weights, plan.gamma, "bce" in plan.names,
        "focal" in plan.names, plan.smoothed, plan.region is not None and plan.region.powers is not None,
    )  # fmt: skip
    return Finished([losses, values], truth, rates), planes


def add_up(found: Finished, parts: list[Tensor], plan: Plan) -> tuple[Tensor, list[Tensor]]:
    """The loss float[], and every term in the order of ``Plan.weights``, float[B, C].

    Args:
        parts: float64[B C], of further terms.
    """
    losses, values = found.values
    total = losses.sum(dtype=torch.float32)
    for part, factors in zip(parts, plan.more, strict=True):
        total = total + (part * factors).sum(dtype=torch.float32)
    return total, [*values.unbind(), *(part.view(losses.shape).to(torch.float32) for part in parts)]


def map_gradient(logits: Tensor, planes: Tensor, plan: Plan, rates: Tensor, upstream: Tensor, *, flat: bool) -> Tensor:
    """The gradient of the loss, times ``upstream`` float[], by the logits, in their type."""
    return pixel_region_backward(
        readable(logits), planes, plan.table, rates, upstream, plan.gamma, "bce" in plan.names, "focal" in plan.names,
        plan.region is not None, plan.smoothed, flat,
    )  # fmt: skip


def readable(logits: Tensor) -> Tensor:
    """The logits if rows follow one another, as in contiguous and channels-last maps; else a contiguous copy."""
    height, width = logits.shape[-2:]
    merged = height == 1 or logits.stride(2) == width * logits.stride(3)
    return logits if merged else logits.contiguous()
