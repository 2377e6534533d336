"""How norms run on a GPU: by Triton kernels, or by PyTorch in float32 between half-precision maps.

Autocast runs ``group_norm`` and ``layer_norm`` in float32 and leaves float32 maps, of which it saves some. Here maps
keep their type, and statistics are float32. PyTorch's own group norm of bfloat16 maps would round mean and deviation to
bfloat16 on a GPU. On a CPU nothing changes: modules run as they are.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..runtime.kernels import kernels

Path = Literal["module", "torch", "triton"]
TYPES = (torch.float32, torch.bfloat16, torch.float16)
aten = torch.ops.aten

_on_gpu: Path = "module"  # of maps on a GPU, once a network is built for one
_simulated = False  # maps on a CPU count as on a GPU


def choose() -> Path:
    """How maps on a GPU run from now on; loads the Triton kernels if they are chosen."""
    global _on_gpu
    _on_gpu = "triton" if kernels() == "triton" else "torch"
    if _on_gpu == "triton":
        from . import norm_ops  # noqa: F401  registers the operations
    return _on_gpu


@contextmanager
def simulated_gpu() -> Iterator[None]:
    """Until the end of this, networks are built for a GPU, and norms treat maps on a CPU as maps on a GPU.

    It serves to count operations or bytes without one.
    """
    global _simulated
    before, _simulated = _simulated, True
    try:
        yield
    finally:
        _simulated = before


def has_gpu() -> bool:
    """Whether networks are built for a GPU: there is one, or one is simulated."""
    return _simulated or torch.cuda.is_available()


def path_of(x: Tensor) -> Path:
    """How a norm of these maps runs. It depends on their type and device only, so an activation can ask, too."""
    return _on_gpu if (x.is_cuda or _simulated) and x.dtype in TYPES else "module"


class Float32GroupNorm(torch.autograd.Function):
    """Group norm in float32 of maps of any type. Saves the maps as they are; float32 copies live for a moment."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, groups: int, eps: float
    ) -> Tensor:  # fmt: skip
        sizes = x.shape[0], x.shape[1], x.shape[2:].numel(), groups
        full = x.float().contiguous()
        y, mean, rstd = torch.native_group_norm(full, _float(weight), _float(bias), *sizes, eps)
        ctx.save_for_backward(x, weight, bias, mean, rstd)
        ctx.sizes = sizes
        return _like(y, x)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, rstd = ctx.saved_tensors
        dy, full = (value.float().contiguous() for value in (upstream[0], x))
        mask = list(ctx.needs_input_grad[:3])
        dx, dw, db = aten.native_group_norm_backward(dy, full, mean, rstd, _float(weight), *ctx.sizes, mask)
        return _gradient(dx, x), _gradient(dw, weight), _gradient(db, bias), None, None


class Float32ChannelNorm(torch.autograd.Function):
    """Layer norm over the channels of maps [B, C, ...], as :class:`Float32GroupNorm`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
        full = x.movedim(1, -1).float().contiguous()
        y, mean, rstd = torch.native_layer_norm(full, [x.shape[1]], _float(weight), _float(bias), eps)
        ctx.save_for_backward(x, weight, bias, mean, rstd)
        return _like(y.movedim(-1, 1), x)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, rstd = ctx.saved_tensors
        dy, full = (value.movedim(1, -1).float().contiguous() for value in (upstream[0], x))
        mask, affine = list(ctx.needs_input_grad[:3]), (_float(weight), _float(bias))
        dx, dw, db = aten.native_layer_norm_backward(dy, full, [x.shape[1]], mean, rstd, *affine, mask)
        dx = None if dx is None else dx.movedim(-1, 1)
        return _gradient(dx, x), _gradient(dw, weight), _gradient(db, bias), None


def _float(weight: Tensor | None) -> Tensor | None:
    return None if weight is None else weight.float()


def _like(value: Tensor, x: Tensor) -> Tensor:
    """The value in the type and layout of x."""
    return value.to(x.dtype) if value.stride() == x.stride() else torch.empty_like(x).copy_(value)


def _gradient(value: Tensor | None, x: Tensor | None) -> Tensor | None:
    return None if value is None or x is None else _like(value, x)


class GpuNorm(nn.Module):
    """Of the norms below: ``activation`` is the one that follows, by name, with its slope; Triton kernels compute it.

    Each is put before the class of a module, which keeps its parameters, and its own forward on a CPU.

    Attributes:
        hands_to: the activation that follows, if it runs elsewhere too and so must be told which maps it finds done.
    """

    activation: tuple[str, float] = ("none", 0.0)
    hands_to: tuple[nn.Module, ...] = ()

    def done(self, y: Tensor) -> Tensor:
        """The maps with the activation computed."""
        for activation in self.hands_to:
            activation.computed = y
        return y


class GpuGroupNorm(GpuNorm):
    """Of :class:`torch.nn.GroupNorm`."""

    num_groups: int
    eps: float
    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def forward(self, x: Tensor) -> Tensor:
        path = path_of(x)
        if path == "triton":
            return self.done(torch.ops.phalanx.group_norm_act(
                x, self.weight, self.bias, self.num_groups, self.eps, *self.activation
            )[0])  # fmt: skip
        if path == "torch":
            return Float32GroupNorm.apply(x, self.weight, self.bias, self.num_groups, self.eps)
        return super().forward(x)


class GpuInstanceNorm(GpuNorm):
    """Of our instance norm and of :class:`torch.nn.InstanceNorm2d` without running statistics."""

    eps: float
    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def forward(self, x: Tensor) -> Tensor:
        path = path_of(x)
        if path == "module" or x.shape[2:].numel() == 1:  # which the module refuses
            return super().forward(x)
        if path == "triton":
            return self.done(torch.ops.phalanx.group_norm_act(
                x, self.weight, self.bias, x.shape[1], self.eps, *self.activation
            )[0])  # fmt: skip
        return Float32GroupNorm.apply(x, self.weight, self.bias, x.shape[1], self.eps)


class GpuChannelNorm(GpuNorm):
    """Of norms over the channels of each pixel, maps [B, C, ...]."""

    eps: float
    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if path_of(x) == "module" else self.on_gpu(x)

    def on_gpu(self, x: Tensor) -> Tensor:
        if path_of(x) == "triton":
            y = torch.ops.phalanx.channel_norm_act(x, self.weight, self.bias, self.eps, *self.activation)[0]
            return self.done(y)
        return Float32ChannelNorm.apply(x, self.weight, self.bias, self.eps)


class GpuLastNorm(GpuChannelNorm):
    """The same of maps [B, ..., C]."""

    def on_gpu(self, x: Tensor) -> Tensor:
        return self.done(super().on_gpu(x.movedim(-1, 1)).movedim(1, -1))
