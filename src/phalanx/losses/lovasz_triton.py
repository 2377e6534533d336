"""The batched Lovasz hinge with its elementwise work in four Triton kernels; :mod:`.lovasz_batched` explains it."""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import triton_op, wrap_triton

from .lovasz_batched import BatchedLovasz, constants, pixel_bits
from .pixel_region_triton import WARPS, map_tile, program_sides, readable, strides
from .plan import TINY

BLOCK = 1024  # active pixels of a program
ALL_BITS, S_TINY = tl.constexpr(0x7FFFFFFF), tl.constexpr(TINY)


@triton.jit
def errors_kernel(
    logits, planes, errors, classes, pixels, plane_count, stride_b, stride_c, stride_p,
    CT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """1 + z if it is positive or NaN, else 0: float32[B, C, P]."""
    b, c, _, valid, x, y = map_tile(
        logits, planes, classes, pixels, plane_count, stride_b, stride_c, stride_p, CT, BLOCK
    )  # fmt: skip
    p = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    error = 1.0 + tl.where(y > 0, -x, x)
    offset = (b * classes + c)[:, None] * pixels + p[None, :]
    tl.store(errors + offset, tl.where(error <= 0, 0.0, error), mask=valid)


@triton.jit
def keys_kernel(
    found, errors, planes, keys, count, first, classes, pixels, plane_count, SHIFT: tl.constexpr, BLOCK: tl.constexpr
):
    """Segment, inverted error, pixel and truth of active pixels in one integer; -2 for free places."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < count
    segment = tl.load(found + 2 * i, mask=inside, other=-1)
    pixel = tl.load(found + 2 * i + 1, mask=inside, other=-1)
    active = segment >= 0
    error = tl.load(errors + segment * pixels + pixel, mask=active, other=0.0)
    b, c = (first + segment) // classes, (first + segment) % classes
    byte = tl.load(planes + (b * plane_count + c // 8) * pixels + pixel, mask=active, other=0).to(tl.int64)
    side = (byte >> (c % 8)) & 1
    inverted = (error.to(tl.int32, bitcast=True) & ALL_BITS) ^ ALL_BITS  # without a NaN's sign
    key = (((segment << 31) + inverted) << SHIFT) + 2 * pixel + side
    tl.store(keys + i, tl.where(active, key, -2), mask=inside)


@triton.jit
def steps_kernel(
    keys, passed, starts, truth, factors, products, steps, places, count, first, pixels,
    SHIFT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Of each sorted pixel its part of the loss float64, of the gradient float32, and its place; -1 if free."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < count
    key = tl.load(keys + i, mask=inside, other=-2)
    active = key >= 0
    segment = tl.where(active, key >> (SHIFT + 31), 0)
    begin = tl.load(starts + segment, mask=active, other=1)
    lead = tl.load(truth + segment, mask=active, other=1.0) + tl.load(passed + begin - 1, mask=active, other=0)
    right = lead - tl.load(passed + i, mask=inside, other=0) + S_TINY
    union = (i - begin) + right
    foreground = (key & 1) > 0
    step = tl.where(foreground, 1.0, right / union) / (union + 1.0)
    inverted = ((key >> SHIFT) & ALL_BITS).to(tl.int32)
    error = (inverted ^ ALL_BITS).to(tl.float32, bitcast=True)
    tl.store(products + i, tl.where(active, step * error, 0.0), mask=inside)
    part = step * tl.load(factors + segment, mask=active, other=0.0)
    part = tl.where(foreground, -part, part)
    tl.store(steps + i, tl.where(active, part, 0.0).to(tl.float32), mask=inside)
    place = (first + segment) * pixels + ((key & ((1 << SHIFT) - 1)) >> 1)
    tl.store(places + i, tl.where(active, place, -1), mask=inside)


@triton.jit
def add_kernel(gradient, steps, places, upstream, count, BLOCK: tl.constexpr):
    """Adds steps times the incoming gradient at their places, each of which occurs once; rounded once."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    place = tl.load(places + i, mask=i < count, other=-1)
    step = tl.load(steps + i, mask=i < count, other=0.0)
    before = tl.load(gradient + place, mask=place >= 0, other=0.0).to(tl.float32)
    after = before + step * tl.load(upstream).to(tl.float32)
    tl.store(gradient + place, after.to(gradient.dtype.element_ty), mask=place >= 0)


@triton_op("phalanx::lovasz_errors", mutates_args=())
def lovasz_errors(logits: Tensor, planes: Tensor) -> Tensor:
    """Errors float32[B C, P], 0 of pixels that are not active."""
    batch, classes, height, width = logits.shape
    side, block = program_sides(classes)
    pixels = height * width
    errors = torch.empty(batch * classes, pixels, device=logits.device)
    wrap_triton(errors_kernel)[(triton.cdiv(pixels, block), triton.cdiv(classes, 8), batch)](
        logits, planes, errors, classes, pixels, planes.shape[1], *strides(logits), side, block, num_warps=WARPS
    )
    return errors


@triton_op("phalanx::lovasz_keys", mutates_args=())
def lovasz_keys(found: Tensor, errors: Tensor, planes: Tensor, first: int, classes: int) -> Tensor:
    """Keys int64[N] of active pixels int64[N, 2]."""
    count, pixels = len(found), errors.shape[1]
    keys = found.new_empty(count)
    wrap_triton(keys_kernel)[(triton.cdiv(count, BLOCK),)](
        found, errors, planes, keys, count, first, classes, pixels, planes.shape[1], 1 + pixel_bits(pixels), BLOCK
    )
    return keys


@triton_op("phalanx::lovasz_steps", mutates_args=())
def lovasz_steps(
    keys: Tensor, passed: Tensor, starts: Tensor, truth: Tensor, factors: Tensor, first: int, pixels: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Parts of the loss float64[N], of the gradient float32[N], and places int64[N] of sorted keys."""
    count = len(keys)
    products, places = truth.new_empty(count), torch.empty_like(keys)
    steps = torch.empty(count, device=keys.device)
    wrap_triton(steps_kernel)[(triton.cdiv(count, BLOCK),)](
        keys, passed, starts, truth, factors, products, steps, places, count, first, pixels, 1 + pixel_bits(pixels),
        BLOCK,
    )  # fmt: skip
    return products, steps, places


@triton_op("phalanx::lovasz_add", mutates_args={"gradient"})
def lovasz_add(gradient: Tensor, steps: Tensor, places: Tensor, upstream: Tensor) -> None:
    """Adds ``steps`` times ``upstream`` float[] to a contiguous gradient."""
    count = len(steps)
    if count:
        wrap_triton(add_kernel)[(triton.cdiv(count, BLOCK),)](gradient, steps, places, upstream, count, BLOCK)


class KeyRanking(NamedTuple):
    """Sorted keys of active pixels, and int64[S + 1] where their segments begin."""

    starts: Tensor
    keys: Tensor
    first: int
    pixels: int


class TritonLovasz(BatchedLovasz):
    """The Lovasz hinge of maps and bit-planes."""

    def errors(self, logits: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        return lovasz_errors(readable(logits), source), source

    def rank(self, room: int, part: slice | None, logits: Tensor, source: Tensor) -> KeyRanking:
        errors, planes = self.errors(logits, source)
        errors, first = errors[part] if part else errors, part.start if part else 0
        segments, pixels = errors.shape
        found = torch.nonzero_static(errors, size=room, fill_value=-1)
        keys = lovasz_keys(found, errors, planes, first, logits.shape[1])
        del errors, found
        keys = keys.sort().values
        starts = torch.searchsorted(keys, constants(segments, pixels, keys.device).bounds)
        return KeyRanking(starts, keys, first, pixels)

    def scan(self, ranking: Any, truth: Tensor, factors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        starts, keys, first, pixels = ranking
        passed = keys.bitwise_and(1).cumsum(0)
        products, steps, places = lovasz_steps(keys, passed, starts, truth, factors, first, pixels)
        return torch.segment_reduce(products, "sum", offsets=starts, unsafe=True), steps, places

    def used(self, steps: Tensor, places: Tensor, free: int) -> tuple[Tensor, Tensor]:
        return steps, places  # free ones are marked; a kernel is compiled again for other alignments

    def padded(self, steps: Tensor, places: Tensor, least: int) -> tuple[Tensor, Tensor]:
        return steps, places

    def backward(self, gradient: Tensor, saved: tuple[Tensor, ...], upstream: Tensor) -> None:
        lovasz_add(gradient, *saved, upstream)
