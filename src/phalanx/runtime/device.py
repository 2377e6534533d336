"""The device and precision to compute with."""

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch.amp import GradScaler

from ..errors import ConfigError


class Device(NamedTuple):
    """A torch device with the precision of its matrix products: 32, bf16 or fp16."""

    torch: torch.device
    precision: str

    def autocast(self) -> AbstractContextManager:
        """Lower precision where it is safe, as the precision says."""
        if self.precision == "32":
            return nullcontext()
        return torch.autocast(self.torch.type, torch.bfloat16 if self.precision == "bf16" else torch.float16)

    def scaler(self) -> GradScaler | None:
        """The scaler that keeps small gradients of fp16 from vanishing; None for other precisions."""
        return GradScaler(self.torch.type) if self.precision == "fp16" else None


def open_device(name: str, precision: str) -> Device:
    """A device by ``auto``, ``cpu``, ``cuda`` or ``cuda:1``, and a precision that it has.

    ``precision`` auto is bf16 on GPUs that have it, fp16 on older ones, 32 on the CPU (where bf16 needs matrix
    units that few have, and was slower on those without).

    Raises:
        ConfigError: no such device, or a precision it cannot compute in.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device={name}: expected auto, cpu, cuda or cuda:<number>") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device={name}: expected auto, cpu, cuda or cuda:<number>")
    if device.type == "cuda" and not (torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()):
        raise ConfigError(f"device={name}: this machine has {torch.cuda.device_count()} CUDA devices; try device=auto")
    if precision == "auto":
        half = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp16"
        precision = half if device.type == "cuda" else "32"
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError("precision=fp16: only on a GPU; use precision=bf16 or 32")
    return Device(device, precision)


def check_warp_device(name: str, device: Device) -> None:
    """Checks that the training device can compute the warp if ``augment.device`` asks for it.

    Raises:
        ConfigError: it is not a GPU.
    """
    if name == "cuda" and device.torch.type != "cuda":
        raise ConfigError(
            f"augment.device=cuda: warps on the GPU that trains, and this run trains on {device.torch}; "
            "use augment.device=cpu, or train with device=cuda"
        )


def check_compiler(device: torch.device) -> None:
    """Compiles a line, since torch says only at the first step what it lacks."""
    try:
        torch.compile(lambda x: (x.sin() + 1).sum())(torch.zeros(64, device=device))
    except Exception as error:  # of many kinds: no compiler, no Triton, a Python that it does not know
        text = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"model.compile=true: torch cannot compile here ({type(error).__name__}: {text}). Install a C++ compiler "
            "(on a GPU also Triton), or set model.compile=false"
        ) from None
