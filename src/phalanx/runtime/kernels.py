"""Which kernels a GPU runs where both PyTorch's operations and Triton kernels of this package would do."""

import os
from functools import cache
from importlib.util import find_spec

from ..errors import ConfigError

VARIABLE = "PHALANX_KERNELS"
CHOICES = ("torch", "triton")
DEFAULT = "torch"  # until bench/gpu.py has run on a GPU


@cache
def kernels() -> str:
    """``torch`` for PyTorch's own operations or ``triton`` for Triton kernels, as ``PHALANX_KERNELS`` chooses.

    It is read once per process: a step that was compiled or captured cannot change its kernels. Tensors on a CPU are
    always computed by PyTorch.

    Raises:
        ConfigError: another value, or ``triton`` if Triton is not installed.
    """
    choice = os.environ.get(VARIABLE) or DEFAULT
    if choice not in CHOICES:
        raise ConfigError(f"{VARIABLE}={choice}: not a kind of kernels; set {' or '.join(CHOICES)}")
    if choice == "triton" and find_spec("triton") is None:
        raise ConfigError(f"{VARIABLE}={choice}: Triton is not installed; install it, or set {VARIABLE}={DEFAULT}")
    return choice
