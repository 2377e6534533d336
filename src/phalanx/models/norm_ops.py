"""Group norm and layer norm over channels, each with its activation, as one operation of PyTorch on a GPU.

Statistics and gradients are float32, maps keep their type, NCHW or NHWC. Saved for backward are x, its mean and its
1 / standard deviation; the normalised map and the activation's input are computed again. The kernels compile and are
captured as ``torch.library.triton_op``. The operations also run on a CPU, by PyTorch in float32, so that a step as it
is on a GPU can be counted and tested without one; under Triton's interpreter the kernels themselves run there.

Importing this module needs Triton.
"""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.library import triton_op, wrap_triton
from triton.runtime.jit import JITFunction

from . import channel_norm_kernels, norm_kernels
from .norm_layout import Layout, cdiv, dense, group_tile, like, next_power_of_2
from .norm_reference import channel_backward, channel_forward, group_backward, group_forward


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, warps: int = 8, **constants: Any) -> None:
    """Runs a kernel, on what is compiled through PyTorch's wrapper; under Triton's interpreter there is none."""
    run = wrap_triton(kernel) if isinstance(kernel, JITFunction) else kernel
    device = arguments[0].device
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():  # Triton takes the current one
        run[grid](*arguments, num_warps=warps, **constants)


def _float(x: Tensor, *shape: int) -> Tensor:
    return x.new_empty(shape, dtype=torch.float32)


@triton_op("phalanx::group_norm_act", mutates_args=())
def group_norm_act(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, groups: int, eps: float, act: str, slope: float
) -> tuple[Tensor, Tensor, Tensor]:
    """act(group norm of x[N, C, ...]) in the type and layout of x, and float32 mean and 1 / deviation [N, groups]."""
    x, at = dense(x)
    y, mean, rstd = torch.empty_like(x), _float(x, at.N, groups), _float(x, at.N, groups)
    affine: dict[str, Any] = {"AFFINE": weight is not None, "ACT": act}
    group = group_tile(at, groups)
    w, b = (x, x) if weight is None or bias is None else (weight, bias)  # read only if affine
    maps = (x, y, w, b, mean, rstd, at.C, groups, at.S, at.sc, at.ss)
    if group.fits:
        launch(
            norm_kernels.whole_group, (at.N * groups,), *maps, float(group.size), eps, slope,
            BC=group.channels, BS=group.pixels, warps=group.warps, **affine,
        )  # fmt: skip
        return y, mean, rstd
    channels, pixels = tile = at.tile()
    steps = at.steps(tile)
    spans = cdiv(at.S, steps * pixels)
    means, squares = _float(x, at.N, at.C, spans), _float(x, at.N, at.C, spans)
    launch(
        norm_kernels.moments, (spans, cdiv(at.C, channels), at.N),
        x, means, squares, at.C, at.S, at.sc, at.ss, spans, STEPS=steps, BC=channels, BS=pixels,
    )  # fmt: skip
    launch(
        norm_kernels.merge_moments, (at.N * groups,), means, squares, mean, rstd,
        at.C, groups, at.S, spans, float(group.size), eps, SPAN=steps * pixels, BJ=1024, warps=4,
    )  # fmt: skip
    launch(
        norm_kernels.apply_norm, (cdiv(at.S, pixels), cdiv(at.C, channels), at.N), *maps, slope,
        BC=channels, BS=pixels, **affine,
    )  # fmt: skip
    return y, mean, rstd


@triton_op("phalanx::group_norm_act_backward", mutates_args=())
def group_norm_act_backward(
    dy: Tensor, x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, rstd: Tensor,
    groups: int, act: str, slope: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of x, and of weight and bias (without these float32 and of no meaning)."""
    x, at = dense(x)
    dy, dx = like(dy, x), torch.empty_like(x)
    affine: dict[str, Any] = {"AFFINE": weight is not None, "ACT": act}
    group = group_tile(at, groups)
    w, b = (x, x) if weight is None or bias is None else (weight, bias)
    maps = (x, dy, dx, w, b, mean, rstd)
    sizes = (at.C, groups, at.S, at.sc, at.ss)
    if group.fits:
        offset, scale = _float(x, at.N, at.C, 1), _float(x, at.N, at.C, 1)
        launch(
            norm_kernels.whole_gradient, (at.N * groups,), *maps, offset, scale, *sizes, float(group.size), slope,
            BC=group.channels, BS=group.pixels, warps=group.warps, **affine,
        )  # fmt: skip
        return dx, *_weight_gradients(at, weight, offset, scale)
    offset, scale = _gradient_sums(at, dy, x, weight, bias, mean, rstd, groups, act, slope, pixel=False)
    dw, db, by_offset, by_scale = _merged(at, weight, offset, scale, groups)
    channels, pixels = at.tile()
    launch(
        norm_kernels.apply_gradient, (cdiv(at.S, pixels), cdiv(at.C, channels), at.N), *maps, by_offset, by_scale,
        *sizes, float(group.size), slope, BC=channels, BS=pixels, **affine,
    )  # fmt: skip
    return dx, dw, db


@triton_op("phalanx::channel_norm_act", mutates_args=())
def channel_norm_act(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, act: str, slope: float
) -> tuple[Tensor, Tensor, Tensor]:
    """act(layer norm over C of x[N, C, ...]) in the type and layout of x, and mean and 1 / deviation [N, S]."""
    x, at = dense(x)
    y, mean, rstd = torch.empty_like(x), _float(x, at.N, at.S), _float(x, at.N, at.S)
    w, b = (x, x) if weight is None or bias is None else (weight, bias)
    channels, pixels = at.pixel_tile()
    launch(
        channel_norm_kernels.pixel_norm, (cdiv(at.S, pixels), at.N), x, y, w, b, mean, rstd,
        at.C, at.S, at.sc, at.ss, eps, slope, AFFINE=weight is not None, ACT=act, BC=channels, BS=pixels,
    )  # fmt: skip
    return y, mean, rstd


@triton_op("phalanx::channel_norm_act_backward", mutates_args=())
def channel_norm_act_backward(
    dy: Tensor, x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, rstd: Tensor,
    act: str, slope: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients as of :func:`group_norm_act_backward`."""
    x, at = dense(x)
    dy, dx = like(dy, x), torch.empty_like(x)
    w, b = (x, x) if weight is None or bias is None else (weight, bias)
    channels, pixels = at.pixel_tile()
    launch(
        channel_norm_kernels.pixel_gradient, (cdiv(at.S, pixels), at.N), x, dy, dx, w, b, mean, rstd,
        at.C, at.S, at.sc, at.ss, slope, AFFINE=weight is not None, ACT=act, BC=channels, BS=pixels,
    )  # fmt: skip
    sums = _gradient_sums(at, dy, x, weight, bias, mean, rstd, 1, act, slope, pixel=True)
    return dx, *_weight_gradients(at, weight, *sums)


def _gradient_sums(
    at: Layout, dy: Tensor, x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, rstd: Tensor,
    groups: int, act: str, slope: float, *, pixel: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Sums of the gradients of offset and scale [N, C, spans]."""
    # smaller tiles, as registers would be spilled
    channels, pixels = tile = at.tile(4 if pixel else 1 if at.ss == 1 else 2)
    steps = at.steps(tile)
    spans = cdiv(at.S, steps * pixels)
    offset, scale = _float(x, at.N, at.C, spans), _float(x, at.N, at.C, spans)
    w, b = (x, x) if weight is None or bias is None else (weight, bias)
    launch(
        norm_kernels.gradient_sums, (spans, cdiv(at.C, channels), at.N), x, dy, w, b, mean, rstd, offset, scale,
        at.C, groups, at.S, at.sc, at.ss, spans, slope,
        PIXEL=pixel, AFFINE=weight is not None, ACT=act, STEPS=steps, BC=channels, BS=pixels,
    )  # fmt: skip
    return offset, scale


def _weight_gradients(at: Layout, weight: Tensor | None, offset: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    return _merged(at, weight, offset, scale, 0)[:2]


def _merged(
    at: Layout, weight: Tensor | None, offset: Tensor, scale: Tensor, groups: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of weight and bias, and the weighted sums of each group [N, groups]."""
    kind = torch.float32 if weight is None else weight.dtype
    dw, db = offset.new_empty(at.C, dtype=kind), offset.new_empty(at.C, dtype=kind)
    by_offset, by_scale = _float(offset, at.N, groups), _float(offset, at.N, groups)
    channels = min(next_power_of_2(at.C), 8)
    launch(
        norm_kernels.merge_gradients, (at.N * groups + cdiv(at.C, channels),),
        offset, scale, offset if weight is None else weight, dw, db, by_offset, by_scale,
        at.N, at.C, max(groups, 1), offset.shape[2], at.N * groups,
        AFFINE=weight is not None, BC=channels, BJ=256, warps=4,
    )  # fmt: skip
    return dw, db, by_offset, by_scale


def _fake_group(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, groups: int, eps: float, act: str, slope: float
) -> tuple[Tensor, Tensor, Tensor]:
    statistics = (_float(x, x.shape[0], groups) for _ in range(2))
    return torch.empty_like(dense(x)[0]), *statistics  # type: ignore[return-value]


def _fake_channel(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, act: str, slope: float
) -> tuple[Tensor, Tensor, Tensor]:
    x, at = dense(x)
    return torch.empty_like(x), _float(x, at.N, at.S), _float(x, at.N, at.S)


def _fake_backward(dy: Tensor, x: Tensor, weight: Tensor | None, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    kind = torch.float32 if weight is None else weight.dtype
    dw, db = (x.new_empty(x.shape[1], dtype=kind) for _ in range(2))
    return torch.empty_like(dense(x)[0]), dw, db


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, weight, bias, *ctx.options = inputs
    ctx.save_for_backward(x, weight, bias, *output[1:])
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _group_gradients(ctx: Any, dy: Tensor | None, *others: Any) -> tuple[Any, ...]:
    if dy is None:
        return (None,) * 7
    groups, _, act, slope = ctx.options
    saved = ctx.saved_tensors  # once: activation checkpointing refuses a second reading
    dx, dw, db = group_norm_act_backward(dy, *saved, groups, act, slope)
    affine = saved[1] is not None
    return dx, dw if affine else None, db if affine else None, None, None, None, None


def _channel_gradients(ctx: Any, dy: Tensor | None, *others: Any) -> tuple[Any, ...]:
    if dy is None:
        return (None,) * 6
    _, act, slope = ctx.options
    saved = ctx.saved_tensors
    dx, dw, db = channel_norm_act_backward(dy, *saved, act, slope)
    affine = saved[1] is not None
    return dx, dw if affine else None, db if affine else None, None, None, None


def _register() -> None:
    group_norm_act.register_fake(_fake_group)
    channel_norm_act.register_fake(_fake_channel)
    group_norm_act_backward.register_fake(_fake_backward)
    channel_norm_act_backward.register_fake(_fake_backward)
    group_norm_act.register_autograd(_group_gradients, setup_context=_remember)
    channel_norm_act.register_autograd(_channel_gradients, setup_context=_remember)
    if isinstance(norm_kernels.moments, JITFunction):
        group_norm_act.register_kernel("cpu", group_forward)
        group_norm_act_backward.register_kernel("cpu", group_backward)
        channel_norm_act.register_kernel("cpu", channel_forward)
        channel_norm_act_backward.register_kernel("cpu", channel_backward)


_register()
