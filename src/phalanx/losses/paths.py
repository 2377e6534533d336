"""Which of three computations of the losses serves: tiles on a CPU, on a GPU whole maps by PyTorch or by Triton."""

from typing import Literal

import torch

from ..runtime.kernels import kernels

Path = Literal["tiles", "batched", "triton"]


def path_of(device: torch.device) -> Path:
    """``tiles`` on a CPU, ``batched`` or ``triton`` on a GPU, as ``PHALANX_KERNELS`` chooses."""
    if device.type == "cpu":
        return "tiles"
    return "triton" if kernels() == "triton" else "batched"
