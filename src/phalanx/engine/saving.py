"""A training's state on disk: the checkpoints last, best and final, and how training takes one up again."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..config import Config
from ..errors import TrainingError, one_line
from ..runs import checkpoint
from ..runs.reader import RETRAIN
from ..runtime.reading import as_mapping, as_real, as_whole, listed
from . import topk
from .ema import Average
from .optim import check_moments
from .state import State
from .swa import WeightMean
from .task import Task


def scalars(state: State, task: Task) -> dict[str, Any]:
    """What a checkpoint's state.json contains of the engine and the task."""
    return asdict(state) | {"metric": task.metric.to_json(), "task": task.state_dict()}


def save_best(folder: Path, weights: checkpoint.Tensors, state: State, task: Task) -> None:
    """Writes ``best``: the weights with the best held-out metric so far, or with ``average_best`` their mean."""
    checkpoint.save(folder / "best", {"weights": weights}, scalars(state, task))


class Checkpoints:
    """The checkpoints of one training.

    Args:
        network: as it trains, and ``average``, ``swa``: its averages; these and the optimizer are read when saving
            and written when restoring.
        run: name and fold of the run, by which a checkpoint of another is refused.
        scaler: of fp16, if there is one.
    """

    def __init__(
        self,
        folder: Path,
        run: str,
        task: Task,
        network: nn.Module,
        average: Average,
        swa: WeightMean | None,
        optimizer: Any,
    ):
        self.folder, self.run, self.task = folder, run, task
        self.network, self.average, self.swa, self.optimizer = network, average, swa, optimizer

    @property
    def weights(self) -> checkpoint.Tensors:
        """The averaged weights: what is validated and predicts."""
        return self.average.network.state_dict()

    def save(self, state: State, scaler: torch.amp.GradScaler | None) -> None:
        """Writes ``last``, from which the same command continues."""
        tensors = {
            "model": self.network.state_dict(),
            "weights": self.weights,
            "optimizer": checkpoint.optimizer_tensors(self.network, self.optimizer),
        }
        if self.swa and state.averaged:
            tensors["swa"] = self.swa.network.state_dict()
        more = {"run": self.run} | ({"scaler": scaler.state_dict()} if scaler is not None else {})
        checkpoint.save(self.folder / "last", tensors, scalars(state, self.task) | more)
        topk.tidy(self.folder, state.top)

    def restore(self, scaler: torch.amp.GradScaler | None, config: Config, *, batches: int, steps: int) -> State | None:
        """Takes up ``last``; None if there is none.

        Args:
            batches: of an epoch.
            steps: of the training.

        Raises:
            TrainingError: it is damaged, of another model or of another metric, or training has ended and what it
                wrote is damaged.
        """
        last = self.folder / "last"
        found = checkpoint.load(last, parts=("model", "weights", "optimizer"), run=self.run)
        if found is None:
            if any((self.folder / name).exists() for name in ("final", "done.json")):
                raise TrainingError(
                    f"{self.folder}: trained to its end, but final is damaged and last is missing. Restore one of "
                    f"them from a copy, or delete the folder and {RETRAIN}"
                )
            return None
        tensors, values = found
        for part, network in (("model", self.network), ("weights", self.average.network), ("swa", self.network)):
            if part in tensors:
                checkpoint.check_fit(last, tensors[part], network)
        values.pop("run", None)
        metric = values.pop("metric", None)
        if metric != self.task.metric.to_json():
            raise TrainingError(
                f"{last}: is ranked by {one_line(str(metric))}, this task by {self.task.metric.to_json()}. Use the "
                "version that began the run (environment.json), or give another name="
            )
        try:
            self.task.load_state_dict(as_mapping(values.pop("task", None), "task"))
            saved_scaler = values.pop("scaler", None)
            if scaler is not None:
                scaler.load_state_dict(_checked_scaler(saved_scaler, scaler))
            state = State.from_json(values, epochs=config.epochs, batches=batches, steps=steps)
            check_moments(self.network, config.optim, len(self.optimizer.param_groups), tensors["optimizer"])
        except ValueError as error:
            raise TrainingError(
                f"{last}: is not of this training ({one_line(str(error))}). Restore it from a copy, or delete it: the "
                "same command then continues from last.before, if there is one"
            ) from None
        self.network.load_state_dict(tensors["model"])
        self.average.network.load_state_dict(tensors["weights"])
        if self.swa and "swa" in tensors:
            self.swa.network.load_state_dict(tensors["swa"])
        checkpoint.restore_optimizer(self.network, self.optimizer, tensors["optimizer"])
        return state

    def finish(self, state: State) -> None:
        """Writes ``final``, and with ``average_best`` the mean of the best as ``best``."""
        if state.top and any((self.folder / "top").glob("*")):  # else it was written, and final damaged since
            save_best(self.folder, topk.mean(self.folder, state.top, self.weights), state, self.task)
        weights = self.swa.network.state_dict() if self.swa else self.weights
        checkpoint.save(self.folder / "final", {"weights": weights}, scalars(state, self.task))
        topk.tidy(self.folder, [])

    def read_final(self) -> dict[str, Any] | None:
        """The scalars of a whole ``final``; None without one."""
        final = self.folder / "final"
        if not checkpoint.whole(final):
            return None
        topk.tidy(self.folder, [])
        found = checkpoint.load(final)
        if found is None:
            return None
        try:
            as_whole(found[1].get("step")), as_real(found[1].get("seconds"), 0)
        except ValueError as error:
            raise TrainingError(
                f"{final}: its state {error}. Restore it from a copy, or delete it: the same command makes it again "
                "from last"
            ) from None
        return found[1]


def _checked_scaler(values: Any, scaler: torch.amp.GradScaler) -> dict[str, Any]:
    """A saved state of a scaler. Raises ValueError unless it has the fields of this one, as numbers."""
    if not isinstance(values, dict) or values.keys() != scaler.state_dict().keys():
        raise ValueError("scaler: does not have its fields")
    for value in values.values():
        as_real(value, 0)
    return values


def clear_unfinished(folder: Path) -> None:
    """Removes the checkpoints that a killed training had not finished writing into its folder."""
    for place in listed(folder):
        if checkpoint.UNFINISHED.fullmatch(place.name):
            checkpoint.remove(place)


def clear_replaced(folder: Path) -> None:
    """Removes what a finished training does not need any more: the checkpoints before ``best`` and ``final``, as far
    as these are whole."""
    for name in ("best", "final"):
        before = folder / f"{name}.before"
        if before.is_dir() and checkpoint.whole(folder / name):
            checkpoint.remove(before)
