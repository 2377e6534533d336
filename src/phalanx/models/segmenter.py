"""An encoder, a decoder and a head, with logits at the decoder's stride."""

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from .film import Film

PRIOR_LOGIT = -4.0  # about one pixel in fifty, the area of a class that is present

Auxiliary = Sequence[tuple[float, Tensor]]


class Coarse(NamedTuple):
    """Output of a :class:`Segmenter`.

    Attributes:
        logits: float[B, C, h, w] at the decoder's stride.
        fine: feature maps float[B, K, ., .] for the point head.
        auxiliary: in training, logits float[B, C, ., .] of auxiliary heads, each with its loss weight.
    """

    logits: Tensor
    fine: list[Tensor]
    auxiliary: Auxiliary = ()


class Segmenter(nn.Module):
    """Encoder, decoder and head. Logits stay at the decoder's stride, so that losses, PointRend and prediction
    upsample them as they need (half-pixel centres, not aligned corners).

    Args:
        encoder: images float[B, 1, H, W] to feature maps, the image first; DPT's also returns prefix tokens.
        decoder: the maps to one map, or to one map and the ``auxiliary`` of :class:`Coarse`.
        head: the decoder's map to logits.
    """

    def __init__(self, *, encoder: nn.Module, decoder: nn.Module, head: nn.Module, classes: int):
        super().__init__()
        self.encoder, self.decoder, self.head = encoder, decoder, head
        self.classes = classes
        self.film: Film | None = None  # if the network is conditioned on metadata
        init_prior_bias(head)

    def forward(self, images: Tensor, attributes: Tensor | None = None) -> Coarse:
        """Coarse logits and fine features of images float[B, 1, H, W]; ``film`` reads attributes float32[B, T]."""
        features, *tokens = found if isinstance(found := self.encoder(images), tuple) else (found,)
        if self.film is not None:
            features = [*features[:-1], self.film(features[-1], attributes)]
        if tokens:  # DPT: (feature maps, prefix tokens)
            decoded = self.decoder(features, *tokens)
            return Coarse(self.head(decoded), [decoded])
        decoded = self.decoder(features)
        decoded, auxiliary = decoded if isinstance(decoded, tuple) else (decoded, ())
        finest = next(part for part in features[1:] if part.shape[1])  # MiT has an empty map at stride 2
        return Coarse(self.head(decoded), [decoded, finest], auxiliary)

    def fine_channels(self, size: int) -> list[int]:
        """Channels of each fine feature map, found on an empty image of the given side."""
        return [part.shape[1] for part in dry_run(self, torch.zeros(1, self.in_channels, size, size)).fine]

    @property
    def in_channels(self) -> int:
        return input_channels(self.encoder)


def input_channels(encoder: nn.Module) -> int:
    """Input channels of an encoder, which are those of its first convolution."""
    return next(p for p in encoder.parameters() if p.ndim == 4).shape[1]


def init_prior_bias(head: nn.Module) -> None:
    """Sets a head's last bias to the prior log odds of a class (Lin et al., 2017, section 4.1).

    With a zero bias, the first epochs only learn that classes are rare.
    """
    bias = _last_bias(head)
    if bias is not None:
        nn.init.constant_(bias, PRIOR_LOGIT)


def expect_background(head: nn.Module) -> None:
    """Raises the first channel of a head after :func:`init_prior_bias`, so that a softmax expects each class as rarely
    as a sigmoid does."""
    bias = _last_bias(head)
    if bias is not None:
        with torch.no_grad():
            bias[0] = 0.0


def _last_bias(head: nn.Module) -> Any:
    convolutions: list[Any] = [module for module in head.modules() if isinstance(module, nn.Conv2d)]
    return convolutions[-1].bias


def dry_run(module: nn.Module, images: Tensor) -> Any:
    """The output of ``module`` for images in eval mode, without gradients. Only its shapes are meaningful.

    It runs on the meta device, which is fast at 2048 pixels, and on the real device only if that fails.
    """
    tensors = chain(module.named_parameters(), module.named_buffers())
    meta = {name: tensor.detach().to("meta") for name, tensor in tensors}
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            try:
                return functional_call(module, meta, (images.to("meta"),))
            except Exception:  # a tensor that is not a buffer, or a real error, which is raised again below
                return module(images)
    finally:
        module.train(training)


def upsample(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear upsampling, half-pixel centres; logits that have the size are returned unchanged."""
    if tuple(logits.shape[-2:]) == size:
        return logits
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)
