"""Triton kernels of group norm with the activation that follows.

Maps are [N, C, S], S the pixels of an image, with a stride per channel and per pixel, so one kernel serves NCHW (S, 1)
and NHWC (1, C). A tile is BC channels by BS pixels. Values are float32 as soon as they are loaded. A mean and a sum of
squares around it are taken per tile in registers, and tiles are merged by Chan's formula in a fixed order: results do
not depend on the schedule, and a large mean does not cancel the variance.
"""

import triton
import triton.language as tl

from .norm_kernel_parts import activated, derivative, scale_and_offset


@triton.jit
def moments(
    x_ptr, mean_ptr, square_ptr, C, S, sc, ss, K, STEPS: tl.constexpr, BC: tl.constexpr, BS: tl.constexpr
):  # fmt: skip
    """Mean and sum of squares around it of STEPS * BS pixels of each channel: [N, C, K]."""
    k, n = tl.program_id(0), tl.program_id(2)
    first = tl.program_id(1) * BC
    c = first + tl.arange(0, BC)
    lane = tl.arange(0, BS)
    start = n.to(tl.int64) * C * S + first.to(tl.int64) * sc + k.to(tl.int64) * (STEPS * BS) * ss
    mean, square = tl.zeros([BC], tl.float32), tl.zeros([BC], tl.float32)
    count = 0.0
    for i in range(STEPS):
        left = S - (k * STEPS + i) * BS
        real = (c < C)[:, None] & (lane < left)[None, :]
        at = tl.arange(0, BC)[:, None] * sc + (i * BS + lane)[None, :] * ss
        x = tl.load(x_ptr + start + at, real, 0.0).to(tl.float32)
        m = tl.minimum(tl.maximum(left, 0), BS).to(tl.float32)
        own = tl.sum(x, 1) / tl.maximum(m, 1.0)
        apart = tl.where(real, x - own[:, None], 0.0)
        total = tl.maximum(count + m, 1.0)
        delta = own - mean
        mean += delta * (m / total)
        square += tl.sum(apart * apart, 1) + delta * delta * (count * m / total)
        count += m
    to = (n.to(tl.int64) * C + c) * K + k
    tl.store(mean_ptr + to, mean, c < C)
    tl.store(square_ptr + to, square, c < C)


@triton.jit
def merge_moments(
    mean_ptr, square_ptr, out_mean_ptr, out_rstd_ptr, C, G, S, K, size, eps, SPAN: tl.constexpr, BJ: tl.constexpr
):  # fmt: skip
    """Mean and 1 / standard deviation of a group [N, G] from those of its channels' spans of SPAN pixels."""
    own = tl.program_id(0)
    n, g = own // G, own % G
    D = C // G
    base = (n.to(tl.int64) * C + g * D) * K
    total = tl.zeros([BJ], tl.float32)
    for j0 in range(0, D * K, BJ):
        j = j0 + tl.arange(0, BJ)
        count = tl.minimum(S - (j % K) * SPAN, SPAN).to(tl.float32)
        total += tl.load(mean_ptr + base + j, j < D * K, 0.0) * count
    mean = tl.sum(total, 0) / size
    squares = tl.zeros([BJ], tl.float32)
    for j0 in range(0, D * K, BJ):
        j = j0 + tl.arange(0, BJ)
        count = tl.minimum(S - (j % K) * SPAN, SPAN).to(tl.float32)
        apart = tl.load(mean_ptr + base + j, j < D * K, 0.0) - mean
        squares += tl.where(j < D * K, tl.load(square_ptr + base + j, j < D * K, 0.0) + count * apart * apart, 0.0)
    tl.store(out_mean_ptr + own, mean)
    tl.store(out_rstd_ptr + own, tl.rsqrt(tl.sum(squares, 0) / size + eps))


@triton.jit
def apply_norm(
    x_ptr, y_ptr, w_ptr, b_ptr, mean_ptr, rstd_ptr, C, G, S, sc, ss, slope,
    AFFINE: tl.constexpr, ACT: tl.constexpr, BC: tl.constexpr, BS: tl.constexpr,
):  # fmt: skip
    """act((x - mean) * rstd * weight + bias) of a tile."""
    n = tl.program_id(2)
    first, pixel = tl.program_id(1) * BC, tl.program_id(0).to(tl.int64) * BS
    c = first + tl.arange(0, BC)
    lane = tl.arange(0, BS)
    real = (c < C)[:, None] & (lane < S - pixel)[None, :]
    start = n.to(tl.int64) * C * S + first.to(tl.int64) * sc + pixel * ss
    at = tl.arange(0, BC)[:, None] * sc + lane[None, :] * ss
    x = tl.load(x_ptr + start + at, real, 0.0).to(tl.float32)
    group = n * G + c // (C // G)
    mean = tl.load(mean_ptr + group, c < C, 0.0)
    rstd = tl.load(rstd_ptr + group, c < C, 0.0)
    w, b = scale_and_offset(w_ptr, b_ptr, c, c < C, AFFINE)
    z = (x - mean[:, None]) * rstd[:, None] * w[:, None] + b[:, None]
    tl.store(y_ptr + start + at, activated(z, slope, ACT).to(y_ptr.dtype.element_ty), real)


@triton.jit
def whole_group(
    x_ptr, y_ptr, w_ptr, b_ptr, mean_ptr, rstd_ptr, C, G, S, sc, ss, size, eps, slope,
    AFFINE: tl.constexpr, ACT: tl.constexpr, BC: tl.constexpr, BS: tl.constexpr,
):  # fmt: skip
    """All of forward for a group that fits a tile: x is read once."""
    own = tl.program_id(0)
    n, D = own // G, C // G
    row, lane = tl.arange(0, BC), tl.arange(0, BS)
    c = own % G * D + row
    real = (row < D)[:, None] & (lane < S)[None, :]
    at = n.to(tl.int64) * C * S + c[:, None] * sc + lane[None, :] * ss
    x = tl.load(x_ptr + at, real, 0.0).to(tl.float32)
    mean = tl.sum(tl.sum(x, 1), 0) / size
    apart = tl.where(real, x - mean, 0.0)
    rstd = tl.rsqrt(tl.sum(tl.sum(apart * apart, 1), 0) / size + eps)
    w, b = scale_and_offset(w_ptr, b_ptr, c, row < D, AFFINE)
    z = apart * rstd * w[:, None] + b[:, None]
    tl.store(y_ptr + at, activated(z, slope, ACT).to(y_ptr.dtype.element_ty), real)
    tl.store(mean_ptr + own, mean)
    tl.store(rstd_ptr + own, rstd)


@triton.jit
def gradient_sums(
    x_ptr, dy_ptr, w_ptr, b_ptr, mean_ptr, rstd_ptr, offset_ptr, scale_ptr, C, G, S, sc, ss, K, slope,
    PIXEL: tl.constexpr, AFFINE: tl.constexpr, ACT: tl.constexpr,
    STEPS: tl.constexpr, BC: tl.constexpr, BS: tl.constexpr,
):  # fmt: skip
    """Sums over STEPS * BS pixels of dz and of dz * normalised x, z before the activation: [N, C, K].

    Statistics are per group, or per pixel if PIXEL.
    """
    k, n = tl.program_id(0), tl.program_id(2)
    first = tl.program_id(1) * BC
    c = first + tl.arange(0, BC)
    lane = tl.arange(0, BS)
    start = n.to(tl.int64) * C * S + first.to(tl.int64) * sc + k.to(tl.int64) * (STEPS * BS) * ss
    w, b = scale_and_offset(w_ptr, b_ptr, c, c < C, AFFINE)
    offset, scale = tl.zeros([BC], tl.float32), tl.zeros([BC], tl.float32)
    for i in range(STEPS):
        pixel = (k * STEPS + i) * BS + lane
        real = (c < C)[:, None] & (pixel < S)[None, :]
        at = tl.arange(0, BC)[:, None] * sc + (i * BS + lane)[None, :] * ss
        x = tl.load(x_ptr + start + at, real, 0.0).to(tl.float32)
        dy = tl.load(dy_ptr + start + at, real, 0.0).to(tl.float32)
        if PIXEL:
            own = n.to(tl.int64) * S + pixel
            mean = tl.load(mean_ptr + own, pixel < S, 0.0)[None, :]
            rstd = tl.load(rstd_ptr + own, pixel < S, 0.0)[None, :]
        else:
            group = n * G + c // (C // G)
            mean = tl.load(mean_ptr + group, c < C, 0.0)[:, None]
            rstd = tl.load(rstd_ptr + group, c < C, 0.0)[:, None]
        normal = (x - mean) * rstd
        dz = tl.where(real, dy * derivative(normal * w[:, None] + b[:, None], slope, ACT), 0.0)
        offset += tl.sum(dz, 1)
        scale += tl.sum(tl.where(real, dz * normal, 0.0), 1)
    to = (n.to(tl.int64) * C + c) * K + k
    tl.store(offset_ptr + to, offset, c < C)
    tl.store(scale_ptr + to, scale, c < C)


@triton.jit
def merge_gradients(
    offset_ptr, scale_ptr, w_ptr, dw_ptr, db_ptr, by_offset_ptr, by_scale_ptr, N, C, G, K, GROUPS,
    AFFINE: tl.constexpr, BC: tl.constexpr, BJ: tl.constexpr,
):  # fmt: skip
    """The first GROUPS programs: the sums of a group, weighted [N, G]; the others: the gradients of BC channels."""
    own = tl.program_id(0)
    if own < GROUPS:
        D = C // G
        n, g = own // G, own % G
        base = (n.to(tl.int64) * C + g * D) * K
        by_offset, by_scale = tl.zeros([BJ], tl.float32), tl.zeros([BJ], tl.float32)
        for j0 in range(0, D * K, BJ):
            j = j0 + tl.arange(0, BJ)
            if AFFINE:
                w = tl.load(w_ptr + g * D + j // K, j < D * K, 0.0).to(tl.float32)
            else:
                w = tl.full([BJ], 1.0, tl.float32)
            by_offset += w * tl.load(offset_ptr + base + j, j < D * K, 0.0)
            by_scale += w * tl.load(scale_ptr + base + j, j < D * K, 0.0)
        tl.store(by_offset_ptr + own, tl.sum(by_offset, 0))
        tl.store(by_scale_ptr + own, tl.sum(by_scale, 0))
    else:
        c = (own - GROUPS) * BC + tl.arange(0, BC)
        db, dw = tl.zeros([BC, BJ], tl.float32), tl.zeros([BC, BJ], tl.float32)
        for j0 in range(0, N * K, BJ):
            j = j0 + tl.arange(0, BJ)
            real = (c < C)[:, None] & (j < N * K)[None, :]
            at = ((j // K)[None, :].to(tl.int64) * C + c[:, None]) * K + (j % K)[None, :]
            db += tl.load(offset_ptr + at, real, 0.0)
            dw += tl.load(scale_ptr + at, real, 0.0)
        tl.store(db_ptr + c, tl.sum(db, 1).to(db_ptr.dtype.element_ty), c < C)
        tl.store(dw_ptr + c, tl.sum(dw, 1).to(dw_ptr.dtype.element_ty), c < C)


@triton.jit
def apply_gradient(
    x_ptr, dy_ptr, dx_ptr, w_ptr, b_ptr, mean_ptr, rstd_ptr, by_offset_ptr, by_scale_ptr, C, G, S, sc, ss, size, slope,
    AFFINE: tl.constexpr, ACT: tl.constexpr, BC: tl.constexpr, BS: tl.constexpr,
):  # fmt: skip
    """The gradient of a tile of x, from the sums of its group."""
    n = tl.program_id(2)
    first, pixel = tl.program_id(1) * BC, tl.program_id(0).to(tl.int64) * BS
    c = first + tl.arange(0, BC)
    lane = tl.arange(0, BS)
    real = (c < C)[:, None] & (lane < S - pixel)[None, :]
    start = n.to(tl.int64) * C * S + first.to(tl.int64) * sc + pixel * ss
    at = tl.arange(0, BC)[:, None] * sc + lane[None, :] * ss
    x = tl.load(x_ptr + start + at, real, 0.0).to(tl.float32)
    dy = tl.load(dy_ptr + start + at, real, 0.0).to(tl.float32)
    group = n * G + c // (C // G)
    mean = tl.load(mean_ptr + group, c < C, 0.0)
    rstd = tl.load(rstd_ptr + group, c < C, 0.0)
    by_offset = tl.load(by_offset_ptr + group, c < C, 0.0) / size
    by_scale = tl.load(by_scale_ptr + group, c < C, 0.0) / size
    w, b = scale_and_offset(w_ptr, b_ptr, c, c < C, AFFINE)
    normal = (x - mean[:, None]) * rstd[:, None]
    dz = dy * derivative(normal * w[:, None] + b[:, None], slope, ACT)
    dx = rstd[:, None] * (w[:, None] * dz - (by_offset[:, None] + normal * by_scale[:, None]))
    tl.store(dx_ptr + start + at, dx.to(dx_ptr.dtype.element_ty), real)


@triton.jit
def whole_gradient(
    x_ptr, dy_ptr, dx_ptr, w_ptr, b_ptr, mean_ptr, rstd_ptr, offset_ptr, scale_ptr, C, G, S, sc, ss, size, slope,
    AFFINE: tl.constexpr, ACT: tl.constexpr, BC: tl.constexpr, BS: tl.constexpr,
):  # fmt: skip
    """All of backward for a group that fits a tile, but the gradients of weights, of which it leaves sums [N, C]."""
    own = tl.program_id(0)
    n, D = own // G, C // G
    row, lane = tl.arange(0, BC), tl.arange(0, BS)
    c = own % G * D + row
    real = (row < D)[:, None] & (lane < S)[None, :]
    start = n.to(tl.int64) * C * S  # apart: offsets in an image of such small groups are 32 bits
    at = c[:, None] * sc + lane[None, :] * ss
    x = tl.load(x_ptr + start + at, real, 0.0).to(tl.float32)
    dy = tl.load(dy_ptr + start + at, real, 0.0).to(tl.float32)
    mean, rstd = tl.load(mean_ptr + own), tl.load(rstd_ptr + own)
    w, b = scale_and_offset(w_ptr, b_ptr, c, row < D, AFFINE)
    normal = tl.where(real, (x - mean) * rstd, 0.0)
    dz = tl.where(real, dy * derivative(normal * w[:, None] + b[:, None], slope, ACT), 0.0)
    offset, scale = tl.sum(dz, 1), tl.sum(dz * normal, 1)
    by_offset, by_scale = tl.sum(w * offset, 0) / size, tl.sum(w * scale, 0) / size
    dx = rstd * (w[:, None] * dz - by_offset - normal * by_scale)
    tl.store(dx_ptr + start + at, dx.to(dx_ptr.dtype.element_ty), real)
    tl.store(offset_ptr + n.to(tl.int64) * C + c, offset, row < D)
    tl.store(scale_ptr + n.to(tl.int64) * C + c, scale, row < D)
