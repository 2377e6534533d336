"""Norm layers exchanged, so that one or two images of 2048 pixels a batch train as well as many small ones."""

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
    """Instance norm (Ulyanov et al., 2016): each channel of each image over its places, maps[B, C, ...]."""

    def __init__(self, weight: nn.Parameter | None, bias: nn.Parameter | None, *, channels: int, eps: float):
        super().__init__()
        self.weight, self.bias, self.channels, self.eps = weight, bias, channels, eps

    def forward(self, x: Tensor) -> Tensor:
        if x[0, 0].numel() == 1:  # one place is zero after the norm, whatever it was
            raise ValueError("model.norm=instance would erase the 1 x 1 maps of this network; take model.norm=group")
        return F.group_norm(x, self.channels, self.weight, self.bias, self.eps)


def group_count(channels: int, most: int = 32, width: int = 4) -> int:
    """The largest number of groups, at most ``most``, that divides the channels into groups of ``width`` or more.

    32 does not divide every channel count; and a group of one channel would erase a channel's level, all there
    is to know in a pooled 1 x 1 map.

    >>> group_count(256), group_count(64), group_count(24), group_count(40), group_count(7)
    (32, 16, 6, 10, 1)
    """
    return max(
        groups for groups in range(1, most + 1) if channels % groups == 0 and groups <= max(1, channels // width)
    )


def exchange_norms(module: nn.Module, kind: str) -> nn.Module:
    """Replaces every BatchNorm below ``module``, in place; returns the module.

    Args:
        kind: batch (nothing is done), group (Wu and He, 2018), instance, or layer, which is over the channels of
            each pixel.

    Scale and offset are kept, so pretrained weights keep their meaning; layers that carry an activation of their
    own (timm's BatchNormAct2d) keep it. Norms of other kinds, as ConvNeXt and transformers have them, stay.

    Raises:
        ConfigError: layer norm over a single channel, which would erase it.
    """
    if kind == "batch":
        return module
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            behind = [getattr(child, part) for part in ("drop", "act") if hasattr(child, part)]
            norm = _like(child, kind)
            setattr(module, name, nn.Sequential(norm, *behind) if behind else norm)
        else:
            exchange_norms(child, kind)
    return module


def _like(old: _BatchNorm, kind: str) -> nn.Module:
    channels, eps, affine = old.num_features, old.eps, old.affine
    if kind == "layer" and channels == 1:
        raise ConfigError("model.norm=layer: this network has a norm over one channel, which it would erase")
    if kind != "group":
        norm = ChannelNorm if kind == "layer" else InstanceNorm
        return norm(old.weight, old.bias, channels=channels, eps=eps)
    group = nn.GroupNorm(group_count(channels), channels, eps, affine)
    if affine:
        group.weight, group.bias = old.weight, old.bias
    return group
