"""Stochastic depth (Huang et al., 2016) in encoders: residual branches left out at random, deeper ones more often."""

from torch import nn

NAMES = ("DropPath", "StochasticDepth")  # of timm and torchvision, whose encoders smp offers


def constructor_options(encoder: str, rate: float | None) -> dict[str, float]:
    """What timm's constructors (``tu-``) must be told, since they make no layer for a rate of 0."""
    return {"drop_path_rate": rate} if rate is not None and encoder.startswith(("tu-", "timm-")) else {}


def set_drop_path(encoder: nn.Module, rate: float) -> bool:
    """Sets the rate of the encoder's last block; those before it keep their share of it, as published.

    Returns:
        whether the encoder can: smp's MiT and EfficientNet can, and those of timm that took the rate in their
        constructor (ConvNeXt, EfficientNet, ResNet, RegNet, Swin, ViT and others).
    """
    if hasattr(encoder, "_drop_connect_rate"):  # smp's EfficientNet: no layer, a number in its forward
        encoder._drop_connect_rate = rate  # type: ignore[assignment]
        return True
    layers = [module for module in encoder.modules() if type(module).__name__ in NAMES]
    key = "drop_prob" if layers and hasattr(layers[0], "drop_prob") else "p"
    top = max((float(getattr(layer, key)) for layer in layers), default=0.0)
    for layer in layers:
        setattr(layer, key, float(getattr(layer, key)) * rate / top if top else 0.0)
    return top > 0 or rate == 0
