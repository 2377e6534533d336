"""Restored images: noise is added to an image, and the denoiser of a fold removes it."""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..config import RestoreConfig
from ..data.noisy import with_noise
from ..data.prepared import prepare_image
from ..data.records import Record
from ..errors import ConfigError
from ..models.denoiser import Denoiser, build_denoiser
from ..runs.checkpoint import check_fit, load_weights
from ..runs.reader import FoldRun
from ..runtime.device import Device

SMALLEST = 1e-10  # mean squared error, for a PSNR of 100 dB of equal images


class DenoiserFold(NamedTuple):
    """A trained denoiser of one fold, on its device, and the SHA-256 of its weights."""

    folder: Path
    config: RestoreConfig
    network: Denoiser
    weights: str
    device: Device


class Copy(NamedTuple):
    """A restored image uint8[rows, columns] with its clean one, at the network's size, without padding.

    Attributes:
        number: of the copy of this image; each has noise of its own.
        noise: standard deviation, as a fraction of full scale.
    """

    record: Record
    number: int
    noise: float
    clean: np.ndarray
    noisy: np.ndarray
    restored: np.ndarray


def open_denoiser(folder: Path, device: Device, weights: str = "final") -> DenoiserFold:
    """The denoiser of a fold's folder.

    Raises:
        ConfigError: a run of another task, or one without such weights. DataError: the folder is damaged.
    """
    config = FoldRun(folder).config_of(RestoreConfig)
    found = load_weights(folder / weights)
    if found is None:
        raise ConfigError(f"{folder}: has no {weights} weights yet; train it first (bash train.sh)")
    network = build_denoiser(config.model, size=config.data.size, pretrained=False)
    check_fit(folder / weights, found[0], network)
    network.load_state_dict(found[0])
    return DenoiserFold(folder, config, network.eval().to(device.torch), found[1], device)


def restore(
    fold: DenoiserFold, records: Sequence[Record], levels: Sequence[float], *, seed: int, batch: int = 16
) -> Iterator[Copy]:
    """Yields the copies of each image, one per level, image by image.

    The noise of a copy depends on the seed, the image's name and the number of the copy alone.

    Args:
        levels: noise of each copy, which may repeat.
        batch: images at once.

    Raises:
        DataError: an image that cannot be read.
    """
    wanted = ((record, number) for record in records for number in range(len(levels)))
    clean, rows, columns, last = np.zeros((0, 0), np.uint8), 0, 0, None
    while part := list(islice(wanted, batch)):
        parts, noisy = [], []
        for record, number in part:
            if record is not last:
                clean, grid = prepare_image(record, fold.config.data)
                (rows, columns), last = grid.content, record
            noisy.append(with_noise(clean, levels[number], noise_source(seed, record.name, number)))
            parts.append((record, number, levels[number], clean[:rows, :columns]))
        made = as_bytes(_run(fold, torch.from_numpy(np.stack(noisy))[:, None]))[:, 0].cpu().numpy()
        seen = np.rint(np.clip(np.stack(noisy), 0, 1) * 255).astype(np.uint8)
        for (record, number, level, image), before, after in zip(parts, seen, made, strict=True):
            h, w = image.shape
            yield Copy(record, number, level, image, before[:h, :w], after[:h, :w])


@torch.no_grad()
def _run(fold: DenoiserFold, noisy: Tensor) -> Tensor:
    with fold.device.autocast():
        return fold.network(noisy.to(fold.device.torch)).float()


def as_bytes(images: Tensor) -> Tensor:
    """Images of full scale 1 as uint8, as they are saved."""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


def noise_source(seed: int, image: str, number: int) -> np.random.Generator:
    """Where the noise of a copy comes from."""
    digest = hashlib.sha256(f"{seed}\n{image}\n{number}".encode("utf-8", "surrogateescape")).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def psnr(images: np.ndarray, clean: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of uint8 images, at most 100."""
    error = float(np.mean((images.astype(float) - clean.astype(float)) ** 2)) / 255**2
    return float(-10 * np.log10(max(error, SMALLEST)))
