"""Builds a network from its configuration."""

import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import create_model
from torch import Tensor, nn

from ..config import Model, SegmentModel, Strict, nearest, validate_as
from ..errors import ConfigError, one_line
from . import hrnet_ocr, lraspp, residual_unet, swin_unetr
from .activation_checkpointing import checkpoint_blocks
from .drop_path import constructor_options, set_drop_path
from .film import Film
from .norm_fusion import prepare_for_gpu
from .norm_paths import has_gpu
from .norms import replace_norms
from .pointrend import PointRend, Points
from .segmenter import Auxiliary, Coarse, Segmenter, dry_run, expect_background, upsample
from .smp_models import DECODERS, advice, build_pair, check_encoder, other_sizes

# our own architectures, in addition to smp's DECODERS: (encoder, *, weights, classes, **options) to a segmenter
OWN: dict[str, Callable[..., Segmenter]] = {
    "hrnet_ocr": hrnet_ocr.build,
    "lraspp": lraspp.build,
    "residual_unet": residual_unet.build,
    "swin_unetr": swin_unetr.build,
}


class Output(NamedTuple):
    """Output of a :class:`Network` in training.

    Attributes:
        logits: float[B, C, S, S].
        points: predictions of a PointRend head; None without one.
        auxiliary: as in :class:`Coarse`.
    """

    logits: Tensor
    points: Points | None
    auxiliary: Auxiliary


class Network(nn.Module):
    """The network that training and prediction run: grey images to logits.

    Args:
        softmax: whether the logits are those of a softmax, background first.
    """

    def __init__(self, *, segmenter: Segmenter, refiner: PointRend | None, softmax: bool = False):
        super().__init__()
        self.softmax = softmax
        # one owner of the parameters, so that each has one name in a checkpoint
        self.core: Segmenter | PointRend = refiner if refiner is not None else segmenter

    def forward(self, images: Tensor, attributes: Tensor | None = None) -> Output:
        """Logits at full size, and in training points and auxiliary logits.

        Args:
            images: uint8[B, 1, S, S].
            attributes: float32[B, T] of ``model.metadata``; NaN is missing.
        """
        x = normalise(images, self.dtype)
        coarse, points = (
            self.core(x, attributes) if isinstance(self.core, PointRend) else (self.core(x, attributes), None)
        )
        return Output(upsample(coarse.logits, (images.shape[-2], images.shape[-1])), points, coarse.auxiliary)

    def predict(self, images: Tensor, attributes: Tensor | None = None) -> Tensor:
        """Final logits float32[B, C, S, S] of the classes, whose sigmoids are their probabilities, also of a softmax.

        Args as :meth:`forward`.
        """
        logits = self.final(images, attributes)
        return log_odds(logits) if self.softmax else logits

    def final(self, images: Tensor, attributes: Tensor | None = None) -> Tensor:
        """Final logits float32 of all channels, refined by the PointRend head if there is one; Args as
        :meth:`forward`."""
        x = normalise(images, self.dtype)
        size = (images.shape[-2], images.shape[-1])
        if isinstance(self.core, Segmenter):
            return upsample(self.core(x, attributes).logits, size).float()
        coarse: Coarse = self.core.segmenter(x, attributes)
        return self.core.refine(coarse, size).float()

    @property
    def segmenter(self) -> Segmenter:
        return self.core.segmenter if isinstance(self.core, PointRend) else self.core

    @property
    def parts(self) -> dict[str, nn.Module]:
        """Encoder, decoder and heads by name."""
        found = dict(self.segmenter.named_children())
        return found | ({"point head": self.core.head} if isinstance(self.core, PointRend) else {})

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype


def log_odds(logits: Tensor) -> Tensor:
    """Log odds float[B, C, ...] of the classes of a softmax float[B, 1 + C, ...] against all others.

    Their sigmoids are the probabilities of the softmax; that of background is the rest to 1.
    """
    below = logits.logsumexp(1, keepdim=True) - logits[:, 1:]  # -log p
    return -(below + torch.log1p(-torch.exp(-below)))


def normalise(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 grey to about -2..2, by the mean and standard deviation of luminance on ImageNet."""
    return (images.to(dtype) / 255 - 0.449) / 0.226


def build(model: SegmentModel, *, classes: int, size: int, pretrained: bool = True) -> Network:
    """The network of a configuration, on the CPU.

    Args:
        classes: channels of the logits; of a softmax background is one of them.
        size: input size, at which the network is run once on empty images.
        pretrained: false ignores ``model.weights``, if a checkpoint is loaded later.

    Raises:
        ConfigError: an unknown decoder or encoder, a pair or size that does not work, weights that cannot be loaded.
    """
    from_file = Path(model.weights).is_file()
    if pretrained:
        check_weights(model)
    name = None if model.weights == "none" or from_file or not pretrained else model.weights
    segmenter = build_segmenter(model, weights=name, classes=classes, size=size)
    if from_file and pretrained:
        load_encoder(segmenter.encoder, Path(model.weights))
    replace_norms(segmenter, model.norm)
    if model.drop_path is not None and not set_drop_path(segmenter.encoder, model.drop_path, size):
        raise no_drop_path(model)
    try:
        sizes = model.pointrend.model_dump() if model.pointrend else None
        if model.metadata:
            bottleneck = bottleneck_channels(segmenter, size)
            segmenter.film = Film(names=list(model.metadata), channels=bottleneck)
        softmax = model.head == "softmax"
        if softmax:
            expect_background(segmenter.head)
        refiner = PointRend(segmenter=segmenter, size=size, softmax=softmax, **sizes) if sizes else None
        network = Network(segmenter=segmenter, refiner=refiner, softmax=softmax)
        dry_run(network, torch.zeros(1, 1, size, size, dtype=torch.uint8))
    except Exception as error:  # third-party code raises errors of any type
        sizes_that_run = other_sizes(segmenter, size)
        raise ConfigError(
            f"model.arch={model.arch} with model.encoder={model.encoder} does not run at data.size={size}: "
            f"{described(error)}"
            + (f". It runs at {sizes_that_run}" if sizes_that_run else "")
            + advice(model.arch.lower(), model.encoder, size, model.options)
        ) from None
    if has_gpu():
        prepare_for_gpu(segmenter, size)
    if model.activation_checkpointing:
        checkpoint_blocks(network)
    if model.channels_last:
        network = network.to(memory_format=torch.channels_last)
    return network.train()


def build_segmenter(model: SegmentModel, *, weights: str | None, classes: int, size: int) -> Segmenter:
    """The segmenter of ``model.arch``, ``model.encoder`` and ``model.options``, with its BatchNorm layers.

    Args:
        weights: a name that the encoder knows, or None to start from scratch.

    Raises:
        ConfigError: as :func:`build`.
    """
    arch = model.arch.lower()
    if arch not in OWN and arch not in DECODERS:
        raise ConfigError(f"model.arch={model.arch}: no such decoder{nearest(arch, [*DECODERS, *OWN])}")
    # no lines about its retries; the message below is enough
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    common: dict[str, Any] = {"weights": weights, "classes": classes}
    try:
        if arch in OWN:
            return OWN[arch](model.encoder, **common, **typed_options(arch, model.options))
        check_encoder(model.encoder)
        options = model.options | constructor_options(model.encoder, model.drop_path)
        return build_pair(arch, model.encoder, **common, size=size, options=options)
    except ConfigError:
        raise
    except OSError as error:
        raise ConfigError(
            f"model.weights={model.weights}: the pretrained weights of {model.encoder} could not be downloaded "
            f"({type(error).__name__}). Train from scratch with model.weights=none, or name a local file with "
            "model.weights=/path/to/file.safetensors"
        ) from None
    except Exception as error:  # third-party constructors raise errors of any type
        if model.drop_path is not None and "drop_path_rate" in str(error):
            raise no_drop_path(model) from None
        raise ConfigError(
            f"model.arch={model.arch} with model.encoder={model.encoder}, weights={model.weights}, "
            f"options={model.options}: {described(error)}{advice(arch, model.encoder, size, model.options)}"
        ) from None


def bottleneck_channels(segmenter: Segmenter, size: int) -> int:
    """Channels of the encoder's last feature map."""
    found = dry_run(segmenter.encoder, torch.zeros(1, segmenter.in_channels, size, size))
    return (found[0] if isinstance(found, tuple) else found)[-1].shape[1]


def typed_options(arch: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options of one of our own architectures, checked against the types in the signature of its ``build``."""
    parameters = inspect.signature(OWN[arch]).parameters.values()
    fields: dict[str, Any] = {p.name: (p.annotation, p.default) for p in parameters if p.default is not p.empty}
    return validate_as(create_model("ArchOptions", __base__=Strict, **fields), options, "model.options").model_dump()


def described(error: Exception) -> str:
    """Type and text of a third-party error, shortened to one line."""
    return one_line(f"{type(error).__name__}: {error}").removesuffix(":").removesuffix(".")


def check_weights(model: Model) -> None:
    """Raises ConfigError for a missing file, and for a name that timm would ignore."""
    if model.weights.endswith((".safetensors", ".pth", ".pt", ".bin")) or "/" in model.weights:
        if not Path(model.weights).is_file():
            raise ConfigError(f"model.weights={model.weights}: no such file")
    elif model.encoder.startswith("tu-") and model.weights not in ("none", "imagenet"):
        raise ConfigError(
            f"model.weights={model.weights}: timm's weights are named after the encoder, as in "
            f"model.encoder={model.encoder.partition('.')[0]}.{model.weights} model.weights=imagenet"
        )


def no_drop_path(model: Model) -> ConfigError:
    return ConfigError(
        f"model.drop_path={model.drop_path}: {model.encoder} has no drop path and would ignore it; smp's MiT and "
        "EfficientNet have it, and timm's (tu-) ConvNeXt, EfficientNet, ResNet, RegNet, Swin, ViT and others. Leave "
        "it out with model.drop_path=null"
    )


def load_encoder(encoder: nn.Module, path: Path) -> None:
    """Loads encoder weights from a local .safetensors file; a colour first layer is summed for grey images."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"model.weights={path}: not a safetensors file ({error})") from None
    wanted = encoder.state_dict()
    prefixes = ("", "encoder.", "model.")
    found: dict[str, Tensor] = {}
    for key, target in wanted.items():
        names = [f"{p}{key}" for p in prefixes] + [key.removeprefix("model.")]
        value = next((weights[name] for name in names if name in weights), None)
        if value is None:
            continue
        if value.ndim == 4 and target.ndim == 4 and target.shape[1] == 1 and value.shape[1] == 3:
            value = value.sum(1, keepdim=True)
        if value.shape == target.shape:
            found[key] = value
    missing = [key for key in wanted if key not in found and not key.endswith("num_batches_tracked")]
    if missing:
        raise ConfigError(
            f"model.weights={path}: is of another encoder; {len(missing)} of {len(wanted)} tensors are missing, "
            f"such as {missing[0]}. Name a file of this encoder, or set model.weights=none"
        )
    encoder.load_state_dict(found, strict=False)
