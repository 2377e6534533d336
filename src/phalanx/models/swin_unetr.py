"""Swin UNETR of MONAI, in two dimensions (Hatamizadeh et al., 2022), as an encoder, a decoder and a head."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor, nn

from ..errors import ConfigError
from .segmenter import Segmenter

ENCODER = "swin"
FeatureSize = Annotated[int, Field(ge=12, multiple_of=12)]


class SwinEncoder(nn.Module):
    """Windowed attention, with a residual block on each of its maps except the one at stride 16."""

    def __init__(self, net: Any):
        super().__init__()
        self.swin, self.normalize = net.swinViT, net.normalize
        self.blocks = nn.ModuleList([net.encoder1, net.encoder2, net.encoder3, net.encoder4, net.encoder10])

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images float[B, 1, H, W], followed by maps at strides 1, 2, 4, 8, 16, 32."""
        hidden = self.swin(images, self.normalize)
        one, two, four, eight, last = self.blocks
        maps = [one(images), two(hidden[0]), four(hidden[1]), eight(hidden[2]), hidden[3], last(hidden[4])]
        return [images, *maps]


class SwinDecoder(nn.Module):
    """Transposed convolutions from each map to the next finer one."""

    def __init__(self, net: Any):
        super().__init__()
        self.up = nn.ModuleList([net.decoder5, net.decoder4, net.decoder3, net.decoder2, net.decoder1])

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        *skips, x = features[1:]
        for up, skip in zip(self.up, reversed(skips), strict=True):
            x = up(x, skip)
        return x


def build(
    encoder: str, *, weights: str | None, classes: int, feature_size: FeatureSize = 24, v2: bool = False
) -> Segmenter:
    """Swin UNETR from scratch.

    Args:
        feature_size: channels at full size, a multiple of 12.
        v2: a residual convolution before each stage (He et al., SwinUNETR-V2, 2023).

    Raises:
        ConfigError: MONAI is not installed, another encoder, or weights (none are published for two dimensions).
    """
    if encoder != ENCODER or weights is not None:
        raise ConfigError(
            f"model.arch=swin_unetr with model.encoder={encoder}, weights={weights or 'none'}: trains its own encoder "
            f"from scratch: set model.encoder={ENCODER} model.weights=none, or set model.arch=upernet with an "
            "encoder such as tu-swinv2_tiny_window8_256"
        )
    try:
        import einops  # noqa: F401  # MONAI imports it only when the network runs
        from monai.networks.nets.swin_unetr import SwinUNETR
    except ImportError:
        raise ConfigError(
            "model.arch=swin_unetr needs MONAI and einops, which are not installed: .venv/bin/pip install "
            "monai einops. Or set model.arch=upernet with model.encoder=tu-swinv2_tiny_window8_256"
        ) from None
    net: Any = SwinUNETR(in_channels=1, out_channels=classes, feature_size=feature_size, spatial_dims=2, use_v2=v2)
    return Segmenter(encoder=SwinEncoder(net), decoder=SwinDecoder(net), head=net.out, classes=classes)
