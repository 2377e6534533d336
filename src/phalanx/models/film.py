"""What is known of the patient, told to the network at its bottleneck (FiLM: Perez et al., 2018)."""

import torch
from torch import Tensor, nn

from ..errors import ConfigError


class Film(nn.Module):
    """Scales and shifts the channels of a map as the traits of each image's patient ask.

    Each trait, standardised, is embedded and the embeddings are added up; a missing one has a learned embedding of its
    own. So that this learns also where the sheet has no gaps, known traits are forgotten now and then in training. The
    last layer starts at zero: in the beginning the map stays as it is.

    Args:
        names: of the traits, in the order of the values.
        forget: probability with which training takes a trait for missing.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, *, names: list[str], channels: int, hidden: int = 64, forget: float = 0.1):
        super().__init__()
        self.names, self.forget = names, forget
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
        """Takes mean and spread from the training images' values float[N, T], NaN where missing; they are kept with
        the weights.

        Raises:
            ConfigError: nobody in training has a trait.
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
        """maps[B, K, h, w] and values float32[B, T], NaN where missing, to maps[B, K, h, w]. None: all are missing."""
        if values is None:
            values = self.mean.new_full((len(maps), len(self.names)), torch.nan)
        known = ~values.isnan()
        if self.training:
            known = known & (torch.rand(values.shape, device=values.device) >= self.forget)
        standard = ((values.nan_to_num() - self.mean) / self.spread)[..., None]  # (B, T, 1)
        embedded = torch.where(known[..., None], standard * self.slope + self.offset, self.missing)
        scale, shift = self.out(embedded.sum(1).relu())[..., None, None].chunk(2, 1)
        return (maps * (1 + scale) + shift).to(maps.dtype)


class Informed:
    """A network that is asked about images of known patients: what prediction calls instead of the network."""

    def __init__(self, network: nn.Module, values: Tensor):
        self.network, self.values = network, values

    def predict(self, images: Tensor) -> Tensor:
        """As ``Network.predict``, for the patients' images in their order."""
        return self.network.predict(images, self.values)  # type: ignore[operator]
