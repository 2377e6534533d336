"""Replaces norm layers, so that batches of one or two images of 2048 pixels train as well as large batches."""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import ConfigError


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
        if x[0, 0].numel() == 1:  # a single pixel becomes zero, whatever it was
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
