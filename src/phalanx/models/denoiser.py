"""The network that restores an image: a U-Net that predicts what to subtract from a noisy one."""

import logging
import warnings
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..config import RestoreModel, nearest
from ..errors import ConfigError
from .activation_checkpointing import checkpoint_blocks
from .build import check_weights, described, load_encoder, no_drop_path
from .drop_path import constructor_options, set_drop_path
from .libraries import without_wandb
from .norms import replace_norms
from .pretrained import prepare_fetch
from .segmenter import dry_run
from .smp_models import check_encoder, sized

WIDTH = 32  # channels of the head, the only layers that see single pixels
MEAN, SPREAD = 0.449, 0.226  # of luminance on ImageNet, as for the other networks


class Denoiser(nn.Module):
    """A noisy image to a clean one, by the noise that it predicts (residual learning; Zhang et al., 2017).

    smp's U-Net has no skip connection at full size. So the head sees the noisy image itself beside the decoder's map.
    It starts at zero: an untrained denoiser returns the image as it is.

    Args:
        encoder, decoder: of smp's U-Net; images float[B, 1, S, S] to ``channels`` maps of the same size.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, channels: int):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.head = nn.Sequential(
            nn.Conv2d(channels + 1, WIDTH, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(WIDTH, 1, 3, padding=1),
        )  # fmt: skip
        for parameter in cast(nn.Conv2d, self.head[-1]).parameters():
            nn.init.zeros_(parameter)

    @property
    def parts(self) -> dict[str, nn.Module]:
        """Encoder, decoder and head by name."""
        return {"encoder": self.encoder, "decoder": self.decoder, "head": self.head}

    def forward(self, noisy: Tensor) -> Tensor:
        """The restored images float[B, 1, S, S] of noisy ones, both from about 0 (black) to 1 (white)."""
        images = (noisy - MEAN) / SPREAD
        decoded = self.decoder(self.encoder(images))
        return noisy - SPREAD * self.head(torch.cat([decoded, images], dim=1))


def build_denoiser(model: RestoreModel, *, size: int, pretrained: bool = True) -> Denoiser:
    """The denoiser of a configuration, on the CPU.

    Args:
        size: input size, at which the network is run once on empty images.
        pretrained: false ignores ``model.weights``, if a checkpoint is loaded later.

    Raises:
        ConfigError: an unknown encoder, a size that does not work, weights that cannot be loaded.
    """
    from_file = pretrained and Path(model.weights).is_file()
    if pretrained:
        check_weights(model)
    check_encoder(model.encoder)
    name = None if model.weights == "none" or from_file or not pretrained else model.weights
    try:
        network = _of_smp(model, name, size)
    except ConfigError:
        raise
    except OSError as error:
        raise ConfigError(
            f"model.weights={model.weights}: the pretrained weights of {model.encoder} could not be downloaded "
            f"({type(error).__name__}). Train from scratch with model.weights=none"
        ) from None
    except Exception as error:  # third-party constructors raise errors of any type
        raise ConfigError(
            f"model.encoder={model.encoder}, weights={model.weights}, options={model.options}: {described(error)}"
        ) from None
    if from_file:
        load_encoder(network.encoder, Path(model.weights))
    replace_norms(network, model.norm)
    if model.drop_path is not None and not set_drop_path(network.encoder, model.drop_path, size):
        raise no_drop_path(model)
    try:
        dry_run(network, torch.zeros(1, 1, size, size))
    except Exception as error:
        raise ConfigError(
            f"model.encoder={model.encoder}: does not run in a U-Net at data.size={size} ({described(error)}); try "
            "resnet18"
        ) from None
    if model.activation_checkpointing:
        checkpoint_blocks(network)
    if model.channels_last:
        network = network.to(memory_format=torch.channels_last)
    return network.train()


def _of_smp(model: RestoreModel, weights: str | None, size: int) -> Denoiser:
    """A new denoiser. Raises ConfigError for an option that is not used, OSError, and any error of smp or timm."""
    import inspect

    with without_wandb():
        import segmentation_models_pytorch as smp

    known = inspect.signature(smp.Unet.__init__).parameters.keys() - {"self", "kwargs", "classes", "in_channels"}
    for key in model.options:
        if key not in known and not model.encoder.startswith("tu-"):
            raise ConfigError(f"model.options.{key}: not an option of a U-Net{nearest(key, known)}")
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    if weights is not None:
        prepare_fetch(model.encoder, weights)
    options: dict[str, Any] = dict(model.options) | constructor_options(model.encoder, model.drop_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole: Any = smp.Unet(
            model.encoder, encoder_weights=weights, in_channels=1, classes=1, **sized(model.encoder, size, options)
        )
    return Denoiser(whole.encoder, whole.decoder, whole.segmentation_head[0].in_channels)
