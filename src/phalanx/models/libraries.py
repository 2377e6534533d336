"""Imports timm and smp without wandb."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_wandb() -> Iterator[None]:
    """Within it, an import of timm, or of smp which imports timm, does not import wandb.

    timm imports wandb if it is installed, in case one of its own scripts logs. That takes longer than timm itself and
    makes temporary folders. If wandb is already imported nothing changes; afterwards the tracker can import it.
    """
    if "wandb" in sys.modules:
        yield
        return
    sys.modules["wandb"] = None  # type: ignore[assignment]  # so that an import raises ImportError
    try:
        yield
    finally:
        if sys.modules.get("wandb") is None:
            sys.modules.pop("wandb", None)
