"""An encoder, a decoder and a head, opened at the stride where their logits are born."""

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from .film import Film

PRIOR_LOGIT = -4.0  # about one pixel in fifty: the share of a class that is there

Auxiliary = Sequence[tuple[float, Tensor]]


class Coarse(NamedTuple):
    """``logits`` float[B, C, h, w] at the decoder's stride; ``fine``: feature maps float[B, K, ., .] for points;
    ``auxiliary``: in training, logits float[B, C, ., .] of heads that only help to learn, each with its weight."""

    logits: Tensor
    fine: list[Tensor]
    auxiliary: Auxiliary = ()


class Segmenter(nn.Module):
    """Encoder, decoder and head. Logits stay at the decoder's stride, so that losses, PointRend and prediction
    enlarge them as they need (half-pixel centres, not aligned corners).

    Args:
        encoder: images float[B, 1, H, W] to feature maps, the image itself first; DPT's also gives prefix tokens.
        decoder: those maps to one map, or to one map and :class:`Coarse`'s ``auxiliary``.
        head: that map to logits.
    """

    def __init__(self, *, encoder: nn.Module, decoder: nn.Module, head: nn.Module, classes: int):
        super().__init__()
        self.encoder, self.decoder, self.head = encoder, decoder, head
        self.classes = classes
        self.film: Film | None = None  # where the network is told of the patient
        expect_rare(head)

    def forward(self, images: Tensor, traits: Tensor | None = None) -> Coarse:
        """Images float[B, 1, H, W], and traits float32[B, T] for ``film``, to coarse logits and fine features."""
        features, *tokens = found if isinstance(found := self.encoder(images), tuple) else (found,)
        if self.film is not None:
            features = [*features[:-1], self.film(features[-1], traits)]
        if tokens:  # DPT: (feature maps, prefix tokens)
            decoded = self.decoder(features, *tokens)
            return Coarse(self.head(decoded), [decoded])
        decoded = self.decoder(features)
        decoded, auxiliary = decoded if isinstance(decoded, tuple) else (decoded, ())
        finest = next(part for part in features[1:] if part.shape[1])  # MiT has an empty map at stride 2
        return Coarse(self.head(decoded), [decoded, finest], auxiliary)

    def fine_channels(self, size: int) -> list[int]:
        """Channels of each fine feature map, seen on an empty image of the given side."""
        return [part.shape[1] for part in dry_run(self, torch.zeros(1, self.in_channels, size, size)).fine]

    @property
    def in_channels(self) -> int:
        return input_channels(self.encoder)


def input_channels(encoder: nn.Module) -> int:
    """Channels of the images that an encoder takes: those of its first convolution."""
    return next(p for p in encoder.parameters() if p.ndim == 4).shape[1]


def expect_rare(head: nn.Module) -> None:
    """Starts a head's last bias as rare as the classes are (Lin et al., 2017, section 4.1): else the first epochs
    only unlearn."""
    conv: Any = [module for module in head.modules() if isinstance(module, nn.Conv2d)][-1]
    if conv.bias is not None:
        nn.init.constant_(conv.bias, PRIOR_LOGIT)


def dry_run(module: nn.Module, images: Tensor) -> Any:
    """What ``module`` gives for images in eval mode, without gradients. Only its shapes mean anything: it is
    computed on the meta device, which takes no time at 2048 pixels, and for real only where that fails."""
    tensors = chain(module.named_parameters(), module.named_buffers())
    bare = {name: tensor.detach().to("meta") for name, tensor in tensors}
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            try:
                return functional_call(module, bare, (images.to("meta"),))
            except Exception:  # a tensor that is no buffer, or a true failure, which shows again
                return module(images)
    finally:
        module.train(training)


def enlarge(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, half-pixel centres; unchanged where the size is right already."""
    if tuple(logits.shape[-2:]) == size:
        return logits
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)
