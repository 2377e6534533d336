"""The state of a training as scalars; the tensors are the model's, the average's and the optimizer's."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..runtime.reading import as_mapping, as_name, as_real, as_whole, one_line


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
        if unknown := values.keys() - cls.__dataclass_fields__.keys():
            raise ValueError(f"has the unknown field {one_line(min(unknown), 40)}")
        state = cls(**values)
        limits = {
            "epoch": epochs, "batch": batches, "step": steps, "monitored_epoch": epochs, "lr_reductions": epochs,
            "lr_reduction_epoch": epochs, "averaged": epochs,
        }  # fmt: skip
        for key in (*limits, "images", "micro_batch", "skipped", "skipped_in_row"):
            _of(key, lambda value, key=key: as_whole(value, 0, limits.get(key, 2**53)), getattr(state, key))
        for key, low, high in (("loss_sum", -1e300, 1e300), ("seconds", 0.0, 1e12), ("lr_factor", 0.0, 1.0)):
            _of(key, lambda value, low=low, high=high: as_real(value, low, high), getattr(state, key))
        for key in ("best", "monitored_best"):
            _of(key, lambda value: value if value is None else as_real(value), getattr(state, key))
        _of("sums", lambda sums: [(as_name(name), as_real(value)) for name, value in as_mapping(sums).items()], state.sums)
        _of("top", lambda top: _check_top(top, epochs), state.top)
        if not isinstance(state.stopped, bool):
            raise ValueError("stopped: is not true or false")
        return state

    @property
    def place(self) -> str:
        """The step under way, in words."""
        return f"epoch {self.epoch + 1}, step {self.step + 1}"


def _of(key: str, check: Callable[[Any], object], value: Any) -> None:
    """Raises ValueError as ``check``, with the field's name."""
    try:
        check(value)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _check_top(top: Any, epochs: int) -> None:
    if not isinstance(top, list) or not all(isinstance(entry, list) and len(entry) == 2 for entry in top):
        raise ValueError("is not a list of values and epochs")
    for value, epoch in top:
        as_real(value), as_whole(epoch, 1, epochs)
