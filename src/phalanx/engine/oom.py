"""Out of memory: the step begins anew with half as many images at a time, and its gradient stays that of all."""

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ..data.dataset import Batch, Unwarped
from ..errors import TrainingError
from .state import State

SIGNS = ("can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def out_of_memory(error: RuntimeError) -> bool:
    """Whether torch, cuBLAS or cuDNN wanted memory that was not there."""
    return isinstance(error, torch.OutOfMemoryError) or any(sign in str(error) for sign in SIGNS)


@contextmanager
def predicting() -> Iterator[None]:
    """Tells what to lower where memory does not suffice for predictions, which change no state.

    Raises:
        TrainingError: it did not.
    """
    try:
        yield
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise TrainingError(
            "out of memory while predicting held-out images. Nothing is lost: the same command with a smaller "
            "predict.batch goes on, as in predict.batch=1"
        ) from None


class Replay:
    """The batches of a step, which can be gone through again. Each is asked of the feed when its turn first comes."""

    def __init__(self, stream: Iterator[Batch | Unwarped]):
        self.stream = stream
        self.seen: list[Batch | Unwarped] = []

    def __iter__(self) -> Iterator[Batch | Unwarped]:
        yield from list(self.seen)
        for batch in self.stream:
            self.seen.append(batch)
            yield batch


def pieces(batch: Any, most: int) -> Iterable[Any]:
    """A batch of tensors [B, ...], or tuples of such, in parts of at most ``most`` images; whole where 0."""
    count = len(batch.which)
    if not most or count <= most:
        return [batch]
    return (_cut(batch, slice(first, first + most)) for first in range(0, count, most))


def _cut(values: Any, part: slice) -> Any:
    return values[part] if isinstance(values, Tensor) else type(values)(*(_cut(value, part) for value in values))


def release() -> None:
    """Gives back what an abandoned step held, once nothing refers to it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class Statistics:
    """The running statistics of batch and instance norms, which a forward changes, and an abandoned step must not."""

    def __init__(self, network: nn.Module):
        norms = [module for module in network.modules() if isinstance(module, _NormBase)]
        self.buffers = [buffer for norm in norms for buffer in norm.buffers()]
        self.kept = [torch.empty_like(buffer) for buffer in self.buffers]

    @torch.no_grad()
    def keep(self) -> None:
        """Notes them."""
        if self.buffers:
            torch._foreach_copy_(self.kept, self.buffers)

    @torch.no_grad()
    def restore(self) -> None:
        """Puts them back as they were noted."""
        if self.buffers:
            torch._foreach_copy_(self.buffers, self.kept)


def halve(state: State, batch: int, statistics: Statistics) -> str:
    """Halves the images computed at a time, for the rest of the run; returns what to tell.

    Args:
        batch: the configured number.

    Raises:
        TrainingError: it is one already.
    """
    where, now = f"epoch {state.epoch + 1}, step {state.step + 1}: out of memory", state.micro or batch
    if now == 1:
        raise TrainingError(
            f"{where} with one image at a time. Free the device of other work, or give the same command with "
            "model.activation_checkpointing=true; else begin anew under another name= with a smaller data.size or "
            "data.crop, or with precision=bf16. `phalanx plan` tells what fits"
        )
    state.micro = -(-now // 2)
    note = "; BatchNorm's statistics are of fewer images, so they change a little" if statistics.buffers else ""
    return f"{where}; from here on {state.micro} at a time, in steps of as many images as before{note}"
