"""Optimizers of torch and timm by name, over groups of parameters that are ours."""

import inspect
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..config import Optim, nearest
from ..errors import ConfigError
from ..models.libraries import without_wandb
from ..runs.checkpoint import NUMBERS

FUSED = (torch.optim.Adam, torch.optim.AdamW)  # torch's fused SGD has no momentum after a first step that was skipped
Kind = tuple[tuple[int, ...], torch.dtype]  # of a tensor

# of every optimizer: what the recipe says elsewhere, and what changes speed or bits and not the method
NOT_OPTIONS = {"params", "lr", "weight_decay", "foreach", "fused", "capturable", "differentiable", "maximize"}
# what an option may be, by the type of its default; what begins as None may be anything
KINDS: dict[type, tuple[Any, str]] = {
    bool: (bool, "true or false"),
    int: (int | float, "a number"),
    float: (int | float, "a number"),
    tuple: (list, "a list of numbers"),
}


def build_optimizer(network: nn.Module, config: Optim, stages: dict[str, int] | None = None) -> torch.optim.Optimizer:
    """The optimizer of a configuration. Norms, biases and other vectors get no weight decay.

    Each group has a ``scale``, the factor of its learning rate: 1 for the decoder and the heads. For the encoder it is
    ``encoder_lr_factor``, and with ``layer_decay`` d that times d^(n + 1 - s) at stage s of n encoder stages, so that
    the last stage learns at d of the encoder's rate (Clark et al., 2020, by stage).

    Args:
        stages: encoder stage by parameter name (`models.depth.encoder_stages`), needed if :func:`scales_encoder`.
    """
    stages = stages or {}
    deepest = max(stages.values(), default=0)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {(1.0, True): [], (1.0, False): []}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            scale = 1.0
            if name in stages:
                scale = config.encoder_lr_factor * config.layer_decay ** (deepest + 1 - stages[name])
            groups.setdefault((scale, parameter.ndim > 1), []).append(parameter)
    settings = [
        {"params": parameters, "weight_decay": config.weight_decay if matrix else 0.0, "scale": scale}
        for (scale, matrix), parameters in sorted(groups.items(), key=lambda item: item[0], reverse=True)
    ]
    return make_optimizer(settings, config)


def scales_encoder(config: Optim) -> bool:
    """Whether the encoder, or a stage of it, has another learning rate than the decoder."""
    return config.layer_decay < 1 or config.encoder_lr_factor < 1


def make_optimizer(groups: list[dict[str, Any]], config: Optim) -> torch.optim.Optimizer:
    """The named optimizer with its options, one kernel per step if it has one (on a CPU too, where many small tensors
    are slow otherwise). Raises as :func:`check_optimizer`."""
    with without_wandb():
        from timm.optim import create_optimizer_v2, get_optimizer_class

    check_optimizer(config)
    more: dict[str, Any] = {"fused": True} if get_optimizer_class(config.name, bind_defaults=False) in FUSED else {}
    return create_optimizer_v2(groups, config.name, lr=config.lr, **_options(config), **more)


def skips_on_device(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a step of the optimizer can be skipped by a flag on the device, its ``found_inf``."""
    return type(optimizer) in FUSED and all(group.get("fused") for group in optimizer.param_groups)


def check_optimizer(config: Optim) -> None:
    """Tries the optimizer on a matrix.

    Raises:
        ConfigError: an option that it does not have, or a value that it cannot use.
    """
    with without_wandb():
        from timm.optim import create_optimizer_v2, get_optimizer_class

    parameters = inspect.signature(get_optimizer_class(config.name, bind_defaults=False)).parameters
    known = set(parameters) - NOT_OPTIONS
    for key, value in config.options.items():
        if key not in known:
            close = nearest(key, known).partition("; known")[0]
            has = ", ".join(sorted(known))
            raise ConfigError(f"optim.options.{key}: no such option{close or '.'} {config.name} has {has}")
        kind, expected = KINDS.get(type(parameters[key].default), (object, ""))
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool and expected):
            raise ConfigError(f"optim.options.{key}={value!r}: expected {expected}")
    try:
        create_optimizer_v2([{"params": [_learnt(4)]}], config.name, lr=config.lr, **_options(config)).step()
    except Exception as error:  # of any kind: optimizers check their options, or fail at a step
        raise ConfigError(
            f"optim.options={config.options}: {config.name} cannot work so ({type(error).__name__}: {error})"
        ) from None


def _options(config: Optim) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in config.options.items()}


def state_share(config: Optim) -> float:
    """Bytes of the optimizer's state for a byte of weights, as a matrix of 64 x 64 has it."""
    matrix = _learnt(64)
    optimizer = make_optimizer([{"params": [matrix]}], config)
    optimizer.step()
    moments = [m for m in optimizer.state[matrix].values() if isinstance(m, Tensor) and m.ndim]
    return sum(moment.nbytes for moment in moments) / matrix.nbytes


def _learnt(side: int) -> nn.Parameter:
    matrix = nn.Parameter(torch.ones(side, side))
    matrix.grad = torch.ones(side, side)
    return matrix


def check_moments(network: nn.Module, config: Optim, groups: int, saved: Mapping[str, Tensor]) -> None:
    """Compares a saved state of the optimizer, as ``checkpoint.optimizer_tensors``, with that of a few trial steps.

    Args:
        groups: how many groups of parameters the optimizer has.

    Raises:
        ValueError: a parameter or moment that does not exist, or of another shape or type, or a negative step.
    """
    shapes = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    trials: dict[tuple[int, ...], Trial] = {}
    found: dict[str, set[str]] = {}
    for key, value in saved.items():
        name, _, moment = key.partition("|")
        if name in shapes:
            trial = trials.get(shapes[name]) or trials.setdefault(shapes[name], try_steps(shapes[name], config))
            expected = trial.moments.get(moment)
            found.setdefault(name, set()).add(moment)
        else:
            trial = trials.get((2, 2)) or trials.setdefault((2, 2), try_steps((2, 2), config))
            number = re.fullmatch(r"\[([0-9]{1,4})\]", name)
            expected = trial.group.get(moment) if number and int(number[1]) < groups else None
        if expected != (tuple(value.shape), value.dtype):
            raise ValueError(f"optimizer tensor {key} does not belong to {config.name} on this network")
        if moment.split("|")[0] == "step" and not value.min() >= 0:
            raise ValueError(f"optimizer tensor {key} is negative")
    for name, moments in found.items():
        if lacking := trials[shapes[name]].first - moments:
            raise ValueError(f"optimizer tensor {name}|{min(lacking)} is missing")


class Trial(NamedTuple):
    """The state of an optimizer after some steps: shape and type by name, of a parameter and of its group.

    ``first``: names of what a parameter has after one step.
    """

    moments: dict[str, Kind]
    group: dict[str, Kind]
    first: set[str]


def try_steps(shape: tuple[int, ...], config: Optim, steps: int = 8) -> Trial:
    """The state of an optimizer for a parameter of a shape; some begin with a part of it, and extend it later."""
    parameter = nn.Parameter(torch.ones(shape))
    parameter.grad = torch.full(shape, 1e-3)
    optimizer = make_optimizer([{"params": [parameter]}], config)
    first: set[str] = set()
    for _ in range(steps):
        optimizer.step()
        first = first or set(_kinds(optimizer.state[parameter]))
    group = {key: value for key, value in optimizer.param_groups[0].items() if key == "step"}
    return Trial(_kinds(optimizer.state[parameter]), _kinds(group), first)


def _kinds(state: Mapping[str, Any]) -> dict[str, Kind]:
    """Shape and type by the name that a checkpoint has for each; numbers are tensors there."""
    kinds = {key: (tuple(value.shape), value.dtype) for key, value in state.items() if isinstance(value, Tensor)}
    numbers = {key: value for key, value in state.items() if type(value) in NUMBERS}
    return kinds | {f"{key}|{type(value).__name__}": ((), NUMBERS[type(value)]) for key, value in numbers.items()}


def scales(optimizer: torch.optim.Optimizer) -> list[float]:
    """Distinct factors of the learning rate, descending from the decoder's 1."""
    return sorted({group["scale"] for group in optimizer.param_groups}, reverse=True)
