"""The state of a training as scalars; the tensors are the model's, the average's and the optimizer's."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..errors import one_line
from ..runtime.reading import as_mapping, as_real, as_whole


@dataclass
class State:
    """Every scalar of the engine that the next step depends on; the task has its own."""

    epoch: int = 0
    batch: int = 0  # batches of this epoch done
    step: int = 0  # optimizer steps done
    loss_sum: float = 0.0  # over the images of this epoch so far
    sums: dict[str, float] = field(default_factory=dict)  # of the task's values, over the same images
    images: int = 0
    best: float | None = None  # validated metric of ``best``
    seconds: float = 0.0  # spent training, over all calls
    monitored_best: float | None = None  # monitored metric, as plateau and early_stop see it
    monitored_epoch: int = 0  # when it was reached
    lr_reductions: int = 0  # by plateau
    lr_reduction_epoch: int = 0  # of the last one
    stopped: bool = False  # by early_stop
    averaged: int = 0  # epochs in swa's mean
    top: list[list[float]] = field(default_factory=list)  # metric and epoch of the weights that average_best saves
    micro_batch: int = 0  # images per forward, once memory did not suffice for config.batch; 0: config.batch
    skipped: int = 0  # steps that were not finite
    skipped_in_row: int = 0
    lr_factor: float = 1.0  # halved with on_nan=halve

    @classmethod
    def from_json(cls, values: dict[str, Any], *, epochs: int, batches: int, steps: int) -> "State":
        """A saved state.

        Args:
            epochs: of the training.
            batches: of an epoch.
            steps: of all epochs.

        Raises:
            ValueError: a field that no state has, or a value that no training reaches.
        """
        counts = dict.fromkeys(("images", "micro_batch", "skipped", "skipped_in_row"), 2**53)
        counts |= {"batch": batches, "step": steps}
        counts |= dict.fromkeys(("epoch", "monitored_epoch", "lr_reductions", "lr_reduction_epoch", "averaged"), epochs)
        checks: dict[str, Callable[[Any], object]] = {key: partial(as_whole, high=most) for key, most in counts.items()}
        checks |= {
            "loss_sum": as_real, "seconds": partial(as_real, low=0), "lr_factor": partial(as_real, low=0, high=1),
            "best": _optional, "monitored_best": _optional, "stopped": _switch, "sums": _numbers,
            "top": partial(_ranking, epochs=epochs),
        }  # fmt: skip
        for key, value in values.items():
            if key not in checks:
                raise ValueError(f"has the unknown field {one_line(key, 40)}")
            try:
                checks[key](value)
            except ValueError as error:
                raise ValueError(f"{key} {error}") from None
        return cls(**values)

    @property
    def number(self) -> int:
        """The epoch under way, from 1, or between two epochs the one that is over."""
        return self.epoch + (self.batch > 0)

    @property
    def place(self) -> str:
        """The step under way, in words."""
        return f"epoch {self.epoch + 1}, step {self.step + 1}"


def _optional(value: Any) -> None:
    if value is not None:
        as_real(value)


def _numbers(values: Any) -> None:
    for value in as_mapping(values).values():
        as_real(value)


def _switch(value: Any) -> None:
    if not isinstance(value, bool):
        raise ValueError("is not true or false")


def _ranking(top: Any, epochs: int) -> None:
    if not isinstance(top, list) or not all(isinstance(entry, list) and len(entry) == 2 for entry in top):
        raise ValueError("is not a list of values and epochs")
    for value, epoch in top:
        as_real(value), as_whole(epoch, 1, epochs)
