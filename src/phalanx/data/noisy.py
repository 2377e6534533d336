"""Training samples of a denoiser: a clean image, and the same with Gaussian noise."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from ..augment.draw import draw
from ..augment.warp import resample
from ..config import Augment
from ..errors import DataError
from .dataset import NO_AUGMENT, NO_PLANES, ImageSet, _split, _to, stacked
from .prepared import Prepared
from .worker import PIXELS, SENT, WARP


class NoisyBatch(NamedTuple):
    """``noisy`` float32[B, 1, S, S], full scale 1, not clipped; ``clean`` uint8[B, 1, S, S]; ``rows`` int64[B]."""

    noisy: Tensor
    clean: Tensor
    rows: Tensor

    def to(self, device: torch.device) -> "NoisyBatch":
        """The batch on a device, but for ``rows``."""
        return _to(self, device)

    def split(self, most: int) -> "Iterator[NoisyBatch]":
        """Its parts of at most ``most`` images, in order."""
        return _split(self, most)


class NoisySet(ImageSet):
    """Images with noise whose level is drawn for each sample.

    Args:
        levels: standard deviations, as fractions of full scale.
    """

    def __init__(self, records: Sequence[Any], *, levels: Sequence[float], **common: Any):
        super().__init__(records, **common)
        self.levels = list(levels)

    def sample(
        self, index: int, prepared: Prepared, rng: np.random.Generator, note: Callable[[int], None], augment: Augment
    ) -> tuple[Tensor, Tensor, int]:
        image, _, grid = prepared
        note(WARP)
        drawn = draw(rng, augment, grid.content, image.shape[0], NO_PLANES)
        note(PIXELS)
        clean = resample(drawn, [(image, cv2.INTER_LINEAR)])[0]
        clean = clean if augment is NO_AUGMENT else self.pixels(clean, rng)
        noisy = with_noise(clean, float(rng.choice(self.levels)), rng)
        note(SENT)
        return torch.from_numpy(noisy)[None], torch.from_numpy(clean)[None], index

    def collate(self, samples: "list[tuple[Tensor, Tensor, int] | DataError]") -> "NoisyBatch | DataError":
        def batch(noisy: Sequence[Tensor], clean: Sequence[Tensor], index: Sequence[int]) -> NoisyBatch:
            return NoisyBatch(torch.stack(list(noisy)), torch.stack(list(clean)), torch.tensor(index))

        return stacked(samples, batch)


def with_noise(image: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """An image uint8[S, S] as float32[S, S] of full scale 1 with Gaussian noise, which may leave 0 to 1."""
    return image.astype(np.float32) / 255 + np.float32(level) * rng.standard_normal(image.shape, np.float32)
