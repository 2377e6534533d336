"""Prepares a network for a GPU: norms that keep half precision, with Triton also fused with their activations.

Classes of modules are changed, not modules, so parameters keep their names, and on a CPU each module runs as it is.
"""

from collections import Counter
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from . import norms
from .norm_paths import GpuChannelNorm, GpuGroupNorm, GpuInstanceNorm, GpuLastNorm, GpuNorm, choose, path_of
from .segmenter import Segmenter, input_channels

# by name, since timm has classes of its own
ACTIVATIONS = {
    "ReLU": "relu", "ReLU6": "relu6", "SiLU": "silu", "Swish": "silu", "LeakyReLU": "leaky_relu", "GELU": "gelu",
    "GELUTanh": "gelu_tanh", "Hardswish": "hardswish", "HardSwish": "hardswish", "Sigmoid": "sigmoid",
}  # fmt: skip


def prepare_for_gpu(segmenter: Segmenter, size: int) -> int:
    """Lets the norms run on a GPU as ``PHALANX_KERNELS`` chooses; returns the number of activations they compute.

    Args:
        size: side of the images, on which the network runs once without values to find what follows each norm.
    """
    path = choose()
    for module in list(segmenter.modules()):
        kind = _kind(module)
        if kind is not None:
            _put_before(module, kind)
        if type(module).__name__ == "ConvNeXtBlock" and type(module.norm).__name__ == "LayerNorm":  # of timm
            _put_before(module.norm, GpuLastNorm)  # type: ignore[arg-type]
    if path != "triton":
        return 0
    blocks = [module for module in segmenter.modules() if _is_smp_mbconv(module)]
    others = {norm for block in blocks for norm in block.children()}
    pairs = [pair for pair in following_activations(segmenter, size) if pair[0] not in others]
    for norm, activation, alone in pairs:
        norm.activation = (name_of(activation), float(getattr(activation, "negative_slope", 0.0)))
        if alone:
            _put_before(activation, _Fused)
        else:
            norm.hands_to = (activation,)  # in a tuple, or it would be a part of the norm
            _put_before(activation, Shared)
    return len(pairs) + sum(map(_fuse_mbconv, blocks))


def _put_before(module: nn.Module, kind: type) -> None:
    """Puts a class before that of a module, unless it is there."""
    plain = type(module)
    if not issubclass(plain, kind):
        module.__class__ = type(plain.__name__, (kind, plain), {})


def _kind(module: nn.Module) -> type | None:
    """What a norm becomes on a GPU. Transformers' LayerNorm stays: float32 sums of residuals begin with its output."""
    if isinstance(module, GpuNorm):
        return None
    if type(module) is nn.GroupNorm or (type(module).__name__ == "GroupNorm" and isinstance(module, nn.GroupNorm)):
        return GpuGroupNorm
    if isinstance(module, norms.InstanceNorm) or (
        isinstance(module, nn.InstanceNorm2d) and not module.track_running_stats
    ):
        return GpuInstanceNorm
    return GpuChannelNorm if isinstance(module, norms.ChannelNorm) or type(module).__name__ == "LayerNorm2d" else None


def name_of(activation: nn.Module) -> str:
    """The name of an activation that a norm can compute; empty of other modules."""
    name = ACTIVATIONS.get(type(activation).__name__, "")
    return "gelu_tanh" if name == "gelu" and getattr(activation, "approximate", "none") == "tanh" else name


class _Uses(TorchFunctionMode):
    """Counts how often each tensor is an argument."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[int] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts.update(id(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
        return func(*args, **(kwargs or {}))


def following_activations(segmenter: nn.Module, size: int) -> list[tuple[GpuNorm, nn.Module, bool]]:
    """Norms that run once, with the activation that alone uses their output, and whether it does nothing else.

    In a ResNet of torchvision, one ReLU follows each norm of a block and the sum at its end. None if the network cannot
    be run without values.
    """
    outputs: dict[int, tuple[GpuNorm, Tensor]] = {}  # of norms; holding them keeps their ids from being reused
    found: list[tuple[GpuNorm, nn.Module, int]] = []  # with the id of the norm's output
    calls: Counter[nn.Module] = Counter()
    uses = _Uses()
    running: list[int | None] = []  # for each activation that runs, its place in ``found``

    def after_norm(module: Any, arguments: Any, output: Tensor) -> None:
        calls[module] += 1
        outputs[id(output)] = (module, output)
        uses.counts[id(output)] = 0  # not those of a tensor that was there before

    def before_activation(module: nn.Module, arguments: Any) -> None:
        calls[module] += 1
        value = id(arguments[0])
        running.append(None)
        if value in outputs and not uses.counts[value]:
            running[-1] = len(found)
            found.append((outputs[value][0], module, value))

    def after_activation(module: nn.Module, arguments: Any, output: Tensor) -> None:
        place = running.pop()
        if place is not None:
            uses.counts[found[place][2]] = 0  # not the activation's own
            if output is arguments[0]:  # in place: later uses are of the activation
                found[place] = (*found[place][:2], 0)

    handles = [m.register_forward_hook(after_norm) for m in segmenter.modules() if isinstance(m, GpuNorm)]
    for module in segmenter.modules():
        if name_of(module):
            handles.append(module.register_forward_pre_hook(before_activation))
            handles.append(module.register_forward_hook(after_activation))
    try:
        _run_without_values(segmenter, size, uses)
    except Exception:  # a tensor that is not a buffer; then norms compute no activations
        return []
    finally:
        for handle in handles:
            handle.remove()
    once = [(norm, module, value) for norm, module, value in found if calls[norm] == 1]
    return [(norm, module, calls[module] == 1) for norm, module, value in once if not (value and uses.counts[value])]


def _run_without_values(segmenter: nn.Module, size: int, mode: TorchFunctionMode) -> None:
    """Runs a step's forward on the meta device: in training, where dropout may come between norm and activation."""
    tensors = chain(segmenter.named_parameters(), segmenter.named_buffers())
    meta = {name: tensor.detach().to("meta") for name, tensor in tensors}
    images = torch.empty(2, input_channels(segmenter), size, size, device="meta")
    states = {module: module.training for module in segmenter.modules()}
    segmenter.train()
    try:
        with torch.no_grad(), mode:
            functional_call(segmenter, meta, (images,))
    finally:
        for module, training in states.items():
            module.training = training


class _Fused(nn.Module):
    """An activation that the norm before it computes on a GPU."""

    def forward(self, x: Tensor) -> Tensor:
        return x if path_of(x) == "triton" else super().forward(x)


class Shared(nn.Module):
    """An activation that some norms compute before they hand their maps to it, and that runs on other maps too."""

    computed: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        computed, self.computed = self.computed, None
        return x if x is computed else super().forward(x)


def _is_smp_mbconv(module: nn.Module) -> bool:
    """Whether this is smp's EfficientNet block, which calls one activation after its first norms and elsewhere."""
    return (
        type(module).__name__ == "MBConvBlock"
        and isinstance(getattr(module, "_swish", None), nn.SiLU)
        and isinstance(getattr(module, "_bn1", None), GpuNorm)
    )


def _fuse_mbconv(block: Any) -> int:
    """Fuses a block of smp's EfficientNet; returns the number of its norms that compute an activation."""
    found = [norm for norm in (block._bn0, block._bn1) if isinstance(norm, GpuNorm)]  # without expansion only one
    for norm in found:
        norm.activation = ("silu", 0.0)
    _put_before(block, _FusedMBConv)
    return len(found)


class _FusedMBConv(nn.Module):
    """smp's MBConvBlock on a GPU: two norms compute their activations, and stochastic depth is one pass over maps."""

    def forward(self, inputs: Tensor, drop_connect_rate: float | None = None) -> Tensor:
        block: Any = self
        if path_of(inputs) != "triton":
            return super().forward(inputs, drop_connect_rate)
        x = block._bn0(block._expand_conv(inputs))
        x = block._bn1(block._depthwise_conv(x))
        if block._has_se:
            squeezed = block._swish(block._se_reduce(F.adaptive_avg_pool2d(x, 1)))
            x = torch.sigmoid(block._se_expand(squeezed)) * x
        x = block._bn2(block._project_conv(x))
        if not block._has_drop_connect:
            return x
        if not drop_connect_rate or not self.training:
            return x + inputs
        keep = 1 - drop_connect_rate
        kept = x.new_empty((len(x), 1, 1, 1)).bernoulli_(keep)
        return torch.addcmul(inputs, x, kept, value=1 / keep)
