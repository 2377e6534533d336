"""Group norm and layer norm over channels with an activation, by PyTorch in float32 (of float64 in float64): what the
kernels compute."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

aten = torch.ops.aten

ACTIVATIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "none": lambda z, slope: z,
    "relu": lambda z, slope: F.relu(z),
    "relu6": lambda z, slope: F.relu6(z),
    "silu": lambda z, slope: F.silu(z),
    "leaky_relu": F.leaky_relu,
    "gelu": lambda z, slope: F.gelu(z),
    "gelu_tanh": lambda z, slope: F.gelu(z, approximate="tanh"),
    "hardswish": lambda z, slope: F.hardswish(z),
    "sigmoid": lambda z, slope: z.sigmoid(),
}


# of the gradient of the activation, z before it, and the slope
DERIVATIVES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "none": lambda dy, z, slope: dy,
    "relu": lambda dy, z, slope: aten.threshold_backward(dy, z, 0),
    "relu6": lambda dy, z, slope: aten.hardtanh_backward(dy, z, 0, 6),
    "silu": lambda dy, z, slope: aten.silu_backward(dy, z),
    "leaky_relu": lambda dy, z, slope: aten.leaky_relu_backward(dy, z, slope, False),
    "gelu": lambda dy, z, slope: aten.gelu_backward(dy, z),
    "gelu_tanh": lambda dy, z, slope: aten.gelu_backward(dy, z, approximate="tanh"),
    "hardswish": lambda dy, z, slope: aten.hardswish_backward(dy, z),
    "sigmoid": lambda dy, z, slope: aten.sigmoid_backward(dy, z.sigmoid()),
}
Gradients = tuple[Tensor, Tensor, Tensor]


def group_forward(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, groups: int, eps: float, act: str, slope: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Output in the type and layout of x[N, C, ...], and mean and 1 / deviation float32[N, groups]."""
    parts = full(x).reshape(x.shape[0], groups, -1)
    variance, mean = torch.var_mean(parts, 2, correction=0)
    rstd = (variance + eps).rsqrt()
    z = affine(normalised(x, mean, rstd), weight, bias)
    return torch.empty_like(x).copy_(ACTIVATIONS[act](z, slope)), mean, rstd


def group_backward(
    dy: Tensor, x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, rstd: Tensor,
    groups: int, act: str, slope: float,
) -> Gradients:  # fmt: skip
    """Gradients of x, weight and bias."""
    normal = normalised(x, mean, rstd)
    dz = DERIVATIVES[act](full(dy), affine(normal, weight, bias), slope)
    by = dz if weight is None else dz * along(weight, dz)
    parts, normals = by.reshape(x.shape[0], groups, -1), normal.reshape(x.shape[0], groups, -1)
    inner = parts - parts.mean(2, keepdim=True) - normals * (parts * normals).mean(2, keepdim=True)
    dx = (inner * rstd[:, :, None]).reshape(x.shape)
    return torch.empty_like(x).copy_(dx), *of_weights(dz, normal, weight)


def channel_forward(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, act: str, slope: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Output in the type and layout of x[N, C, ...], and mean and 1 / deviation float32[N, S] over the channels."""
    variance, mean = torch.var_mean(full(x), 1, correction=0)
    mean, rstd = mean.reshape(x.shape[0], -1), (variance + eps).rsqrt().reshape(x.shape[0], -1)
    z = affine(per_pixel(x, mean, rstd), weight, bias)
    return torch.empty_like(x).copy_(ACTIVATIONS[act](z, slope)), mean, rstd


def channel_backward(
    dy: Tensor, x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, rstd: Tensor,
    act: str, slope: float,
) -> Gradients:  # fmt: skip
    """Gradients of x, weight and bias."""
    normal = per_pixel(x, mean, rstd)
    dz = DERIVATIVES[act](full(dy), affine(normal, weight, bias), slope)
    by = dz if weight is None else dz * along(weight, dz)
    inner = by - by.mean(1, keepdim=True) - normal * (by * normal).mean(1, keepdim=True)
    dx = inner * rstd.reshape(x.shape[0], 1, *x.shape[2:])
    return torch.empty_like(x).copy_(dx), *of_weights(dz, normal, weight)


def full(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def normalised(x: Tensor, mean: Tensor, rstd: Tensor) -> Tensor:
    """float32 x of each group by its mean and 1 / deviation [N, groups]."""
    parts = full(x).reshape(*mean.shape, -1)
    return ((parts - mean[:, :, None]) * rstd[:, :, None]).reshape(x.shape)


def per_pixel(x: Tensor, mean: Tensor, rstd: Tensor) -> Tensor:
    """float32 x of each pixel by its mean and 1 / deviation [N, S]."""
    shape = (x.shape[0], 1, *x.shape[2:])
    return (full(x) - mean.reshape(shape)) * rstd.reshape(shape)


def along(weight: Tensor, x: Tensor) -> Tensor:
    return full(weight).reshape(1, -1, *[1] * (x.ndim - 2))


def affine(normal: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    if weight is None or bias is None:
        return normal
    return normal * along(weight, normal) + along(bias, normal)


def of_weights(dz: Tensor, normal: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Gradients of weight and bias, in the type of the weight."""
    axes = [axis for axis in range(dz.ndim) if axis != 1]
    kind = torch.float32 if weight is None else weight.dtype
    return (dz * normal).sum(axes).to(kind), dz.sum(axes).to(kind)
