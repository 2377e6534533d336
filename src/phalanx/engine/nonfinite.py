"""A step whose loss or gradient is not finite changes no weight, and the message names what was seen."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import TrainingError
from .state import State

PATIENCE = 10  # steps in a row to leave out, before it is no accident any more
ANEW = "begin anew under another name= with a lower optim.lr, or with precision=32"


class Part(NamedTuple):
    """What some images of a step gave, its numbers still on the device, so that a step waits for it only once.

    ``number``: of their batch in the epoch, from 0; ``batch``: as it was loaded; ``total`` float[]; ``terms``
    float[B, C] by name; ``dice`` float[B, C].
    """

    number: int
    names: list[str]
    batch: Any
    total: Tensor
    terms: dict[str, Tensor]
    dice: Tensor


def gradient_norm(network: nn.Module, optimizer: torch.optim.Optimizer, scaler: Any) -> Tensor:
    """Norm of all gradients as one vector, float[]; the scale of fp16 is taken out of them first."""
    if scaler is not None:
        scaler.unscale_(optimizer)
    return torch.nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None])


def to_host(parts: Sequence[Part], norm: Tensor) -> tuple[list[float], list[float], float]:
    """Loss and summed Dice of each part, and the norm: the one time that a step waits for the device."""
    numbers = [*(part.total for part in parts), *(part.dice.mean(1).sum() for part in parts), norm]
    *found, last = torch.stack([number.float() for number in numbers]).tolist()
    return found[: len(parts)], found[len(parts) :], last


def check_weights(network: nn.Module, state: State) -> None:
    """Raises TrainingError where a weight or buffer of the network is not finite: leaving out steps would not help."""
    if (name := _first(network.state_dict())) is not None:
        raise TrainingError(
            f"{_place_of(state)}: the weights were not finite before it (first in {name}). They are not saved: the "
            f"same command goes on from the last checkpoint. Should it happen again, {ANEW}"
        )


def loss_trouble(
    parts: Sequence[Part],
    losses: Sequence[float],
    classes: Sequence[str],
    inputs: Callable[[Any], Mapping[str, Tensor]],
) -> str | None:
    """By which input, or else by which loss term of which class, the loss of which image is not finite, if one is.

    Args:
        losses: of the parts.
        inputs: what the network was given with a part's batch, [B, ...] by name.
    """
    bad = next((part for part, loss in zip(parts, losses, strict=True) if not math.isfinite(loss)), None)
    if bad is None:
        return None
    what = "the loss is not finite though its terms are"
    for term, values in reversed(bad.terms.items()):
        if (place := _place(values)) is not None:
            image, label = place
            what = f"the loss term {term} of class {classes[label]} in {bad.names[image]} is not finite"
    for field, values in inputs(bad.batch).items():
        if (place := _place(values)) is not None:
            what = f"the {field} of {bad.names[place[0]]} given to the network is not finite"
    return f"batch {bad.number + 1}: {what} (images: {', '.join(bad.names)})"


def gradient_trouble(network: nn.Module, first: int, batches: int, names: Sequence[str]) -> str:
    """In which tensor the gradient is not finite, after the batches from number ``first`` on of these images."""
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    which = f"batch {first + 1}" if batches == 1 else f"batches {first + 1} to {first + batches}"
    return f"{which}: the gradient is not finite, first in {_first(gradients)} (images: {', '.join(names)})"


def leave_out(trouble: str, on_nan: str, state: State) -> str:
    """Counts a step that is left out, and with ``halve`` halves the learning rate; returns what to tell.

    Raises:
        TrainingError: ``on_nan`` is stop, or too many in a row were left out.
    """
    where = f"{_place_of(state)}, {trouble}"
    if on_nan == "stop":
        raise TrainingError(
            f"{where}. Nothing of it is saved, the last checkpoint is whole. The same command with on_nan=skip leaves "
            f"such steps out, with on_nan=halve it also halves the learning rate; else {ANEW}"
        )
    state.skipped, state.skipped_in_row = state.skipped + 1, state.skipped_in_row + 1
    if state.skipped_in_row >= PATIENCE:
        raise TrainingError(f"{where}. {PATIENCE} steps in a row were not finite: no accident any more; {ANEW}")
    if on_nan == "halve":
        state.rate_factor /= 2
        return f"{where}; left out, the learning rate is halved from here on"
    return f"{where}; left out"


def _place_of(state: State) -> str:
    return f"epoch {state.epoch + 1}, step {state.step + 1}"


def _first(tensors: Mapping[str, Tensor]) -> str | None:
    """The first tensor that is not finite."""
    return next((name for name, value in tensors.items() if _place(value) is not None), None)


def _place(values: Tensor) -> list[int] | None:
    """Index of the first number that is not finite."""
    found = (~torch.isfinite(values)).nonzero()
    return found[0].tolist() if len(found) else None
