"""Lite R-ASPP: the small decoder of MobileNetV3 (Howard et al., "Searching for MobileNetV3", 2019, section 6.4)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import Count
from ..errors import ConfigError
from .segmenter import Segmenter
from .smp_models import build_encoder, check_encoder


class LiteAspp(nn.Module):
    """The last map, squeezed, gated per channel by its own mean, upsampled and concatenated to the map at stride 8.

    The paper adds the logits of two 1 x 1 convolutions. One convolution of the concatenated maps is the same. The
    paper pools large windows; here the whole map is pooled, as in torchvision.
    """

    def __init__(self, *, fine: int, deep: int, channels: int = 128):
        super().__init__()
        self.squeeze = nn.Sequential(nn.Conv2d(deep, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU())
        self.scale = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(deep, channels, 1, bias=False), nn.Sigmoid())
        self.out_channels = fine + channels

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Feature maps by falling size to float[B, fine + channels, H/8, W/8]."""
        fine, deep = features[3], features[-1]
        x = self.squeeze(deep) * self.scale(deep)
        return torch.cat([fine, F.interpolate(x, fine.shape[-2:], mode="bilinear", align_corners=False)], 1)


def build(encoder: str, *, weights: str | None, classes: int, channels: Count = 128) -> Segmenter:
    """LRASPP on an encoder whose last stage can be dilated to stride 16.

    Args:
        channels: of the squeezed map.

    Raises:
        ConfigError: the encoder is unknown or cannot be dilated.
    """
    check_encoder(encoder)
    try:
        body = build_encoder(encoder, weights=weights, output_stride=16)
    except OSError:
        raise
    except Exception:  # third-party encoders raise errors of any type
        raise ConfigError(
            f"model.arch=lraspp with model.encoder={encoder}: this encoder cannot be dilated to stride 16. "
            "Choose tu-mobilenetv3_large_100, mobilenet_v2, efficientnet-b0 or resnet34, or another model.arch (fpn)"
        ) from None
    decoder = LiteAspp(fine=body.out_channels[3], deep=body.out_channels[-1], channels=channels)
    return Segmenter(encoder=body, decoder=decoder, head=nn.Conv2d(decoder.out_channels, classes, 1), classes=classes)
