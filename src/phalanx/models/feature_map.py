"""Where the last features of an encoder are in the image: its map before pooling, whatever their arrangement."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import ConfigError

PLACED = "use another network, such as a ResNet, a ConvNeXt, a Swin or a ViT"


class FeatureMap(NamedTuple):
    """The arrangement of an encoder's last features.

    Attributes:
        channels: K.
        side: n, of the map.
        prefix: tokens before those of patches: the class token and registers.
        channels_last: features are [B, n, n, K]; tokens are [B, prefix + n * n, K], maps else [B, K, n, n].
        tokens: features are tokens.
    """

    channels: int
    side: int
    prefix: int
    channels_last: bool
    tokens: bool

    def as_map(self, features: Tensor) -> Tensor:
        """Features of ``forward_features`` as maps [B, K, n, n]."""
        if self.tokens:
            patches = features[:, self.prefix :]
            return patches.transpose(1, 2).reshape(len(features), self.channels, self.side, self.side)
        return features.permute(0, 3, 1, 2) if self.channels_last else features


@torch.no_grad()
def feature_map(encoder: Any, *, size: int, channels: int, name: str = "model.encoder") -> FeatureMap:
    """The arrangement of an encoder of timm, which is run once.

    Args:
        size: of the input, which is square.
        channels: of the input.
        name: of the network in messages.

    Raises:
        ConfigError: its last features are not a map of several cells, or are not what it pools.
    """
    parameter = next(encoder.parameters())
    images = torch.rand(1, channels, size, size, generator=torch.Generator().manual_seed(0))
    images = images.to(device=parameter.device, dtype=parameter.dtype)
    training = encoder.training
    encoder.eval()
    try:
        features = encoder.forward_features(images)
        pooled, whole = encoder.forward_head(features.clone()), encoder(images)
        same = torch.allclose(pooled, whole, rtol=1e-3, atol=1e-5)
    except Exception as error:  # also assertions and lookups of third parties
        raise ConfigError(
            f"{name}: its features before pooling cannot be taken ({type(error).__name__}); {PLACED}"
        ) from None
    finally:
        encoder.train(training)
    if not same or features.ndim not in (3, 4):
        raise ConfigError(f"{name}: its last features are not one map that it pools; {PLACED}")
    if features.ndim == 3:
        prefix = int(getattr(encoder, "num_prefix_tokens", 0) or 0)
        side = math.isqrt(features.shape[1] - prefix)
        if side * side != features.shape[1] - prefix:
            raise ConfigError(f"{name}: its {features.shape[1]} tokens do not fill a square; {PLACED}")
        found = FeatureMap(features.shape[2], side, prefix, channels_last=False, tokens=True)
    else:
        last = is_channels_last(encoder, features)
        shape = (features.shape[3], features.shape[1]) if last else (features.shape[1], features.shape[2])
        found = FeatureMap(*shape, 0, channels_last=last, tokens=False)
    if found.side < 2:
        raise ConfigError(f"{name}: has one cell of features at data.size={size}, so they have no place; enlarge it")
    return found


def is_channels_last(encoder: Any, features: Tensor) -> bool:
    """Whether features are [B, n, n, K], as those of Swin."""
    known = str(getattr(getattr(encoder, "output_fmt", ""), "value", getattr(encoder, "output_fmt", "")))
    if known in ("NHWC", "NCHW"):
        return known == "NHWC"
    return features.shape[1] == features.shape[2] != features.shape[3]
