"""What happens after an epoch: validation, the best weights kept, and what plateau and early stop make of a Dice."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from ..config import Config
from ..runs import checkpoint
from ..runs.folder import Log
from ..runtime.distributed import Ranks
from . import topk as top
from .monitor import look, watched
from .state import State


class Judge:
    """Looks at the averaged weights when an epoch is over.

    Args:
        network: the average, on the device that trains.
        ranks: the processes that train together, of which the first writes.
    """

    def __init__(self, config: Config, folder: Path, task: Any, network: nn.Module, ranks: Ranks):
        self.config, self.folder, self.task, self.network, self.ranks = config, folder, task, network, ranks
        self.of = getattr(watched(config.optim), "split", None)

    def __call__(self, state: State, dice: float, log: Log, say: Callable[[str], Any]) -> None:
        """After an epoch of training Dice ``dice``, told to the log and, in a line, by ``say``."""
        device = next(self.network.parameters()).device
        if self.of == "train":
            self._look(state, dice, log, say)
        every = self.config.validate_every
        if not every or (state.epoch % every and state.epoch < self.config.epochs and not state.stopped):
            return
        held_out = self.task.validate(self.network, device, self.ranks)
        if held_out is not None:
            self._keep(state, held_out, log, say)
        if self.of == "held_out":
            self._look(state, held_out, log, say)
        elif self.of == "inner":
            self._look(state, self.task.validate(self.network, device, self.ranks, watched=True), log, say)

    def _keep(self, state: State, dice: float, log: Log, say: Callable[[str], Any]) -> None:
        """Keeps the best by the held-out Dice, optimistic by that choice."""
        log("validate", state.step, epoch=state.epoch, **{f"held_out/{self.task.metric.name}": dice})
        say(f"epoch {state.epoch}/{self.config.epochs}: held-out Dice {dice:.4f}")
        weights, count = self.network.state_dict(), self.config.optim.average_best
        if count:
            state.top = top.enter(self.folder, state.top, count, dice, state.epoch, weights, self.ranks.first)
        if dice > state.best:
            state.best = dice
            if self.ranks.first:
                checkpoint.save(self.folder / "best", {"weights": weights}, asdict(state))

    def _look(self, state: State, dice: float, log: Log, say: Callable[[str], Any]) -> None:
        log("monitor", state.step, epoch=state.epoch, **{f"monitored/{self.task.metric.name}": dice})
        for event, values in look(state, self.config.optim, dice).items():
            log(event, state.step, epoch=state.epoch, **values)
            say(f"epoch {state.epoch}/{self.config.epochs}: {event}, watched Dice {dice:.4f}")
