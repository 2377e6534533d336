"""The network of a classification: an encoder of timm, pooled features, and a linear head."""

import logging
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..config import ClassifyModel, Model, nearest
from ..errors import ConfigError
from .activation_checkpointing import checkpoint_blocks
from .build import check_weights, described, load_encoder, no_drop_path, normalise
from .drop_path import set_drop_path
from .feature_map import FeatureMap, feature_map
from .libraries import without_wandb
from .norms import replace_norms
from .pretrained import prepare_fetch
from .segmenter import dry_run


class Classifier(nn.Module):
    """Images to logits of an image's classes.

    Args:
        encoder: images float[B, channels, S, S] to features float[B, F].
        features: F.
        dropout: rate before the head.
        sharpness: of log-sum-exp pooling; None: the encoder's own.

    Attributes:
        marker: a 1 x 1 convolution on the features before pooling that training may add; predictions leave it out.
        layout: of these features, once :meth:`locate` was called.
    """

    def __init__(
        self, encoder: nn.Module, *, features: int, classes: int, dropout: float, sharpness: float | None = None
    ):
        super().__init__()
        self.sharpness = sharpness
        self.encoder, self.dropout, self.head = encoder, nn.Dropout(dropout), nn.Linear(features, classes)
        self.marker: nn.Conv2d | None = None
        self.layout: FeatureMap | None = None

    @property
    def parts(self) -> dict[str, nn.Module]:
        """Encoder and head by name."""
        return {"encoder": self.encoder, "head": self.head}

    def locate(self, *, size: int, channels: int, maps: int = 0, name: str = "model.encoder") -> FeatureMap:
        """Finds out where the last features are in the image, for :meth:`with_maps`.

        Args:
            size: of the input.
            channels: of the input.
            maps: channels of the auxiliary convolution; 0: there is none.

        Raises:
            ConfigError: as :func:`feature_map`.
        """
        self.layout = feature_map(self.encoder, size=size, channels=channels, name=name)
        if maps:
            self.marker = nn.Conv2d(self.layout.channels, maps, 1)
        return self.layout

    def with_maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits float[B, C] of images as :meth:`standardised` returns them, and the features before pooling, or what
        ``marker`` makes of them, float[B, K, n, n]."""
        encoder: Any = self.encoder
        assert self.layout is not None  # located when it was built
        features = encoder.forward_features(images)
        maps = self.layout.as_map(features)
        maps = maps.clone() if self.marker is None else self.marker(maps)  # what follows may work in place
        return self.of_features(features), maps

    def of_features(self, features: Tensor) -> Tensor:
        """Logits float[B, C] of what ``encoder.forward_features`` returns."""
        encoder: Any = self.encoder
        if self.sharpness is None:
            return self.head(self.dropout(encoder.forward_head(features)))
        assert self.layout is not None  # located when it was built
        return log_mean_exp(self.cells(self.dropout(self.layout.as_map(features))), self.sharpness)

    def cells(self, maps: Tensor) -> Tensor:
        """Logits float[B, C, n, n] of the head at each place of feature maps float[B, F, n, n]."""
        return torch.einsum("bfhw,cf->bchw", maps, self.head.weight) + self.head.bias[:, None, None]

    def forward(self, images: Tensor, maps: bool = False) -> Any:
        """Logits float[B, C] of images uint8[B, channels, S, S], or of the same as :meth:`standardised` returns it;
        with ``maps``, as :meth:`with_maps`."""
        if maps:
            return self.with_maps(images)
        x = self.standardised(images) if images.dtype == torch.uint8 else images
        if self.sharpness is not None:
            return self.of_features(self.encoder.forward_features(x))  # type: ignore[operator]
        return self.head(self.dropout(self.encoder(x)))

    def predict(self, images: Tensor) -> Tensor:
        """Logits float32[B, C]; Args as :meth:`forward`."""
        return self(images).float()

    def standardised(self, images: Tensor) -> Tensor:
        """Images uint8[B, channels, S, S] as floats, with the mean and deviation of luminance on ImageNet."""
        return normalise(images, self.head.weight.dtype)


def log_mean_exp(cells: Tensor, sharpness: float) -> Tensor:
    """Soft maximum float[B, C] over the places of logits float[B, C, n, n].

    Source: Pinheiro & Collobert (2015), "From image-level to pixel-level labeling with convolutional networks", eq. 6.

    Args:
        sharpness: r of ``log(mean(exp(r z))) / r``: towards 0 the mean, towards infinity the maximum.
    """
    flat = cells.flatten(2).float()
    return (torch.logsumexp(sharpness * flat, dim=2) - math.log(flat.shape[2])) / sharpness


def build_classifier(
    model: ClassifyModel, *, classes: int, size: int, channels: int, pretrained: bool = True, marker: int = 0
) -> Classifier:
    """The classifier of a configuration, on the CPU.

    Args:
        size: input size, at which the network is run once on empty images.
        channels: of the images, 1 or 3.
        pretrained: false ignores ``model.weights``, if a checkpoint is loaded later.
        marker: channels of the auxiliary convolution; 0: there is none.

    Raises:
        ConfigError: an unknown encoder, a size that does not work, weights that cannot be loaded.
    """
    from_file = pretrained and Path(model.weights).is_file()
    if pretrained:
        check_timm_weights(model)
    fetched = pretrained and not from_file and model.weights != "none"
    encoder = timm_encoder(model, size=size, channels=channels, fetched=fetched)
    if from_file:
        load_encoder(encoder, Path(model.weights))
    replace_norms(encoder, model.norm)
    if model.drop_path is not None and not set_drop_path(encoder, model.drop_path, size):
        raise no_drop_path(model)
    try:
        features = dry_run(encoder, torch.zeros(1, channels, size, size)).shape
        network = Classifier(
            encoder, features=features[1], classes=classes, dropout=model.dropout, sharpness=model.sharpness
        )
    except Exception as error:  # third-party code raises errors of any type
        raise ConfigError(
            f"model.encoder={model.encoder}: does not run at data.size={size} ({described(error)})"
        ) from None
    if marker or model.pool == "lse":
        name = f"model.encoder={model.encoder}"
        found = network.locate(size=size, channels=channels, maps=marker, name=name).channels
        if model.pool == "lse" and found != features[1]:
            raise ConfigError(
                f"model.pool=lse: the head of {name} weighs {features[1]} features and its last map has {found}; use "
                "pool=mean, or another encoder"
            )
    if model.activation_checkpointing:
        checkpoint_blocks(network)
    if model.channels_last:
        network = network.to(memory_format=torch.channels_last)
    return network.train()


def check_timm_weights(model: Model) -> None:
    """Raises ConfigError for weights that do not exist."""
    check_weights(model)
    if model.weights not in ("none", "imagenet") and not Path(model.weights).is_file():
        raise ConfigError(
            f"model.weights={model.weights}: timm's weights are named after the encoder, as in "
            f"model.encoder={model.encoder.partition('.')[0]}.{model.weights} model.weights=imagenet"
        )


def timm_encoder(model: Model, *, size: int, channels: int, fetched: bool, features_only: bool = False) -> nn.Module:
    """timm's network without its head, or with ``features_only`` one that returns its feature maps.

    Args:
        size: of the input.
        channels: of the images.
        fetched: with its pretrained weights.

    Raises:
        ConfigError: an unknown encoder, or weights that cannot be loaded.
    """
    with without_wandb():
        import timm

    name = model.encoder
    if not timm.is_model(name.partition(".")[0]):
        raise ConfigError(f"model.encoder={name}: no such network of timm{nearest(name, timm.list_models())}")
    # no lines about its retries; the message below is enough
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    options: dict[str, Any] = dict(model.options)
    if model.drop_path is not None:
        options["drop_path_rate"] = model.drop_path
    known = timm.get_pretrained_cfg(name)
    if known is not None and known.fixed_input_size:  # as of ViT, whose position embedding depends on the size
        options.setdefault("img_size", size)
    if fetched:
        prepare_fetch(f"tu-{name}", "imagenet")
    try:
        kind: dict[str, Any] = {"features_only": True} if features_only else {"num_classes": 0}
        return timm.create_model(name, pretrained=fetched, in_chans=channels, **kind, **options)
    except OSError as error:
        raise ConfigError(
            f"model.weights={model.weights}: the pretrained weights of {name} could not be downloaded "
            f"({type(error).__name__}). Train from scratch with model.weights=none, or name a local file with "
            "model.weights=/path/to/file.safetensors"
        ) from None
    except Exception as error:  # third-party constructors raise errors of any type
        if model.drop_path is not None and "drop_path_rate" in str(error):
            raise no_drop_path(model) from None
        raise ConfigError(
            f"model.encoder={name}, weights={model.weights}, options={model.options}: {described(error)}"
        ) from None
