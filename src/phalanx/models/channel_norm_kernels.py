"""Triton kernels of layer norm over the channels of each pixel, as those of :mod:`norm_kernels`."""

import triton
import triton.language as tl

from .norm_kernel_parts import activated, derivative, scale_and_offset


@triton.jit
def pixel_norm(
    x_ptr, y_ptr, w_ptr, b_ptr, mean_ptr, rstd_ptr, C, S, sc, ss, eps, slope,
    AFFINE: tl.constexpr, ACT: tl.constexpr, BC: tl.constexpr, BS: tl.constexpr,
):  # fmt: skip
    """Layer norm over the channels of BS pixels, BC channels at a time; the second reading comes from the cache."""
    n, pixel = tl.program_id(1), tl.program_id(0) * BS + tl.arange(0, BS)
    row = tl.arange(0, BC)
    start = n.to(tl.int64) * C * S + pixel.to(tl.int64) * ss
    mean, square = tl.zeros([BS], tl.float32), tl.zeros([BS], tl.float32)
    count = 0.0
    for c0 in range(0, C, BC):
        real = (c0 + row < C)[:, None] & (pixel < S)[None, :]
        x = tl.load(x_ptr + start[None, :] + (c0 + row).to(tl.int64)[:, None] * sc, real, 0.0).to(tl.float32)
        m = tl.minimum(C - c0, BC).to(tl.float32)
        own = tl.sum(x, 0) / m
        apart = tl.where(real, x - own[None, :], 0.0)
        delta = own - mean
        mean += delta * (m / (count + m))
        square += tl.sum(apart * apart, 0) + delta * delta * (count * m / (count + m))
        count += m
    rstd = tl.rsqrt(square / count + eps)
    for c0 in range(0, C, BC):
        c = c0 + row
        real = (c < C)[:, None] & (pixel < S)[None, :]
        at = start[None, :] + c.to(tl.int64)[:, None] * sc
        x = tl.load(x_ptr + at, real, 0.0).to(tl.float32)
        w, b = scale_and_offset(w_ptr, b_ptr, c, c < C, AFFINE)
        z = (x - mean[None, :]) * rstd[None, :] * w[:, None] + b[:, None]
        tl.store(y_ptr + at, activated(z, slope, ACT).to(y_ptr.dtype.element_ty), real)
    tl.store(mean_ptr + n.to(tl.int64) * S + pixel, mean, pixel < S)
    tl.store(rstd_ptr + n.to(tl.int64) * S + pixel, rstd, pixel < S)


@triton.jit
def pixel_gradient(
    x_ptr, dy_ptr, dx_ptr, w_ptr, b_ptr, mean_ptr, rstd_ptr, C, S, sc, ss, slope,
    AFFINE: tl.constexpr, ACT: tl.constexpr, BC: tl.constexpr, BS: tl.constexpr,
):  # fmt: skip
    """The gradient of BS pixels of x through :func:`pixel_norm`."""
    n, pixel = tl.program_id(1), tl.program_id(0) * BS + tl.arange(0, BS)
    row = tl.arange(0, BC)
    start = n.to(tl.int64) * C * S + pixel.to(tl.int64) * ss
    mean = tl.load(mean_ptr + n.to(tl.int64) * S + pixel, pixel < S, 0.0)[None, :]
    rstd = tl.load(rstd_ptr + n.to(tl.int64) * S + pixel, pixel < S, 0.0)[None, :]
    by_offset, by_scale = tl.zeros([BS], tl.float32), tl.zeros([BS], tl.float32)
    for c0 in range(0, C, BC):
        c = c0 + row
        real = (c < C)[:, None] & (pixel < S)[None, :]
        at = start[None, :] + c.to(tl.int64)[:, None] * sc
        normal = (tl.load(x_ptr + at, real, 0.0).to(tl.float32) - mean) * rstd
        dy = tl.load(dy_ptr + at, real, 0.0).to(tl.float32)
        w, b = scale_and_offset(w_ptr, b_ptr, c, c < C, AFFINE)
        by = tl.where(real, w[:, None] * dy * derivative(normal * w[:, None] + b[:, None], slope, ACT), 0.0)
        by_offset += tl.sum(by, 0)
        by_scale += tl.sum(tl.where(real, by * normal, 0.0), 0)
    by_offset, by_scale = by_offset / C, by_scale / C
    for c0 in range(0, C, BC):
        c = c0 + row
        real = (c < C)[:, None] & (pixel < S)[None, :]
        at = start[None, :] + c.to(tl.int64)[:, None] * sc
        normal = (tl.load(x_ptr + at, real, 0.0).to(tl.float32) - mean) * rstd
        dy = tl.load(dy_ptr + at, real, 0.0).to(tl.float32)
        w, b = scale_and_offset(w_ptr, b_ptr, c, c < C, AFFINE)
        dz = dy * derivative(normal * w[:, None] + b[:, None], slope, ACT)
        dx = rstd * (w[:, None] * dz - (by_offset[None, :] + normal * by_scale[None, :]))
        tl.store(dx_ptr + at, dx.to(dx_ptr.dtype.element_ty), real)
