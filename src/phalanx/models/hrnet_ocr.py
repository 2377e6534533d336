"""HRNet with object-contextual representations, for overlapping classes.

Yuan, Chen and Wang, "Object-Contextual Representations for Semantic Segmentation", 2020. A first head predicts a soft
region per class. The mean feature of a region represents the class. Each pixel adds the representations of the classes
that it resembles to its own feature. With exclusive classes, the first head is trained by cross-entropy, and a softmax
over the pixels makes its logits a region. Here the head is trained by sigmoid, like the network, and a region is that
probability divided by its sum over the pixels. So confident pixels of a bone have about equal weight, a pixel may
belong to several regions, and classes do not compete.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ..config import Count, Fraction, nearest
from ..errors import ConfigError
from .libraries import without_wandb
from .segmenter import Auxiliary, Segmenter, init_prior_bias
from .smp_models import build_encoder, check_encoder


def conv_norm(before: int, after: int, kernel: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU(inplace=True))


def gather(logits: Tensor, pixels: Tensor) -> Tensor:
    """The mean feature of each soft region: logits[B, K, H, W] and pixels[B, D, H, W] to float32[B, D, K].

    In float32 even under autocast: the weight of one of 512 x 512 pixels underflows in half precision.
    """
    kind = logits.device.type if torch.amp.is_autocast_available(logits.device.type) else "cpu"
    with torch.autocast(kind, enabled=False):
        # sigmoid divided by its sum, without a division by 0 if a class is absent
        weights = F.logsigmoid(logits.float()).flatten(2).softmax(2)
        return pixels.float().flatten(2) @ weights.transpose(1, 2)


class ObjectContext(nn.Module):
    """Feature maps to one map at the finest stride, with object context added to each pixel.

    Args:
        channels: of HRNet's maps, the finest first.
        width, key: channels of pixel features and of attention keys; the paper's numbers.
        auxiliary: weight of the first head's loss; the paper's number.
    """

    def __init__(
        self, *, channels: Sequence[int], classes: int, width: int, key: int, dropout: float, auxiliary: float
    ):
        super().__init__()
        total = sum(channels)
        self.region = nn.Sequential(conv_norm(total, total), nn.Conv2d(total, classes, 1))
        self.pixel = conv_norm(total, width, 3)
        self.query = nn.Sequential(conv_norm(width, key), conv_norm(key, key))
        self.key = nn.Sequential(conv_norm(width, key), conv_norm(key, key))
        self.value = conv_norm(width, key)
        self.context = conv_norm(key, width)
        self.join = nn.Sequential(conv_norm(2 * width, width), nn.Dropout2d(dropout))
        self.scales, self.auxiliary = len(channels), auxiliary
        init_prior_bias(self.region)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Auxiliary]:
        """float[B, width, H/4, W/4] and the first head's logits, from the last of the encoder's maps."""
        maps = features[-self.scales :]
        size = maps[0].shape[-2:]
        x = torch.cat([maps[0], *(F.interpolate(m, size, mode="bilinear", align_corners=False) for m in maps[1:])], 1)
        logits, pixels = self.region(x), self.pixel(x)
        objects = gather(logits, pixels).to(pixels.dtype)[..., None]  # (B, D, K, 1)
        query, key = self.query(pixels).flatten(2), self.key(objects).flatten(2)
        attention = (query.transpose(1, 2) @ key / key.shape[1] ** 0.5).softmax(2)  # (B, HW, K)
        context = self.value(objects).flatten(2) @ attention.transpose(1, 2).to(pixels.dtype)
        context = self.context(context.unflatten(2, tuple(size)))
        auxiliary = [(self.auxiliary, logits)] if self.training and self.auxiliary else []
        return self.join(torch.cat([context, pixels], 1)), auxiliary


def build(
    encoder: str,
    *,
    weights: str | None,
    classes: int,
    width: Count = 512,
    key: Count = 256,
    dropout: Fraction = 0.05,
    auxiliary: Annotated[float, Field(ge=0)] = 0.4,
) -> Segmenter:
    """OCR on the four branches of one of timm's HRNets (``tu-hrnet_w48``).

    Raises:
        ConfigError: another encoder.
    """
    with without_wandb():
        import timm

    if not encoder.startswith("tu-hrnet_"):
        raise ConfigError(
            f"model.arch=hrnet_ocr with model.encoder={encoder}: it needs an HRNet"
            f"{nearest(encoder, ['tu-' + name for name in timm.list_models('hrnet_w*')])} "
            "(for other encoders: model.arch=fpn, unet, upernet)"
        )
    check_encoder(encoder)
    body = build_encoder(encoder, weights=weights, feature_location="")  # without the widening of its classifier
    decoder = ObjectContext(
        channels=body.out_channels[-4:], classes=classes, width=width, key=key, dropout=dropout, auxiliary=auxiliary
    )
    return Segmenter(encoder=body, decoder=decoder, head=nn.Conv2d(width, classes, 1), classes=classes)
