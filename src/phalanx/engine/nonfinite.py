"""A step whose loss or gradient is not finite changes no weight, and the message names what was seen."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import TrainingError
from .state import State

PATIENCE = 10  # steps in a row that may be skipped; more are not an accident
RESTART_HINT = "start again under another name= with a lower optim.lr, or with precision=32"


class Part(NamedTuple):
    """What some images of a step gave, with its numbers still on the device, so that a step waits for it only once.

    Attributes:
        number: of their batch in the epoch, from 0.
        names: of the images.
        loss: float[]; ``values``, ``diagnose``: as of `task.Step`.
    """

    number: int
    names: list[str]
    loss: Tensor
    values: dict[str, Tensor]
    diagnose: Callable[[], str | None]


def gradient_norm(network: nn.Module, optimizer: torch.optim.Optimizer, scaler: Any) -> Tensor:
    """Norm of all gradients as one vector, float[]; the scale of fp16 is divided out first."""
    if scaler is not None:
        scaler.unscale_(optimizer)
    return torch.nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None])


def to_host(parts: Sequence[Part], names: Sequence[str], norm: Tensor) -> tuple[list[float], list[float], float]:
    """Loss of each part, sum over all images of each named value, and the norm: the one time that a step waits for
    the device."""
    sums = [part.values[name].sum() for name in names for part in parts]
    *found, last = torch.stack([number.float() for number in (*(p.loss for p in parts), *sums, norm)]).tolist()
    count = len(parts)
    return found[:count], [sum(found[count * i : count * (i + 1)]) for i in range(1, len(names) + 1)], last


def check_weights(network: nn.Module, state: State) -> None:
    """Raises TrainingError if a weight or buffer of the network is not finite: skipping steps would not help."""
    if (name := _first_bad(network.state_dict())) is not None:
        raise TrainingError(
            f"{state.place}: the weights were not finite before it (first in {name}). They are not saved: the "
            f"same command continues from the last checkpoint. If it happens again, {RESTART_HINT}"
        )


def loss_trouble(parts: Sequence[Part], losses: Sequence[float]) -> str | None:
    """What the task finds wrong with the first part whose loss is not finite, if there is one.

    Args:
        losses: of the parts.
    """
    bad = next((part for part, loss in zip(parts, losses, strict=True) if not math.isfinite(loss)), None)
    if bad is None:
        return None
    what = bad.diagnose() or "the loss is not finite though its terms are"
    return f"batch {bad.number + 1}: {what} (images: {', '.join(bad.names)})"


def gradient_trouble(network: nn.Module, first: int, batches: int, names: Sequence[str]) -> str:
    """In which tensor the gradient is not finite, after the batches from number ``first`` on of these images."""
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    which = f"batch {first + 1}" if batches == 1 else f"batches {first + 1} to {first + batches}"
    return f"{which}: the gradient is not finite, first in {_first_bad(gradients)} (images: {', '.join(names)})"


def skip_step(trouble: str, on_nan: str, state: State) -> str:
    """Counts a step that is skipped, and with ``halve`` halves the learning rate; returns the text to report.

    Raises:
        TrainingError: ``on_nan`` is stop, or too many in a row were skipped.
    """
    text = f"{state.place}, {trouble}"
    if on_nan == "stop":
        raise TrainingError(
            f"{text}. Nothing of it is saved, the last checkpoint is whole. The same command with on_nan=skip skips "
            f"such steps, with on_nan=halve it also halves the learning rate; else {RESTART_HINT}"
        )
    state.skipped, state.skipped_in_row = state.skipped + 1, state.skipped_in_row + 1
    if state.skipped_in_row >= PATIENCE:
        raise TrainingError(f"{text}. {PATIENCE} steps in a row were not finite, which is no accident; {RESTART_HINT}")
    if on_nan == "halve":
        state.lr_factor /= 2
        return f"{text}; skipped, the learning rate is halved from here on"
    return f"{text}; skipped"


def first_bad(values: Tensor) -> list[int] | None:
    """Index of the first number that is not finite."""
    found = (~torch.isfinite(values)).nonzero()
    return found[0].tolist() if len(found) else None


def _first_bad(tensors: Mapping[str, Tensor]) -> str | None:
    """Name of the first tensor that is not finite."""
    return next((name for name, value in tensors.items() if first_bad(value) is not None), None)
