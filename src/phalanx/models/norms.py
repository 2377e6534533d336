"""Replaces norm layers, so that batches of one or two images of 2048 pixels train as well as large batches."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import ConfigError
from .segmenter import dry_run, input_channels

SINGLE_VALUE = "Expected more than 1 value per channel"  # as torch begins its message


class ChannelNorm(nn.Module):
    """Layer norm (Ba et al., 2016) over the channels of each pixel, as in ConvNeXt: maps[B, C, ...] to the same."""

    def __init__(self, weight: nn.Parameter | None, bias: nn.Parameter | None, *, channels: int, eps: float):
        super().__init__()
        self.weight, self.bias, self.channels, self.eps = weight, bias, channels, eps

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.movedim(1, -1), (self.channels,), self.weight, self.bias, self.eps).movedim(-1, 1)


class InstanceNorm(nn.Module):
    """Instance norm (Ulyanov et al., 2016): each channel of each image over its pixels, maps[B, C, ...]."""

    def __init__(self, weight: nn.Parameter | None, bias: nn.Parameter | None, *, channels: int, eps: float):
        super().__init__()
        self.weight, self.bias, self.channels, self.eps = weight, bias, channels, eps

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:].numel() == 1:  # a single pixel becomes zero, whatever it was
            raise ValueError("model.norm=instance would zero the 1 x 1 maps of this network; set model.norm=group")
        return F.group_norm(x, self.channels, self.weight, self.bias, self.eps)


def group_count(channels: int, limit: int = 32, width: int = 4) -> int:
    """The largest number of groups, at most ``limit``, that divides the channels into groups of ``width`` or more.

    32 does not divide every channel count. A group of one channel would zero a pooled 1 x 1 map.

    >>> group_count(256), group_count(64), group_count(24), group_count(40), group_count(7)
    (32, 16, 6, 10, 1)
    """
    return max(
        groups for groups in range(1, limit + 1) if channels % groups == 0 and groups <= max(1, channels // width)
    )


def replace_norms(module: nn.Module, kind: str) -> nn.Module:
    """Replaces every BatchNorm below ``module``, in place; returns the module.

    Args:
        kind: batch (no change), group (Wu and He, 2018), instance, or layer, which is over the channels of each
            pixel.

    Scale and offset are reused, so pretrained weights stay valid. So are the activations inside norm layers (timm's
    BatchNormAct2d). Norms of other kinds, as in ConvNeXt and transformers, stay.

    Raises:
        ConfigError: layer norm over a single channel, which would zero it.
    """
    if kind == "batch":
        return module
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            following = [getattr(child, part) for part in ("drop", "act") if hasattr(child, part)]
            norm = _replacement(child, kind)
            setattr(module, name, nn.Sequential(norm, *following) if following else norm)
        else:
            replace_norms(child, kind)
    return module


def _replacement(old: _BatchNorm, kind: str) -> nn.Module:
    channels, eps, affine = old.num_features, old.eps, old.affine
    if kind == "layer" and channels == 1:
        raise ConfigError("model.norm=layer: this network has a norm over one channel, which layer norm would zero")
    if kind != "group":
        norm = ChannelNorm if kind == "layer" else InstanceNorm
        return norm(old.weight, old.bias, channels=channels, eps=eps)
    group = nn.GroupNorm(group_count(channels), channels, eps, affine)
    if affine:
        group.weight, group.bias = old.weight, old.bias
    return group


def pooled_norms(network: nn.Module, size: int) -> list[str]:
    """Names of the BatchNorm layers that a network gives images of a size maps of 1 x 1 pixels.

    In training they have no variance if a batch is a single image.
    """
    found: list[str] = []

    def note(name: str) -> Any:
        return lambda module, inputs: found.append(name) if inputs[0][0, 0].numel() == 1 else None

    norms = {name: module for name, module in network.named_modules() if isinstance(module, _BatchNorm)}
    handles = [module.register_forward_pre_hook(note(name)) for name, module in norms.items()]
    try:
        dry_run(network, torch.zeros(1, input_channels(network), size, size, dtype=torch.uint8))
    finally:
        for handle in handles:
            handle.remove()
    return found


@contextmanager
def refusing_single_values() -> Iterator[None]:
    """Raises ConfigError where BatchNorm meets a single value per channel, instead of torch's error."""
    try:
        yield
    except ValueError as error:
        if not str(error).startswith(SINGLE_VALUE):
            raise
        raise single_image("a layer", "") from None


def single_image(layer: str, where: str) -> ConfigError:
    """The error of BatchNorm over 1 x 1 maps of a single image."""
    return ConfigError(
        f"model.norm=batch: {layer} has maps of 1 x 1 pixels, of which a batch of one image{where} has no variance; "
        "set model.norm=group, or a batch= that leaves no single image over"
    )
