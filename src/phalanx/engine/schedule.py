"""The learning rate as a pure function of the step, and of the reductions by a plateau."""

import math

import torch

from ..config import OneCycle, Optim, Plateau, Restarts
from ..errors import ConfigError

POWER = 0.9  # of poly (Chen et al., DeepLab, 2018)


def rate(config: Optim, step: int, steps: int, reductions: int = 0) -> float:
    """Learning rate of step number ``step`` (from 0) of ``steps``: linear warm-up, then the schedule.

    Args:
        reductions: how often the plateau has reduced it.

    >>> optim = Optim(lr=1.0, warmup=0.5, min_lr_factor=0.0)
    >>> [round(rate(optim, step, 4), 2) for step in range(4)]
    [0.5, 1.0, 1.0, 0.5]
    """
    if config.swa and config.swa.lr is not None and step >= config.swa.start * steps:
        return config.swa.lr
    if config.schedule == "one_cycle":
        start, floor = (config.one_cycle or OneCycle()).start_factor, config.min_lr_factor
        rising, done = _phase(config, step, steps)
        low = start if rising else floor
        return config.lr * (low + (1 - low) * (done if rising else 1 - done))
    peak = config.lr
    if config.schedule == "cosine_restarts":
        restarts = config.restarts or Restarts()
        cycle, first, after = _cycle(restarts, step, steps)
        peak *= restarts.decay**cycle
        step, steps = step - first, after - first
    warm = round(config.warmup * steps)
    if step < warm:
        return peak * (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    return peak * max(_fall(config, done, reductions), config.min_lr_factor)


def _fall(config: Optim, done: float, reductions: int) -> float:
    """Fraction of the peak once a fraction ``done`` of the steps after the warm-up is done."""
    floor = config.min_lr_factor
    match config.schedule:
        case "constant":
            return 1.0
        case "plateau":
            return (config.plateau or Plateau()).factor ** reductions
        case "linear":
            return floor + (1 - floor) * (1 - done)
        case "poly":
            return floor + (1 - floor) * (1 - done) ** (config.power or POWER)
    return floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2


def _cycle(config: Restarts, step: int, steps: int) -> tuple[int, int, int]:
    """Number of the cycle that a step belongs to, its first step and the step after its last."""
    lengths = [config.growth**cycle for cycle in range(config.cycles)]
    ends = [round(steps * sum(lengths[: cycle + 1]) / sum(lengths)) for cycle in range(config.cycles)]
    number = next(cycle for cycle, end in enumerate(ends) if step < end)
    return number, ends[number - 1] if number else 0, ends[number]


def _phase(config: Optim, step: int, steps: int) -> tuple[bool, float]:
    """Whether a cycle still rises, and how far it has come in this half, from 0 to 1 by a cosine; as torch counts."""
    top = config.warmup * steps - 1
    rising = step <= top or top >= steps - 1
    done = step / max(top, 1e-9) if rising else (step - max(top, 0)) / max(1e-9, steps - 1 - max(top, 0))
    return rising, (1 - math.cos(math.pi * min(done, 1.0))) / 2


def momentum(config: Optim, step: int, steps: int) -> float | None:
    """The momentum of a step, which ``one_cycle`` lowers while the learning rate rises; None if it does not change."""
    ends = (config.one_cycle or OneCycle()).momentum
    if config.schedule != "one_cycle" or ends is None:
        return None
    rising, done = _phase(config, step, steps)
    return ends[1] + (ends[0] - ends[1]) * (done if rising else 1 - done)


def set_rate(
    optimizer: torch.optim.Optimizer, config: Optim, step: int, steps: int, reductions: int = 0, factor: float = 1.0
) -> None:
    """Sets the learning rate of each group, times ``factor``, and its momentum if that is cycled, for a step."""
    lr, heavy = factor * rate(config, step, steps, reductions), momentum(config, step, steps)
    for group in optimizer.param_groups:
        group["lr"] = group["scale"] * lr
        if heavy is not None and "betas" in group:
            group["betas"] = (heavy, *group["betas"][1:])
        elif heavy is not None:
            group["momentum"] = heavy


def check_schedule(optimizer: torch.optim.Optimizer, config: Optim, steps: int) -> None:
    """Refuses a schedule that this optimizer or this number of steps cannot follow.

    Raises:
        ConfigError: more cycles than steps, or a momentum to be cycled that is not there.
    """
    cycles = (config.restarts or Restarts()).cycles
    if config.schedule == "cosine_restarts" and cycles > steps:
        raise ConfigError(f"optim.restarts.cycles={cycles}: training has {steps} steps")
    if momentum(config, 0, steps) is not None and not {"betas", "momentum"} & optimizer.param_groups[0].keys():
        raise ConfigError(f"optim.one_cycle.momentum: {config.name} has none; set it to null")
