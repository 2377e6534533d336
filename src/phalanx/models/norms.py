"""Norm layers exchanged, so that one or two images of 2048 pixels a batch train as well as many small ones."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


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


def batch_to_group(module: nn.Module) -> nn.Module:
    """Replaces every BatchNorm below ``module`` by GroupNorm (Wu and He, 2018), in place; returns the module.

    Scale and offset are kept, so pretrained weights keep their meaning; layers that carry an activation of their
    own (timm's BatchNormAct2d) keep it.
    """
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            norm = nn.GroupNorm(group_count(child.num_features), child.num_features, child.eps, child.affine)
            if child.affine:
                norm.weight, norm.bias = child.weight, child.bias
            behind = [getattr(child, part) for part in ("drop", "act") if hasattr(child, part)]
            setattr(module, name, nn.Sequential(norm, *behind) if behind else norm)
        else:
            batch_to_group(child)
    return module
