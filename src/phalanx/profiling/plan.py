"""Estimates the cost of a recipe before training: parameters, multiply-adds, memory of a step, what fits a GPU."""

import math
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from ..config import ClassifyConfig, Config, DetectConfig, SegmentConfig
from ..engine.freeze import check_freeze, freeze
from ..errors import ConfigError
from ..models.build import Network, build
from ..models.classifier import Classifier, build_classifier
from ..models.detector import Detector, build_detector
from ..models.encoder_stages import encoder_stages
from ..models.norm_paths import simulated_gpu
from ..runtime.device import Device, open_device
from .detect import counts_predicted, run_dense
from .measure import measure_step
from .memory import estimate_step, meta_copy, state_bytes

GIB = 2**30
SPARE = 0.1  # of a GPU's memory, for its context, cuDNN's workspace and fragmentation
SIZES = {"segment": (512, 1024, 2048), "classify": (224, 384, 512), "detect": (512, 768, 1024)}
AnyNetwork = Network | Classifier | Detector
NOT_OF_THIS_SIZE = (RuntimeError, ValueError, AssertionError)  # what networks raise for an unsupported input size


@dataclass
class Plan:
    """Memory in bytes; multiply-adds (two FLOPs each) of the prediction of one image."""

    arch: str
    encoder: str
    size: int
    batch: int
    precision: str
    parameters: dict[str, int]
    multiply_adds: dict[str, int]
    peak: int
    state: int  # of the peak: parameters, their average and the optimizer's moments
    how: str  # measured or estimated, and for which device
    vram: float | None = None  # GiB
    batches: dict[int, int] = field(default_factory=dict)  # largest batch that fits, by size; 0 if none does
    largest_size: int | None = None  # at the recipe's batch

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def to_text(self) -> str:
        lines = [f"{self.arch} on {self.encoder}, {self.size} pixels", ""]
        lines.append(f"{'':<12}{'parameters':>14}{'multiply-adds':>16}")
        for name in [*self.parameters, "total"]:
            count, work = (
                sum(table.values()) if name == "total" else table.get(name, 0)
                for table in (self.parameters, self.multiply_adds)
            )
            lines.append(f"{name:<12}{count:>14,}{work / 1e9:>14.2f} G")
        lines += [
            "Multiply-adds (two FLOPs each) of convolutions and matrix products, for the prediction of one image.",
            "",
            f"A training step of {self.batch} image(s) in {self.precision} precision takes {_gib(self.peak)} at its "
            f"peak, {self.how};",
            f"{_gib(self.state)} of it are the parameters, their average and the optimizer's moments.",
        ]
        if self.vram is not None:
            lines += ["", f"Into {self.vram:g} GiB, {SPARE:.0%} of them reserved for the GPU's own use, fit:"]
            lines += [f"  {size:>5} pixels  batch {batch or '-'}" for size, batch in self.batches.items()]
            lines.append(f"  at most {self.largest_size or 'no'} pixels at batch {self.batch}")
        return "\n".join(lines)


def make_plan(config: Config, *, vram: float | None, measure: bool) -> Plan:
    """The plan of a recipe.

    Args:
        vram: GiB of a GPU, for which the largest size and batch are found; None: not for any.
        measure: run real steps on the CPU if there is no GPU; on a GPU they are always run.

    Raises:
        ConfigError: the recipe cannot be built, or this machine cannot measure it.
    """
    if not isinstance(config, SegmentConfig | ClassifyConfig | DetectConfig):
        raise ConfigError(f"task={config.task}: its memory is not estimated; train one epoch, and read memory_gib in "
                          "log.jsonl")  # fmt: skip
    if config.devices:
        config = _of_one_device(config)
    size, batch = config.data.size, config.batch
    channels = 3 if isinstance(config, ClassifyConfig) and config.data.colour else 1
    there = torch.cuda.is_available() and config.device != "cpu"
    for_gpu = there or vram is not None or config.device.startswith("cuda") or config.precision == "fp16"
    if measure and for_gpu and not there:
        raise ConfigError("measure=true: there is no GPU here to measure on; leave it out for an estimate")
    real = there or measure
    device = open_device(config.device, config.precision) if real else None
    automatic = "bf16" if for_gpu else "32"
    precision = device.precision if device else automatic if config.precision == "auto" else config.precision
    with simulated_gpu() if for_gpu else nullcontext():
        network = build_network(config, size)

    @cache
    def estimate(side: int, images: int) -> float:
        return estimate_step(config, network, size=side, batch=images, precision=precision, gpu=for_gpu)

    @cache
    def measured(side: int, images: int) -> float:
        assert device is not None
        try:
            return measure_step(config, build_network(config, side), device, size=side, batch=images)
        except torch.cuda.OutOfMemoryError:
            return math.inf

    if device is not None and not there:
        _warm_up(config, device)
    try:
        peak = measured(size, batch) if real else estimate(size, batch)
    except NOT_OF_THIS_SIZE as error:
        raise ConfigError(f"{config.model.encoder} does not run at data.size={size}: {error}") from None
    if not math.isfinite(peak):
        raise ConfigError(f"data.size={size} batch={batch}: a step does not fit into this GPU; reduce one of them")
    how = "measured on this " + ("GPU" if there else "CPU") if real else f"estimated for a {'G' if for_gpu else 'C'}PU"
    found = Plan(
        arch=_arch(config), encoder=config.model.encoder, size=size, batch=batch, precision=precision,
        parameters=parameters(network), multiply_adds=multiply_adds(network, size, channels), peak=int(peak),
        state=state_bytes(config, network), how=how, vram=vram,
    )  # fmt: skip
    if vram is not None:
        _search(found, config, estimate, measured if there else estimate)
    return found


def _search(
    found: Plan, config: Config, estimate: Callable[[int, int], float], peak: Callable[[int, int], float]
) -> None:
    """Fills in what fits: the estimate gives a guess, ``peak`` the result."""
    limit = (found.vram or 0) * (1 - SPARE) * GIB

    def fits(size: int, batch: int) -> bool:
        try:
            return peak(size, batch) <= limit
        except NOT_OF_THIS_SIZE:  # a network built for one size
            return False

    for size in sorted({*SIZES[config.task], found.size}):
        try:
            one, two = estimate(size, 1), estimate(size, 2)
        except NOT_OF_THIS_SIZE:
            continue
        guess = 1 + int((limit - one) / (two - one))
        found.batches[size] = largest(lambda batch, size=size: fits(size, batch), guess)  # type: ignore[misc]
    per_pixel = (found.peak - found.state) / found.size**2
    guess = math.isqrt(max(0, int((limit - found.state) / per_pixel))) // 32
    size = 32 * largest(lambda k: fits(32 * k, found.batch), guess)
    found.largest_size = max(size, found.size if fits(found.size, found.batch) else 0)  # the one size of a ViT


def largest(fits: Callable[[int], bool], guess: int) -> int:
    """The largest integer from 1 that fits; 0 if none does. Everything below one that fits must fit, too.

    >>> largest(lambda n: n <= 37, 30), largest(lambda n: n <= 37, 90), largest(lambda n: False, 5)
    (37, 37, 0)
    """
    low, step = max(1, guess), 1
    if fits(low):
        while fits(low + step):
            low, step = low + step, 2 * step
        high = low + step
    else:
        high = low
        while high - step > 0 and not fits(high - step):
            high, step = high - step, 2 * step
        low = max(0, high - step)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _arch(config: Config) -> str:
    if isinstance(config, ClassifyConfig):
        return f"{config.model.head} classifier"
    if isinstance(config, DetectConfig):
        return config.model.architecture
    assert isinstance(config, SegmentConfig)
    return config.model.arch


def parts(network: AnyNetwork) -> dict[str, nn.Module]:
    """Encoder, decoder and heads of a network, by name."""
    return network.parts


def parameters(network: AnyNetwork) -> dict[str, int]:
    """Number of parameters of each part."""
    return {name: sum(p.numel() for p in part.parameters()) for name, part in parts(network).items()}


def multiply_adds(network: AnyNetwork, size: int, channels: int = 1) -> dict[str, int]:
    """Multiply-adds of each part for the prediction of one image, refined points included; of a detector for as many
    proposals and masks as it may have."""
    mode = FakeTensorMode()
    meta = meta_copy(network, mode).eval()
    modules = parts(meta)
    work = dict.fromkeys(modules, 0)
    with mode, FlopCounterMode(display=False) as counter:
        for name, part in modules.items():

            def before(*call: Any, name: str = name) -> None:
                work[name] -= counter.get_total_flops() // 2

            def after(*call: Any, name: str = name) -> None:
                work[name] += counter.get_total_flops() // 2

            part.register_forward_pre_hook(before)
            part.register_forward_hook(after)
        with torch.no_grad():
            if isinstance(meta, Detector):
                run_dense(meta, modules, torch.zeros(1, 1, size, size, dtype=torch.uint8), *counts_predicted(meta))
                return work
            meta.predict(torch.zeros(1, channels, size, size, dtype=torch.uint8))
    return work


def _of_one_device(config: Config) -> Config:
    """The recipe of one of ``devices``: with ``ddp``, at most its part of a step's images at once."""
    own = -(-config.batch * config.accumulate // len(config.devices)) if config.ddp else config.batch
    return config.model_copy(update={"device": config.devices[0], "batch": min(config.batch, own)})


def build_network(config: Config, size: int) -> AnyNetwork:
    """The network in its state of largest memory: encoder stages that are unfrozen later count as trainable."""
    network: AnyNetwork
    if isinstance(config, DetectConfig):
        data = config.data.model_copy(update={"size": size})
        network = build_detector(config.model_copy(update={"data": data}), pretrained=False)
    elif isinstance(config, ClassifyConfig):
        channels = 3 if config.data.colour else 1
        network = build_classifier(
            config.model, classes=len(config.data.classes), size=size, channels=channels, pretrained=False
        )
    else:
        assert isinstance(config, SegmentConfig)
        network = build(config.model, classes=config.channels, size=size, pretrained=False)
    frozen = config.optim.freeze
    if frozen is not None and frozen.epochs is None:
        stages = encoder_stages(network, size)
        check_freeze(frozen, stages)
        freeze(network, frozen, stages, epoch=0)
    return network


def _warm_up(config: Config, device: Device) -> None:
    """Runs a small step, so that the memory of libraries that are loaded then is not counted."""
    with suppress(*NOT_OF_THIS_SIZE):
        measure_step(config, build_network(config, 64), device, size=64, batch=1)


def _gib(count: float) -> str:
    return f"{count / GIB:.2f} GiB"
