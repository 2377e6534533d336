"""Decoders of segmentation-models-pytorch (smp) on its own and timm's encoders."""

import inspect
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn

from ..config import nearest
from ..errors import ConfigError
from .libraries import without_wandb
from .pretrained import prepare_fetch
from .segmenter import Segmenter, dry_run

# those that run with nearly any encoder first, as messages suggest them in this order
DECODERS = (
    "fpn", "unet", "upernet", "segformer", "manet", "pspnet", "linknet", "unetplusplus", "deeplabv3plus", "deeplabv3",
    "pan", "dpt",
)  # fmt: skip


def build_pair(
    arch: str, encoder: str, *, weights: str | None, classes: int, size: int, options: dict[str, Any]
) -> Segmenter:
    """A decoder of smp on an encoder, without the upsampling in smp's head.

    Args:
        weights: a name that the encoder knows, or None to start from scratch.
        size: input size; timm's transformers are built for one size.
        options: of the decoder and of timm's encoder.

    Raises:
        ConfigError: an option that is not used. OSError: weights cannot be downloaded.
        Exception: any error of smp or timm about an incompatible pair.
    """
    with without_wandb():
        import segmentation_models_pytorch as smp

    known = inspect.signature(smp.MODEL_ARCHITECTURES_MAPPING[arch].__init__).parameters
    for key in options:  # smp accepts any key, for timm's encoders, and ignores it for others
        if key not in known and (key.startswith("decoder_") or not encoder.startswith(("tu-", "timm-"))):
            raise ConfigError(
                f"model.options.{key}: not an option of {arch}{nearest(key, set(known) - {'self', 'kwargs'})}"
            )
    _prepare_fetch(encoder, weights, options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole: Any = smp.create_model(
            arch, encoder, encoder_weights=weights, in_channels=1, classes=classes, **sized(encoder, size, options)
        )
    head = whole.segmentation_head
    # all heads except DPT's are (convolution, upsampling, activation)
    conv = head[0] if isinstance(head, nn.Sequential) and isinstance(head[0], nn.Conv2d) else head
    return Segmenter(encoder=whole.encoder, decoder=whole.decoder, head=conv, classes=classes)


def build_encoder(name: str, *, weights: str | None, **options: Any) -> Any:
    """An encoder of smp or timm: grey images to the image and feature maps of decreasing size.

    Raises as :func:`build_pair`.
    """
    with without_wandb():
        from segmentation_models_pytorch.encoders import get_encoder

    _prepare_fetch(name, weights, options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_encoder(name, in_channels=1, weights=weights, **options)


def sized(encoder: str, size: int, options: dict[str, Any]) -> dict[str, Any]:
    """Options, with the input size for timm's encoders that are built for one size."""
    with without_wandb():
        import timm

    before, _, name = encoder.partition("-")
    if before != "tu" or {"img_size", "dynamic_img_size"} & set(options):
        return options
    published = timm.get_pretrained_cfg(name)
    if published is None or not published.fixed_input_size:
        return options
    # without the strict size, Swin takes any size: it may train on crops and predict whole images
    return options | {"img_size": size} | ({"strict_img_size": False} if name.startswith("swin") else {})


def check_encoder(name: str) -> None:
    """Raises ConfigError for an encoder unknown to smp and timm (``tu-`` before the name), with the nearest name."""
    with without_wandb():
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


def runs(arch: str, encoder: str, size: int) -> bool:
    """Whether a decoder and an encoder run together at a size, with default options."""
    try:
        segmenter = build_pair(arch, encoder, weights=None, classes=1, size=size, options={})
        dry_run(segmenter, torch.zeros(1, 1, size, size))
    except Exception:  # third-party code raises errors of any type
        return False
    return True


def advice(arch: str, encoder: str, size: int, options: Any) -> str:
    """What else to choose if a decoder and an encoder fail, for the end of a message; found by trial."""
    if arch not in DECODERS:
        return ""
    if runs(arch, encoder, size):  # then the options are at fault
        return ". Without model.options they run" if options else ""
    found = _first(4, (name for name in DECODERS if name != arch and runs(name, encoder, size)))
    if not found:
        return f". No decoder runs with {encoder} at {size} pixels: choose another model.encoder, such as resnet34"
    return f". Decoders that run with {encoder} at {size} pixels: {', '.join(found)}"


def other_sizes(segmenter: nn.Module, size: int) -> str:
    """Sizes near ``size`` at which the segmenter runs, for a message; empty if there are none."""
    near = {size // 32 * 32 + 32 * step for step in range(-4, 5)} | {2**power for power in range(5, 12)}
    ordered = sorted((side for side in near if side >= 32 and side != size), key=lambda side: (abs(side - size), side))

    def works(side: int) -> bool:
        try:
            dry_run(segmenter, torch.zeros(1, 1, side, side))
        except Exception:  # third-party code raises errors of any type
            return False
        return True

    return ", ".join(map(str, sorted(map(int, _first(2, (side for side in ordered if works(side)))))))


def _first(count: int, found: Iterable[Any]) -> list[Any]:
    stream: Iterator[Any] = iter(found)
    return [value for _, value in zip(range(count), stream, strict=False)]


def _prepare_fetch(encoder: str, weights: str | None, options: dict[str, Any]) -> None:
    """As :func:`prepare_fetch`, unless there are no weights to fetch, or timm's options name a file of them."""
    overlay = options.get("pretrained_cfg_overlay")
    if weights is not None and not (isinstance(overlay, dict) and overlay.get("file")):
        prepare_fetch(encoder, weights)
