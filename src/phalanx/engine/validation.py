"""After an epoch: validation, the best weights, and what plateau and early stop make of the monitored metric."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from torch import nn

from ..config import Config
from ..runtime.device import Device
from ..runtime.distributed import Ranks
from ..runtime.terminal import say
from ..tracking.logger import Logger
from . import topk
from .monitor import monitored, take_in
from .panels import ValidationPanels
from .saving import save_best
from .state import State
from .task import Part, Task

PRINTED = {"loss": "loss", "image_f1": "F1 of images"}  # of what a task measured besides the metric


class Validator:
    """Validates the averaged weights when an epoch is over.

    Args:
        network: the average, on ``device``, which trains.
        ranks: the processes that train together, of which the first writes.
        make_room: called before; gives back memory that only training needs.
    """

    def __init__(
        self,
        config: Config,
        folder: Path,
        task: Task,
        network: nn.Module,
        device: Device,
        ranks: Ranks,
        make_room: Callable[[], object] = lambda: None,
    ):
        self.config, self.folder, self.task, self.network, self.ranks = config, folder, task, network, ranks
        self.device, self.make_room = device, make_room
        self.metric = task.metric
        self.draw = ValidationPanels(folder, task, config.panels)
        self.measured: dict[str, float] = {}  # on the held-out images, the last time, besides the metric
        self.on = getattr(monitored(config.optim), "split", None)

    def __call__(self, state: State, train: float, log: Logger) -> float | None:
        """Validates if it is time; returns the metric of the held-out images if it was measured.

        Args:
            train: the metric over the epoch's training steps.
        """
        if self.on == "train":
            self._monitor(state, train, log)
        every = self.config.validate_every
        if not every or (state.epoch % every and state.epoch < self.config.epochs and not state.stopped):
            return self._measure(state, log) if self.is_due(state) else None
        held_out = self._evaluate("held_out")
        if held_out is not None:
            self._save_best(state, held_out, log)
            if self.ranks.first:
                self.draw(state, self.network, self.device, log)
        if self.on == "held_out" and held_out is not None:
            self._monitor(state, held_out, log)
        elif self.on == "inner":
            value = self._evaluate("monitored")
            assert value is not None  # a configuration that monitors them has such images
            self._monitor(state, value, log)
        return held_out

    def is_due(self, state: State) -> bool:
        """Whether the held-out images are measured after this step, by ``validate_steps``."""
        every = self.config.validate_steps
        return every is not None and state.step % every == 0 and len(self.task.evaluated["held_out"]) > 0

    def within(self, state: State, log: Logger) -> None:
        """Measures the held-out images if it is time, for the log alone."""
        if self.is_due(state) and (value := self._measure(state, log)) is not None:
            more = "".join(f", {text} {each:.4f}" for text, each in self.printed())
            place = f"epoch {state.number}/{self.config.epochs}, step {state.step}"
            say(f"{place}: held-out {self.metric.name} {self.metric.text(value)}{more}")

    def printed(self) -> list[tuple[str, float]]:
        """What the last validation measured besides the metric, as far as it is printed."""
        return [(text, self.measured[name]) for name, text in PRINTED.items() if name in self.measured]

    def _measure(self, state: State, log: Logger) -> float | None:
        """The metric of the held-out images, for the log alone."""
        value = self._evaluate("held_out")
        if value is not None:
            self._record(state, value, log)
        return value

    def _evaluate(self, part: Part) -> float | None:
        """The metric; on a GPU in the precision that trains and predicts, on a CPU in 32 bits."""
        device = self.device.torch
        self.make_room()
        with self.device.autocast() if device.type == "cuda" else nullcontext():
            return self.task.evaluate(self.network, part, device, self.ranks)

    def _save_best(self, state: State, value: float, log: Logger) -> None:
        """Saves the best weights by the held-out metric; the choice makes it optimistic."""
        self._record(state, value, log)
        weights, count = self.network.state_dict(), self.config.optim.average_best
        if count:
            state.top = topk.enter(
                self.folder, state.top, count, self.metric, value, state.epoch, weights, self.ranks.first
            )
        if self.metric.better(value, state.best):
            state.best = value
            if self.ranks.first:
                save_best(self.folder, weights, state, self.task)

    def _record(self, state: State, value: float, log: Logger) -> None:
        self.measured = dict(self.task.measured)
        found = {self.metric.name: value, **self.measured}
        log("validate", state.step, epoch=state.number, **{f"held_out/{name}": each for name, each in found.items()})

    def _monitor(self, state: State, value: float, log: Logger) -> None:
        found = {self.metric.name: value, **(self.task.measured if self.on != "train" else {})}
        log("monitor", state.step, epoch=state.epoch, **{f"monitored/{name}": each for name, each in found.items()})
        for event, values in take_in(state, self.config.optim, self.metric, value).items():
            log(event, state.step, epoch=state.epoch, **values)
            say(
                f"epoch {state.epoch}/{self.config.epochs}: {event}, monitored {self.metric.name} "
                f"{self.metric.text(value)}"
            )
