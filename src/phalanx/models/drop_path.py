"""Stochastic depth (Huang et al., 2016) in encoders: residual branches dropped at random, deeper ones more often."""

import copy

import torch
from torch import nn

from .segmenter import input_channels

NAMES = ("DropPath", "StochasticDepth")  # of timm and torchvision, whose encoders smp offers


def constructor_options(encoder: str, rate: float | None) -> dict[str, float]:
    """Arguments of timm's constructors (``tu-``), which make no drop path layer for a rate of 0."""
    return {"drop_path_rate": rate} if rate is not None and encoder.startswith(("tu-", "timm-")) else {}


def set_drop_path(encoder: nn.Module, rate: float, size: int) -> bool:
    """Sets the rate of the encoder's last block and scales those of earlier blocks with it.

    Args:
        size: side of the images.

    Returns:
        whether the encoder uses drop path. smp's MiT and EfficientNet do, and those of timm's encoders that take the
        rate in their constructor (ConvNeXt, EfficientNet, ResNet, RegNet, Swin, ViT and others).
    """
    if hasattr(encoder, "_drop_connect_rate"):  # smp's EfficientNet has no layer, but a number in its forward
        encoder._drop_connect_rate = rate  # type: ignore[assignment]
        return True
    layers = [module for module in encoder.modules() if type(module).__name__ in NAMES]
    key = "drop_prob" if layers and hasattr(layers[0], "drop_prob") else "p"
    top = max((float(getattr(layer, key)) for layer in layers), default=0.0)
    for layer in layers:
        setattr(layer, key, float(getattr(layer, key)) * rate / top if top else 0.0)
    return rate == 0 or (top > 0 and _used(encoder, size, key))


def _used(encoder: nn.Module, size: int, key: str) -> bool:
    """Whether a forward calls a layer with a rate; blocks without a shortcut have a layer that they never call."""
    meta, calls = copy.deepcopy(encoder).to("meta"), []
    for layer in meta.modules():
        if type(layer).__name__ in NAMES and getattr(layer, key) > 0:
            layer.register_forward_hook(lambda *call: calls.append(True))
    meta(torch.empty(1, input_channels(encoder), size, size, device="meta"))
    return bool(calls)
