"""The device and precision to compute with."""

import importlib
import os
import platform
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import NamedTuple

import torch
from torch.amp import GradScaler

from ..errors import ConfigError
from .leftovers import outlasting


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


def device_text(device: Device, asked: str) -> str:
    """The device by name, and if a GPU was wanted and is not there, why.

    Args:
        asked: as ``device=`` has it.
    """
    place = device.torch
    if place.type == "cuda":
        memory = torch.cuda.get_device_properties(place).total_memory / 2**30
        return f"{torch.cuda.get_device_name(place)} ({place}), {memory:.0f} GiB"
    text = f"CPU{f' ({name})' if (name := cpu_name()) else ''}, {torch.get_num_threads()} thread(s)"
    return f"{text}; no GPU: {why_no_gpu()}" if asked == "auto" else text


def why_no_gpu() -> str:
    """Why torch computes on the CPU if the device is chosen by itself."""
    if torch.version.cuda is None:
        return f"PyTorch {torch.__version__} is built without CUDA"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and not hidden.strip().replace("-1", ""):
        return f"CUDA_VISIBLE_DEVICES={hidden} hides all GPUs"
    return f"PyTorch {torch.__version__} for CUDA {torch.version.cuda} finds no NVIDIA driver with a GPU"


def cpu_name() -> str:
    """The processor's name; empty if the system does not tell it."""
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return " ".join(value.split())
    return platform.processor()


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
        with outlasting():  # when it is imported, it decides where precompiled headers are, for as long as it is loaded
            importlib.import_module("torch._inductor.codecache")
        torch.compile(lambda x: (x.sin() + 1).sum())(torch.zeros(64, device=device))
    except Exception as error:  # of many kinds: no compiler, no Triton, a Python that it does not know
        text = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"model.compile=true: torch cannot compile here ({type(error).__name__}: {text}). Install a C++ compiler "
            "(on a GPU also Triton), or set model.compile=false"
        ) from None
