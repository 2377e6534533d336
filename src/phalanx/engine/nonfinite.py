"""A step whose loss or gradient is not finite changes no weight, and the message names what was seen."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

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
        loss: float[]; ``values``: as of `task.Step`.
        diagnose: what `task.Task.diagnose` finds.
    """

    number: int
    names: list[str]
    loss: Tensor
    values: dict[str, Tensor]
    diagnose: Callable[[], str | None]


class Norms(NamedTuple):
    """Norms of a step's gradient, on the device.

    Attributes:
        total: of all as one vector, float[].
        names: of the parameters that have a gradient, and ``each``: theirs, float[P].
    """

    total: Tensor
    names: list[str]
    each: Tensor


def gradient_norms(parameters: Iterable[tuple[str, nn.Parameter]]) -> Norms:
    """Norms of the gradients of named parameters, some of which have none."""
    found = {name: parameter.grad for name, parameter in parameters if parameter.grad is not None}
    each = torch.stack(torch._foreach_norm(list(found.values()))) if found else torch.zeros(0)
    return Norms(torch.linalg.vector_norm(each), list(found), each)


class Numbers(NamedTuple):
    """What a step is judged and logged by, on the host.

    Attributes:
        losses: of its parts.
        sums: over all images of each named value.
        norm: of the gradient.
    """

    losses: list[float]
    sums: list[float]
    norm: float


class Transfer:
    """The numbers of a step on their way to the host, in one piece; the device need not be waited for until they are
    read.

    Attributes:
        numbers: float32 of the loss of each part, the sum of each named value of each part, and the gradient's norm.
    """

    def __init__(self, parts: Sequence[Part], names: Sequence[str], norm: Tensor):
        sums = [part.values[name].sum() for name in names for part in parts]
        self.parts, self.names = len(parts), len(names)
        self.numbers = torch.stack([number.float() for number in (*(p.loss for p in parts), *sums, norm)])
        self.arrived: torch.cuda.Event | None = None

    def begin(self) -> None:
        """Begins the copy, which :meth:`read` waits for."""
        if self.numbers.is_cuda:
            self.numbers, self.arrived = self.numbers.to("cpu", non_blocking=True), torch.cuda.Event()
            self.arrived.record()

    def read(self) -> Numbers:
        """The numbers: the one time that a step waits for the device."""
        if self.arrived is not None:
            self.arrived.synchronize()
        *found, norm = self.numbers.tolist()
        count = self.parts
        sums = [sum(found[count * i : count * (i + 1)]) for i in range(1, self.names + 1)]
        return Numbers(found[:count], sums, norm)

    def trouble(self, *, norm: bool) -> Tensor:
        """Whether a loss is not finite, or with ``norm`` the gradient, bool[] on the device."""
        watched = (self.numbers[: self.parts], self.numbers[-1:]) if norm else (self.numbers[: self.parts],)
        return ~torch.cat(watched).isfinite().all()


def check_weights(weights: Mapping[str, Tensor], place: str) -> None:
    """Raises TrainingError if a weight or buffer of a network is not finite: skipping steps would not help.

    Args:
        place: the step, in words.
    """
    if (name := next((name for name, value in weights.items() if first_bad(value) is not None), None)) is not None:
        raise TrainingError(
            f"{place}: the weights were not finite before it (first in {name}). They are not saved: the "
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


def gradient_trouble(norms: Norms, first: int, batches: int, names: Sequence[str]) -> str:
    """Of which parameter the gradient is not finite, after the batches from number ``first`` on of these images."""
    place = first_bad(norms.each)
    where = f"first in {norms.names[place[0]]}" if place else "though that of each parameter is"  # too large a sum
    which = f"batch {first + 1}" if batches == 1 else f"batches {first + 1} to {first + batches}"
    return f"{which}: the gradient is not finite, {where} (images: {', '.join(names)})"


def skip_step(text: str, on_nan: str, state: State) -> str:
    """Counts a step that is skipped, and with ``halve`` halves the learning rate; returns the text to report.

    Args:
        text: the step and what was seen.

    Raises:
        TrainingError: ``on_nan`` is stop, or too many in a row were skipped.
    """
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


def bad_term(terms: Mapping[str, Tensor], images: Sequence[str]) -> str | None:
    """Which loss term of which image is not finite; None if all are.

    Args:
        terms: float[B] by name.
        images: names of the B images.
    """
    for term, values in terms.items():
        if (place := first_bad(values)) is not None:
            return f"the loss term {term} of {images[place[0]]} is not finite"
    return None
