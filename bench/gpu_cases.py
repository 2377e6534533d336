"""One case of bench/gpu.py, in a process of its own: prints a JSON object as its last line.

A step of the engine replays prepared batches through `Trainer.train_epoch`, so that all that surrounds a step counts
and loading does not. A step of the plain script computes the same network as smp has it, with BatchNorm.

    python bench/gpu_cases.py '["step", {...}]'
"""

import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import torch
from torch import Tensor, nn

import gpu_race
from phalanx.config import SegmentConfig, validate_as
from phalanx.config.compose import compose
from phalanx.config.loss import Loss
from phalanx.data.dataset import Batch, collate
from phalanx.data.records import train_records
from phalanx.engine.loop import Trainer
from phalanx.losses.stages import StagedLoss
from phalanx.masks.planes_torch import unpack
from phalanx.models.norms import replace_norms
from phalanx.profiling.memory import estimate_step
from phalanx.runtime.device import Device, open_device
from phalanx.tasks.segment import Segment
from plain import PlainLoss, plain_network, plain_step

BATCHES = 4  # prepared ones, that steps go through in turn
LOSSES = {"bce+dice": {"bce": 0.5, "dice": 0.5}, "lovasz": {"bce": 0.5, "lovasz": 0.5}}


def recipe(root: str, model: str, size: int, batch: int, loss: str, more: dict[str, str]) -> SegmentConfig:
    """A run's recipe on the hands in ``root``, with the point head unless ``more`` leaves it out."""
    points = {} if more.get("model.pointrend") == "null" else {"point": 1.0}
    words = {
        "model": model, "model.weights": "none", "data.root": root, "data.size": str(size), "batch": str(batch),
        "workers": "0", "epochs": "1000", "progress": "false", "checkpoint_minutes": "100000",
        "loss.stages": json.dumps([{"weights": LOSSES[loss] | points}]).replace('"', ""),
    }  # fmt: skip
    return compose(words | more)


def step(root: str, who: str, model: str, size: int, batch: int, loss: str, steps: int, **more: str) -> dict[str, Any]:
    """A training step: milliseconds, images per second, peak memory, the GPU's own work and launches; and the seconds
    of the first few, in which what is compiled or recorded is made.

    Args:
        who: ours, or plain; plain compiled; plain channels_last.
        more: words of the recipe, of ours.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = recipe(root, model, size, batch, loss, more)
        device = open_device(config.device, config.precision)
        task = Segment(config, train_records(Path(root)), [])
        samples = prepared(task, batch)
        run = ours(config, Path(folder), task, samples) if who == "ours" else plain(who, config, device, samples)
        began = clock()
        run(BATCHES)  # memory, plans of libraries, the optimizer's state; what is compiled or recorded
        first = clock() - began
        run(BATCHES)
        if device.torch.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        began = clock()
        run(steps)
        spent = (clock() - began) / steps
        found: dict[str, Any] = {"ms": spent * 1e3, "images": batch / spent, "first": first}
        if device.torch.type == "cuda":
            found["gib"] = torch.cuda.max_memory_allocated() / 2**30
            found["reserved"] = torch.cuda.max_memory_reserved() / 2**30  # with what a graph holds
            found |= gpu_work(lambda: run(BATCHES), BATCHES)
        if who == "ours":
            planned = estimate_step(
                config,
                task.network,
                size=size,
                batch=batch,
                precision=device.precision,
                gpu=device.torch.type == "cuda",
            )
            found["planned"] = planned / 2**30
    return found


def prepared(task: Segment, batch: int) -> list[Batch]:
    """Batches of the task's training images, in turn."""
    images = task.training_set
    return [collate([images[0, (batch * i + k) % len(images)] for k in range(batch)]) for i in range(BATCHES)]


def ours(config: SegmentConfig, folder: Path, task: Segment, samples: list[Batch]) -> Callable[[int], None]:
    """Runs so many steps of the engine on prepared batches."""
    trainer = Trainer(config, folder / "fold0", task)
    trainer.began = trainer.saved = time.monotonic()
    trainer.log = lambda *event, **values: None  # type: ignore[assignment]
    batches = [batch.to(trainer.device.torch) for batch in samples]

    def run(steps: int) -> None:
        trainer.state.epoch = trainer.state.batch = 0
        stream = ((len(batches[0].rows), iter([batches[i % len(batches)]])) for i in range(steps))
        trainer.loader.steps = lambda epoch, batch: stream  # type: ignore[method-assign]
        trainer.train_epoch()

    return run


def plain(who: str, config: SegmentConfig, device: Device, samples: list[Batch]) -> Callable[[int], None]:
    """Runs so many steps of the plain script on the same images and masks, floats on the device."""
    classes = len(config.data.classes)
    network = plain_network(config.model.arch, config.model.encoder, classes).to(device.torch).train()
    if "channels_last" in who:
        network = network.to(memory_format=torch.channels_last)
    if "compiled" in who:
        network.compile()
    optimizer, loss = torch.optim.AdamW(network.parameters(), 1e-3), PlainLoss()
    batches = []
    for sample in samples:
        image = sample.images.to(device.torch).float() / 255
        image = image.expand(-1, 3, -1, -1).contiguous(
            memory_format=torch.channels_last if "channels_last" in who else torch.contiguous_format
        )
        batches.append((image, unpack(sample.planes.to(device.torch), slice(0, classes)).float()))

    def run(steps: int) -> None:
        for i in range(steps):
            plain_step(network, loss, optimizer, device, *batches[i % len(batches)])

    return run


def loss_alone(who: str, size: int, batch: int, classes: int, name: str, repeats: int) -> dict[str, Any]:
    """Forward and gradient of a loss alone, of half-precision logits: ours, or smp's."""
    device = open_device("auto", "auto")
    logits, planes = picture(size, batch, classes, device)
    if who == "smp":
        dense, usual = unpack(planes, slice(0, classes)).float(), PlainLoss()

        def run() -> Tensor:
            return usual(logits.float(), dense)

    else:
        stages = [{"weights": LOSSES[name]}]
        staged = StagedLoss(validate_as(Loss, {"stages": stages}), [f"c{i}" for i in range(classes)])

        def run() -> Tensor:
            return staged(0, logits, None, planes).total

    return timed(lambda: torch.autograd.grad(run(), logits), repeats)


def norm_alone(norm: str, shape: list[int], repeats: int) -> dict[str, Any]:
    """Forward and gradient of a norm and SiLU alone, in half precision."""
    device = open_device("auto", "auto")
    layers = replace_norms(nn.Sequential(nn.BatchNorm2d(shape[1]), nn.SiLU()), norm).to(device.torch)
    half = torch.bfloat16 if device.precision == "bf16" else torch.float32
    x = torch.randn(shape, device=device.torch, dtype=half, requires_grad=True)
    upstream = torch.randn(shape, device=device.torch, dtype=half)

    def run() -> None:
        with device.autocast():
            y = layers(x)
        torch.autograd.grad(y, [x, *layers.parameters()], upstream.to(y.dtype))

    return timed(run, repeats)


def equal(root: str, model: str, size: int, batch: int, steps: int, **more: str) -> dict[str, Any]:
    """The largest difference of the weights of two runs of the same steps.

    Args:
        more: words of the second one's recipe.
    """
    ends = []
    for words in ({}, more):
        with tempfile.TemporaryDirectory() as folder:
            config = recipe(root, model, size, batch, "bce+dice", words)
            torch.manual_seed(0)
            task = Segment(config, train_records(Path(root)), [])
            samples = prepared(task, batch)
            ours(config, Path(folder), task, samples)(steps)
            ends.append({name: value.double().cpu() for name, value in task.network.state_dict().items()})
    gaps = [float((ends[0][name] - ends[1][name]).abs().max()) for name in ends[0] if ends[0][name].numel()]
    return {"difference": max(gaps)}


def picture(size: int, batch: int, classes: int, device: Device) -> tuple[Tensor, Tensor]:
    """Logits [B, C, S, S] of a network that is mostly right, and planes of blocks."""
    torch.manual_seed(0)
    planes = torch.randint(0, 256, (batch, -(-classes // 8), size // 32, size // 32), dtype=torch.uint8)
    planes = planes.repeat_interleave(32, 2).repeat_interleave(32, 3).contiguous().to(device.torch)
    truth = unpack(planes, slice(0, classes)).float()
    logits = (truth * 2 - 1) * 3 + torch.randn_like(truth) * 1.2
    half = torch.bfloat16 if device.precision == "bf16" else torch.float32
    return logits.to(half).requires_grad_(), planes


def timed(run: Callable[[], Any], repeats: int) -> dict[str, Any]:
    """The median milliseconds of a call, and on a GPU its peak memory and own work."""
    gpu = torch.cuda.is_available()
    run()
    run()
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    spent = []
    for _ in range(repeats):
        began = clock()
        run()
        spent.append(clock() - began)
    found: dict[str, Any] = {"ms": statistics.median(spent) * 1e3}
    if gpu:
        found["gib"] = torch.cuda.max_memory_allocated() / 2**30
        found |= gpu_work(run, 1)
    return found


def gpu_work(run: Callable[[], Any], steps: int) -> dict[str, Any]:
    """Milliseconds in which the GPU computed, and launches of kernels, for each of ``steps`` steps."""
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        run()
        torch.cuda.synchronize()
    kernels = [event for event in seen.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    spans = sorted((event.time_range.start, event.time_range.end) for event in kernels)
    busy, end = 0.0, float("-inf")
    for start, stop in spans:  # what overlaps counts once
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return {"busy": busy / 1e3 / steps, "launches": len(kernels) / steps}


def clock() -> float:
    """Seconds, all GPU work done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


CASES: dict[str, Callable[..., dict[str, Any]]] = {
    "step": step, "loss": loss_alone, "norm": norm_alone, "equal": equal, "race": gpu_race.race,
    "start": gpu_race.start,
}  # fmt: skip


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return
    kind, options = json.loads(sys.argv[1])
    with contextlib.redirect_stdout(sys.stderr):
        found = CASES[kind](**options)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
