"""A U-Net with a residual encoder, from scratch, as nnU-Net plans it.

Isensee et al., "nnU-Net Revisited", 2024 (ResEnc): residual blocks with strided convolutions, leaky ReLU, transposed
convolutions, one convolution per decoder stage, and losses at the coarser decoder stages, each with half the weight of
the one before. nnU-Net uses instance norm; here ``model.norm`` chooses the norm.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from ..config import Count
from ..errors import ConfigError
from .segmenter import Auxiliary, Segmenter, init_prior_bias

BLOCKS = (1, 3, 4, 6, 6, 6, 6, 6)  # residual blocks per encoder stage
ENCODER = "resenc"
Stages = Annotated[int, Field(ge=3, le=len(BLOCKS))]


def conv_norm(before: int, after: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(after)]


def leaky() -> nn.Module:
    return nn.LeakyReLU(0.01, inplace=True)


class Residual(nn.Module):
    """Two convolutions and a shortcut, with average pooling if strided (He et al., 2019, ResNet-D).

    The last norm starts at zero, so that a new block is its shortcut.
    """

    def __init__(self, before: int, after: int, stride: int = 1):
        super().__init__()
        self.body = nn.Sequential(*conv_norm(before, after, 3, stride), leaky(), *conv_norm(after, after))
        pool = [nn.AvgPool2d(stride)] if stride > 1 else []
        project = conv_norm(before, after, 1) if before != after else []
        self.shortcut = nn.Sequential(*pool, *project)
        self.act = leaky()
        nn.init.zeros_(self.body[-1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.body(x) + self.shortcut(x))


class ResidualEncoder(nn.Module):
    """Images float[B, 1, H, W], followed by one map per encoder stage, at strides 1, 2, 4, ..."""

    def __init__(self, channels: Sequence[int]):
        super().__init__()
        self.stem = nn.Sequential(*conv_norm(1, channels[0]), leaky())
        stages = []
        for number, (before, after) in enumerate(pairwise([channels[0], *channels])):
            first = Residual(before, after, stride=2 if number else 1)
            stages.append(nn.Sequential(first, *(Residual(after, after) for _ in range(BLOCKS[number] - 1))))
        self.stages = nn.ModuleList(stages)

    def forward(self, images: Tensor) -> list[Tensor]:
        x, maps = self.stem(images), [images]
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class Decoder(nn.Module):
    """The encoder's maps to one map at full size; in training also logits of all coarser stages but the coarsest."""

    def __init__(self, channels: Sequence[int], classes: int):
        super().__init__()
        steps = list(pairwise(reversed(channels)))
        self.up = nn.ModuleList(nn.ConvTranspose2d(deep, fine, 2, 2) for deep, fine in steps)
        self.mix = nn.ModuleList(nn.Sequential(*conv_norm(2 * fine, fine), leaky()) for _, fine in steps)
        # from stride 2 on; loss weights 1/2, 1/4, ...
        self.heads = nn.ModuleList(nn.Conv2d(width, classes, 1) for width in channels[1:-2])
        for head in self.heads:
            init_prior_bias(head)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Auxiliary]:
        *skips, x = features[1:]
        maps: list[Tensor] = []
        for up, mix, skip in zip(self.up, self.mix, reversed(skips), strict=True):
            x = mix(torch.cat([up(x), skip], 1))
            maps.insert(0, x)
        if not self.training:
            return x, ()
        return x, [(0.5**depth, head(maps[depth])) for depth, head in enumerate(self.heads, 1)]


def build(
    encoder: str,
    *,
    weights: str | None,
    classes: int,
    stages: Stages = 6,
    features: Count = 32,
    max_features: Count = 512,
) -> Segmenter:
    """nnU-Net's residual U-Net, with its own encoder.

    Args:
        stages: resolutions, each half of the one before.
        features: channels at full size; they double per stage up to ``max_features``.

    Raises:
        ConfigError: another encoder, or weights (none are published).
    """
    if encoder != ENCODER or weights is not None:
        raise ConfigError(
            f"model.arch=residual_unet with model.encoder={encoder}, weights={weights or 'none'}: trains its own "
            f"encoder from scratch: set model.encoder={ENCODER} model.weights=none, or model.arch=unet"
        )
    channels = [min(features * 2**stage, max_features) for stage in range(stages)]
    segmenter = Segmenter(
        encoder=ResidualEncoder(channels),
        decoder=Decoder(channels, classes),
        head=nn.Conv2d(channels[0], classes, 1),
        classes=classes,
    )
    for module in [*segmenter.encoder.modules(), *segmenter.decoder.modules()]:
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
            nn.init.kaiming_normal_(module.weight, 0.01)
    return segmenter
