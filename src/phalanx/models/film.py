"""Conditions the network on patient metadata at its bottleneck (FiLM: Perez et al., 2018)."""

import torch
from torch import Tensor, nn

from ..errors import ConfigError


class Film(nn.Module):
    """Scales and shifts the channels of a feature map by the attributes of each image's patient.

    Each attribute is standardised and embedded, and the embeddings are added up. A missing attribute has a learned
    embedding. Training drops known attributes at random, so that this embedding learns even from complete metadata.
    The last layer starts at zero, so a new layer is the identity.

    Args:
        names: of the attributes, in the order of the values.
        dropout: probability with which training treats an attribute as missing.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, *, names: list[str], channels: int, hidden: int = 64, dropout: float = 0.1):
        super().__init__()
        self.names, self.dropout = names, dropout
        self.register_buffer("mean", torch.zeros(len(names)))
        self.register_buffer("spread", torch.ones(len(names)))
        self.slope = nn.Parameter(torch.randn(len(names), hidden) / hidden**0.5)
        self.offset = nn.Parameter(torch.randn(len(names), hidden) / hidden**0.5)
        self.missing = nn.Parameter(torch.randn(len(names), hidden) / hidden**0.5)
        self.out = nn.Linear(hidden, 2 * channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    @torch.no_grad()
    def standardise_by(self, values: Tensor) -> None:
        """Sets mean and standard deviation from the training images' values float[N, T]; NaN is missing.

        Both are buffers, which checkpoints contain.

        Raises:
            ConfigError: an attribute is missing for all training images.
        """
        for number, name in enumerate(self.names):
            known = values[:, number][~values[:, number].isnan()].double()
            if not len(known):
                raise ConfigError(
                    f"model.metadata: no training image has a known {name}; correct the sheet, or drop it"
                )
            spread = known.std(correction=0)
            self.mean[number], self.spread[number] = known.mean(), spread if spread > 0 else 1.0

    def forward(self, maps: Tensor, values: Tensor | None) -> Tensor:
        """The conditioned maps[B, K, h, w].

        Args:
            maps: float[B, K, h, w].
            values: float32[B, T], NaN if missing; None: all are missing.
        """
        if values is None:
            values = self.mean.new_full((len(maps), len(self.names)), torch.nan)
        known = ~values.isnan()
        if self.training:
            known = known & (torch.rand(values.shape, device=values.device) >= self.dropout)
        standard = ((values.nan_to_num() - self.mean) / self.spread)[..., None]  # (B, T, 1)
        embedded = torch.where(known[..., None], standard * self.slope + self.offset, self.missing)
        scale, shift = self.out(embedded.sum(1).relu())[..., None, None].chunk(2, 1)
        return (maps * (1 + scale) + shift).to(maps.dtype)


class ConditionedNetwork:
    """A network with the metadata of the patients whose images it predicts, for prediction code that knows none."""

    def __init__(self, network: nn.Module, values: Tensor):
        self.network, self.values = network, values

    def predict(self, images: Tensor) -> Tensor:
        """As ``Network.predict``, for the patients' images in their order."""
        return self.network.predict(images, self.values)  # type: ignore[operator]
