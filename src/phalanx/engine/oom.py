"""Out of memory: the step starts again with half as many images per forward, and its gradient stays that of all."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ..errors import TrainingError
from .state import State
from .task import Batch

SIGNS = ("can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def out_of_memory(error: RuntimeError) -> bool:
    """Whether torch, cuBLAS or cuDNN asked for memory that was not there."""
    return isinstance(error, torch.OutOfMemoryError) or any(sign in str(error) for sign in SIGNS)


@contextmanager
def predicting() -> Iterator[None]:
    """Names the option to lower if memory does not suffice for predictions, which change no state.

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
            "predict.batch continues, as in predict.batch=1"
        ) from None


class Replay:
    """The batches of a step, which can be iterated again. Each is taken from the stream when its turn first comes."""

    def __init__(self, stream: Iterator[Batch]):
        self.stream = stream
        self.seen: list[Batch] = []

    def __iter__(self) -> Iterator[Batch]:
        yield from list(self.seen)
        for batch in self.stream:
            self.seen.append(batch)
            yield batch


def release() -> None:
    """Frees what an abandoned step held, once nothing refers to it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class Statistics:
    """The running statistics of batch and instance norms, which a forward changes, and an abandoned step must not."""

    def __init__(self, network: nn.Module):
        norms = [module for module in network.modules() if isinstance(module, _NormBase)]
        self.buffers = [buffer for norm in norms for buffer in norm.buffers()]
        self.saved = [buffer.clone() for buffer in self.buffers]

    @torch.no_grad()
    def save(self) -> None:
        """Copies them."""
        if self.buffers:
            torch._foreach_copy_(self.saved, self.buffers)

    @torch.no_grad()
    def restore(self) -> None:
        """Sets them to the last copy."""
        if self.buffers:
            torch._foreach_copy_(self.buffers, self.saved)

    @torch.no_grad()
    def restore_if(self, flag: Tensor) -> None:
        """Sets them to the last copy if a flag, bool[] on the device, is set, without a wait for it."""
        for width, kind in ((4, torch.int32), (8, torch.int64)):  # as bits: whatever is not finite times 0 is 0
            both = [pair for pair in zip(self.buffers, self.saved, strict=True) if pair[0].element_size() == width]
            if both:
                now, before = ([tensor.view(kind) for tensor in found] for found in zip(*both, strict=True))
                torch._foreach_mul_(now, (~flag).to(kind))
                torch._foreach_add_(now, torch._foreach_mul(before, flag.to(kind)))

    def before(self, network: nn.Module) -> dict[str, Tensor]:
        """The weights and buffers of the network, with the last copy of the statistics."""
        saved = {id(buffer): copy for buffer, copy in zip(self.buffers, self.saved, strict=True)}
        return {name: saved.get(id(value), value) for name, value in network.state_dict(keep_vars=True).items()}


def halve_micro_batch(state: State, batch: int, statistics: Statistics) -> str:
    """Halves the images per forward for the rest of the run; returns the text to report.

    Args:
        batch: the configured number.

    Raises:
        TrainingError: it is one already.
    """
    now = state.micro_batch or batch
    if now == 1:
        raise TrainingError(
            f"{state.place}: out of memory with one image per forward. Free the device of other work, or give the "
            "same command with model.activation_checkpointing=true; else start again under another name= with a "
            "smaller data.size or data.crop, or with precision=bf16. `phalanx plan` estimates what fits"
        )
    state.micro_batch = -(-now // 2)
    note = "; BatchNorm's statistics come from fewer images, so they change a little" if statistics.buffers else ""
    halved = f"micro-batch halved to {state.micro_batch}, effective batch unchanged"
    return f"{state.place}: out of memory; {halved}{note}"
