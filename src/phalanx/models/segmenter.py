"""An encoder and decoder of segmentation-models-pytorch, opened at the stride where its logits are born."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PRIOR_LOGIT = -4.0  # about one pixel in fifty: the share of a class that is there


class Coarse(NamedTuple):
    """``logits`` float[B, C, h, w] at the decoder's stride; ``fine``: feature maps float[B, K, ., .] for points."""

    logits: Tensor
    fine: list[Tensor]


class Segmenter(nn.Module):
    """Wraps an smp model. The published head enlarges its logits at once; here they stay at the decoder's stride,
    so that losses, PointRend and prediction enlarge them as they need (half-pixel centres, not aligned corners).
    """

    def __init__(self, *, model: Any, classes: int):
        super().__init__()
        self.encoder: Any = model.encoder
        self.decoder: Any = model.decoder
        head: Any = model.segmentation_head
        # all heads but DPT's are (convolution, enlargement, activation)
        self.head: Any = head[0] if isinstance(head, nn.Sequential) and isinstance(head[0], nn.Conv2d) else head
        self.classes = classes
        conv = [module for module in self.head.modules() if isinstance(module, nn.Conv2d)][-1]
        if conv.bias is not None:
            # start as rare as the classes are (Lin et al., 2017, section 4.1): else the first epochs only unlearn
            nn.init.constant_(conv.bias, PRIOR_LOGIT)

    def forward(self, images: Tensor) -> Coarse:
        """Images float[B, 1, H, W] to coarse logits and fine features."""
        features = self.encoder(images)
        if isinstance(features, tuple):  # DPT: (feature maps, prefix tokens)
            decoded = self.decoder(*features)
            return Coarse(self.head(decoded), [decoded])
        decoded = self.decoder(features)
        finest = next(part for part in features[1:] if part.shape[1])  # MiT has an empty map at stride 2
        return Coarse(self.head(decoded), [decoded, finest])

    def fine_channels(self, size: int) -> list[int]:
        """Channels of each fine feature map, seen on an empty image of the given side."""
        training = self.training
        self.eval()
        with torch.no_grad():
            channels = [part.shape[1] for part in self(torch.zeros(1, self.in_channels, size, size)).fine]
        self.train(training)
        return channels

    @property
    def in_channels(self) -> int:
        return input_channels(self.encoder)


def input_channels(encoder: nn.Module) -> int:
    """Channels of the images that an encoder takes: those of its first convolution."""
    return next(p for p in encoder.parameters() if p.ndim == 4).shape[1]


def enlarge(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, half-pixel centres; unchanged where the size is right already."""
    if tuple(logits.shape[-2:]) == size:
        return logits
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)
