"""How long a training takes on this machine, of a patient made and of steps run here, before anything is begun."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch

from ..config import ClassifyConfig, Config, Phantom
from ..phantom.kinds import KINDS
from ..runtime.device import Device, open_device
from ..runtime.processes import cores
from .measure import losses_of
from .plan import build_network

SIDE = 256  # pixels of the images that are timed on a CPU: at 2048 one step may take minutes and all memory
STEPS = 2  # timed, after one that is not


class SetTime(NamedTuple):
    """What making a synthetic set takes, of ``timed`` patients that were made, and its number of training images."""

    seconds: float
    timed: int
    seconds_timed: float
    images: int


class TrainTime(NamedTuple):
    """What training a fold takes.

    Attributes:
        seconds: of all epochs and validations.
        step, forward: seconds per image of a training step and of a prediction, at ``side`` pixels.
        precision: computed in.
    """

    seconds: float
    step: float
    forward: float
    side: int
    device: str
    precision: str


def time_set(phantom: Phantom) -> SetTime:
    """Times a synthetic set by making its first patient of training and of test, in a temporary folder."""
    kind = KINDS[phantom.kind]
    options = {key: int(v) if isinstance(v, float) and v.is_integer() else v for key, v in phantom.options.items()}
    with TemporaryDirectory() as folder:
        root, began = Path(folder) / "set", time.monotonic()
        kind.make(root, patients=1, size=phantom.size, seed=phantom.seed, workers=1, progress=False, **options)
        seconds = time.monotonic() - began
        manifest = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
    counts = manifest["patients"]
    timed = counts["train"] + counts["test"]
    images = [row for row in manifest["images"] if row.get("split") != "test"]
    made = phantom.patients + max(1, phantom.patients // 4)  # with those of the test set, as many as by default
    return SetTime(seconds / timed * made / cores(), timed, seconds, len(images) * phantom.patients)


def time_training(config: Config, images: int) -> TrainTime:
    """Times a fold's training by a few steps and predictions on random images.

    On a CPU they are of ``SIDE`` pixels, and times grow with the number of pixels; on a GPU of the recipe's own size.

    Args:
        images: of all folds.

    Raises:
        ConfigError: the recipe cannot be built.
    """
    device = open_device(config.device, config.precision)
    gpu = device.torch.type == "cuda"
    side = config.data.size if gpu else min(SIDE, config.data.size)
    step, forward = _timed(config, device, side)
    held = images / config.folds
    validations = config.epochs // config.validate_every if config.validate_every else 0
    scale = (config.data.size / side) ** 2
    seconds = scale * (step * (images - held) * config.epochs + forward * held * (validations + 1))
    name = torch.cuda.get_device_name(device.torch) if gpu else f"CPU, {torch.get_num_threads()} threads"
    return TrainTime(seconds, step, forward, side, name, device.precision)


def _timed(config: Config, device: Device, side: int) -> tuple[float, float]:
    """Seconds per image of a training step, as the mean over loss stages, and of a prediction."""
    network = build_network(config, side).to(device.torch)
    batch = config.batch
    channels = 3 if isinstance(config, ClassifyConfig) and config.data.colour else 1
    images = torch.randint(0, 256, (batch, channels, side, side), dtype=torch.uint8, device=device.torch)
    losses = losses_of(config, network, size=side, batch=batch)
    parameters = [one for one in network.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-6)

    def train() -> None:
        for loss in losses:
            with device.autocast():
                total = loss(images)
            total.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    step = _seconds(train, device) / len(losses) / batch
    network.eval()

    def predict() -> None:
        with torch.no_grad(), device.autocast():
            network(images)

    return step, _seconds(predict, device) / batch


def _seconds(call: Callable[[], None], device: Device) -> float:
    """The shortest of several calls, after one that is not timed."""
    best = math.inf
    for number in range(1 + STEPS):
        _wait(device)
        began = time.monotonic()
        call()
        _wait(device)
        if number:
            best = min(best, time.monotonic() - began)
    return best


def _wait(device: Device) -> None:
    if device.torch.type == "cuda":
        torch.cuda.synchronize(device.torch)
