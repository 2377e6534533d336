"""Builds a network from its configuration."""

import inspect
import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from ..config import Model, nearest
from ..errors import ConfigError
from .drop_path import constructor_options, set_drop_path
from .norms import exchange_norms
from .pointrend import PointRend, Points
from .recompute import recompute_blocks
from .segmenter import Coarse, Segmenter, enlarge


class Network(nn.Module):
    """What the engine trains and prediction runs: grey images in, logits out, whatever the parts."""

    def __init__(self, *, segmenter: Segmenter, refiner: PointRend | None):
        super().__init__()
        # one owner for the weights, so that each has one name in a checkpoint
        self.core: Segmenter | PointRend = refiner if refiner is not None else segmenter

    def forward(self, images: Tensor) -> tuple[Tensor, Points | None]:
        """uint8[B, 1, S, S] to logits float[B, C, S, S]; in training also the point head's predictions."""
        x = normalise(images, self.dtype)
        size = (images.shape[-2], images.shape[-1])
        if isinstance(self.core, Segmenter):
            return enlarge(self.core(x).logits, size), None
        coarse, points = self.core(x)
        return enlarge(coarse.logits, size), points

    def predict(self, images: Tensor) -> Tensor:
        """uint8[B, 1, S, S] to final logits float32[B, C, S, S], refined where there is a PointRend head."""
        x = normalise(images, self.dtype)
        size = (images.shape[-2], images.shape[-1])
        if isinstance(self.core, Segmenter):
            return enlarge(self.core(x).logits, size).float()
        coarse: Coarse = self.core.segmenter(x)
        return self.core.refine(coarse, size).float()

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype


def normalise(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 grey to about -2..2, by the mean and spread that ImageNet's networks expect of luminance."""
    return (images.to(dtype) / 255 - 0.449) / 0.226


def build(model: Model, *, classes: int, size: int, pretrained: bool = True) -> Network:
    """The network of a configuration, on the CPU.

    Args:
        size: side of the working grid, on which the network is tried once.
        pretrained: false leaves ``model.weights`` out, where weights are loaded from a run anyway.

    Raises:
        ConfigError: an unknown decoder or encoder, a pair or size that does not work, weights that cannot be had.
    """
    import segmentation_models_pytorch as smp

    known = smp.MODEL_ARCHITECTURES_MAPPING
    if model.arch.lower() not in known:
        raise ConfigError(f"model.arch={model.arch}: no such decoder{nearest(model.arch.lower(), known)}")
    options = inspect.signature(known[model.arch.lower()].__init__).parameters
    for key in model.options:  # smp takes any key, for timm's encoders, and drops it without a word for the others
        if key not in options and (key.startswith("decoder_") or not model.encoder.startswith(("tu-", "timm-"))):
            names = set(options) - {"self", "kwargs"}
            raise ConfigError(f"model.options.{key}: no option of {model.arch}{nearest(key, names)}")
    from_file = Path(model.weights).is_file()
    if pretrained:
        check_weights(model)
    name = None if model.weights == "none" or from_file or not pretrained else model.weights
    check_encoder(model.encoder)
    # its retries fill the screen; the one line that matters is ours, below
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole = smp.create_model(
                model.arch, model.encoder, encoder_weights=name, in_channels=1, classes=classes, **model.options,
                **constructor_options(model.encoder, model.drop_path),
            )  # fmt: skip
    except OSError as error:
        raise ConfigError(
            f"model.weights={model.weights}: the weights of {model.encoder} could not be downloaded "
            f"({type(error).__name__}). Train from scratch with model.weights=none, or name a local file with "
            "model.weights=/path/to/file.safetensors"
        ) from None
    except Exception as error:  # whatever a third-party constructor raises is an answer to the user's choice
        text = " ".join(str(error).split())
        if model.drop_path is not None and "drop_path_rate" in text:
            raise no_drop_path(model) from None
        raise ConfigError(
            f"model.arch={model.arch} with model.encoder={model.encoder}, weights={model.weights}, "
            f"options={model.options}: {type(error).__name__}: {text}"
        ) from None
    if from_file and pretrained:
        load_encoder(whole.encoder, Path(model.weights))
    exchange_norms(whole, model.norm)
    if model.drop_path is not None and not set_drop_path(whole.encoder, model.drop_path, size):
        raise no_drop_path(model)
    segmenter = Segmenter(model=whole, classes=classes)
    try:
        sizes = model.pointrend.model_dump() if model.pointrend else None
        refiner = PointRend(segmenter=segmenter, size=size, **sizes) if sizes else None
        network = Network(segmenter=segmenter, refiner=refiner).eval()
        with torch.no_grad():
            network(torch.zeros(1, 1, size, size, dtype=torch.uint8))
    except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError, StopIteration) as error:
        text = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"model.arch={model.arch} with model.encoder={model.encoder} does not run at data.size={size}: {text}. "
            "Choose another size (a multiple of 32), decoder (fpn, unet) or encoder"
        ) from None
    if model.checkpointing:
        recompute_blocks(network)
    if model.channels_last:
        network = network.to(memory_format=torch.channels_last)
    return network.train()


def check_encoder(name: str) -> None:
    """Refuses an encoder that neither smp nor timm (``tu-`` before the name) knows, naming the nearest."""
    import segmentation_models_pytorch as smp
    import timm

    before, _, model = name.partition("-")
    if before in ("tu", "timm") and timm.is_model(model):
        return
    if before == "tu":
        raise ConfigError(f"model.encoder={name}: timm has no such model{nearest(model, timm.list_models())}")
    if name not in smp.encoders.encoders:
        names = smp.encoders.get_encoder_names()
        hint = " (timm's models are named with tu- before the name)" if timm.is_model(name) else ""
        raise ConfigError(f"model.encoder={name}: no such encoder{nearest(name, names)}{hint}")


def check_weights(model: Model) -> None:
    """Refuses a file that is not there and a name that timm would pass over in silence."""
    if model.weights.endswith((".safetensors", ".pth", ".pt", ".bin")) or "/" in model.weights:
        if not Path(model.weights).is_file():
            raise ConfigError(f"model.weights={model.weights}: no such file")
    elif model.encoder.startswith("tu-") and model.weights not in ("none", "imagenet"):
        raise ConfigError(
            f"model.weights={model.weights}: timm's weights are named behind the encoder, as in "
            f"model.encoder={model.encoder.partition('.')[0]}.{model.weights} model.weights=imagenet"
        )


def no_drop_path(model: Model) -> ConfigError:
    return ConfigError(
        f"model.drop_path={model.drop_path}: {model.encoder} has no drop path and would pass it over; smp's MiT and "
        "EfficientNet have it, and timm's (tu-) ConvNeXt, EfficientNet, ResNet, RegNet, Swin, ViT and others. Leave "
        "it out with model.drop_path=null"
    )


def load_encoder(encoder: nn.Module, path: Path) -> None:
    """Encoder weights from a local .safetensors file; a colour first layer is summed to fit grey images."""
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
            f"model.weights={path}: fits another encoder; {len(missing)} of {len(wanted)} tensors are missing, "
            f"such as {missing[0]}. Name a file of this encoder, or set model.weights=none"
        )
    encoder.load_state_dict(found, strict=False)
