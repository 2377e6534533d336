"""Peak memory of a training step, measured over real steps on random images."""

import ctypes
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..config import ClassifyConfig, Config, DetectConfig, SegmentConfig
from ..data.box_set import Target
from ..engine.ema import Average
from ..engine.optim import build_optimizer
from ..engine.swa import WeightMean
from ..errors import ConfigError
from ..losses.class_weights import count_labels
from ..losses.classification import ClassificationLoss
from ..losses.segmentation import segmentation_loss
from ..models.norms import refusing_single_values
from ..runtime.device import Device
from ..tasks.segment import loss_of
from .detect import example_targets

M_MMAP_THRESHOLD = -3  # of malloc.h
STEPS = 2  # from the second on, the optimizer's moments are already allocated


def measure_step(config: Config, network: nn.Module, device: Device, *, size: int, batch: int) -> int:
    """Peak bytes of a step: on a GPU those of tensors, as counted by torch; on a CPU the growth of the process.

    Args:
        network: new, on the CPU, its frozen stages frozen; it is trained and should not be used again.

    Raises:
        torch.cuda.OutOfMemoryError: the step does not fit into the GPU.
    """
    with _returns_freed_memory(), refusing_single_values():
        return _measure(config, network, device, size=size, batch=batch)


def _measure(config: Config, network: nn.Module, device: Device, *, size: int, batch: int) -> int:
    losses = losses_of(config, network, size=size, batch=batch)
    gpu = device.torch.type == "cuda"
    _reset(device)
    before = torch.cuda.memory_allocated(device.torch) if gpu else _status("VmRSS") - _bytes_of(network)
    network = network.to(device.torch)
    average = Average(network, config.optim.ema)
    mean = WeightMean(network) if config.optim.swa else None
    optimizer = build_optimizer(network, config.optim)
    channels = 3 if isinstance(config, ClassifyConfig) and config.data.colour else 1
    for step, loss in enumerate(losses * STEPS):
        for _ in range(min(2, config.accumulate)):
            images = torch.randint(0, 256, (batch, channels, size, size), dtype=torch.uint8, device=device.torch)
            with device.autocast():
                total = loss(images)
            (total / config.accumulate).backward()
        torch.nn.utils.clip_grad_norm_([p for p in network.parameters() if p.grad is not None], 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update(network, step + 1)
    if mean is not None:
        mean.add(network, 1)
    if gpu:
        return torch.cuda.max_memory_allocated(device.torch) - before
    return _status("VmHWM") - before


def losses_of(config: Config, network: nn.Module, *, size: int, batch: int) -> list[Callable[[Tensor], Tensor]]:
    """What a step computes from images uint8[B, channels, S, S], for each loss stage."""
    classes = config.data.classes
    if isinstance(config, ClassifyConfig):
        labels = np.zeros((batch, len(classes)), np.float32)
        labels[:, 0] = 1
        counts = count_labels(np.eye(len(classes), dtype=np.float32))  # each class once: weights take no more memory
        loss = ClassificationLoss(config.loss, config.model.head, classes, counts)
        target = torch.from_numpy(labels)
        return [lambda images: loss(network(images), target.to(images.device), 0).total]
    if isinstance(config, DetectConfig):
        targets = example_targets(config, size, batch)

        def of_boxes(images: Tensor) -> Tensor:
            terms, _ = network(images, [Target(*(part.to(images.device) for part in one)) for one in targets])
            weighted = [getattr(config.loss, name) * term for name, term in terms.items()]
            return torch.stack([one.mean() for one in weighted]).sum()

        return [of_boxes]
    assert isinstance(config, SegmentConfig)
    staged = segmentation_loss(config)

    def of_stage(stage: int) -> Callable[[Tensor], Tensor]:
        def total(images: Tensor) -> Tensor:
            planes = torch.zeros(batch, -(-len(classes) // 8), size, size, dtype=torch.uint8, device=images.device)
            return loss_of(staged, stage, network(images), planes).total

        return total

    return [of_stage(stage) for stage in range(len(config.loss.stages))]


def _bytes_of(network: nn.Module) -> int:
    return sum(value.nbytes for value in network.state_dict().values())


def _reset(device: Device) -> None:
    gc.collect()
    if device.torch.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device.torch)
        return
    with suppress(OSError):  # resets the peak on Linux; elsewhere it is that of the whole process
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


@contextmanager
def _returns_freed_memory() -> Iterator[None]:
    """Returns freed memory to the system at once, so that a process takes as much as its tensors.

    glibc reserves blocks of up to 32 MiB, which are memory of the process's history and not of the step.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.malloc_trim(0)
        libc.mallopt(M_MMAP_THRESHOLD, 2**16)
    try:
        yield
    finally:
        with suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").mallopt(M_MMAP_THRESHOLD, 2**25)


def _status(key: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        raise ConfigError("measure=true: the memory of a process can only be read on Linux") from None
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))
