"""A training: its epochs and steps, what ends it, and how it goes on after a kill. `fit` calls it; read that first."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..config import Config, Optim
from ..errors import TrainingError
from ..models.encoder_stages import encoder_stages
from ..models.norms import pooled_norms, single_image
from ..runs import checkpoint
from ..runtime.device import check_compiler, open_device
from ..runtime.distributed import Ranks
from ..runtime.processes import peak_memory
from ..runtime.progress import Progress
from ..runtime.terminal import say
from ..tracking.logger import Logger
from .ema import Average
from .freeze import check_freeze, freeze
from .lines import EpochLine, worst_text
from .loader import BatchLoader, waiting_advice
from .nonfinite import RESTART_HINT
from .oom import predicting
from .optim import build_optimizer, scales, scales_encoder
from .picture import CurvesPicture
from .saving import Checkpoints
from .schedule import check_schedule, rate, set_rate
from .state import State
from .step import Stepper
from .swa import WeightMean, estimate_norms
from .task import Task
from .time_limit import is_over, stop
from .validation import Validator

PLANNED = 200  # points of a learning rate's picture


def runs_ahead(device: torch.device) -> bool:
    """Whether the host may run ahead of the device by a step: it is a GPU."""
    return device.type == "cuda"


class Trainer:
    """The loop over epochs and steps, with its state on disk."""

    def __init__(self, config: Config, folder: Path, task: Task, deadline: float | None = None):
        self.config, self.folder, self.task, self.deadline = config, folder, task, deadline
        self.ranks, self.state = Ranks(), State()
        self.bar = Progress("", enabled=False)  # of the steps, while it runs
        self.device = open_device(config.device, config.precision)
        device = self.device.torch
        if device.type == "cuda":
            torch.cuda.set_device(device)
        self.average = Average(task.network.to(device), config.optim.ema)
        self.swa = WeightMean(self.average.network) if config.optim.swa else None
        self.validate = Validator(
            config, folder, task, self.average.network, self.device, self.ranks,
            make_room=lambda: self.take_step.graphs.drop(),
        )  # fmt: skip
        self.network = task.network
        # after the average was copied, which is not compiled; weights keep their names
        if config.model.compile:
            check_compiler(device)
            self.network.compile()
        scaled = scales_encoder(config.optim)
        self.stages = encoder_stages(self.network, config.data.size) if scaled or config.optim.freeze else {}
        if config.optim.freeze:
            check_freeze(config.optim.freeze, self.stages)
        ahead = runs_ahead(device)
        self.optimizer = build_optimizer(self.network, config.optim, self.stages if scaled else None)
        self.take_step = Stepper(
            config, task, self.device, self.device.scaler(), self.network, self.optimizer, self.average, self.ranks,
            self.report, deadline, ahead=ahead,
        )  # fmt: skip
        # by its run and fold, a checkpoint of another is refused
        self.checkpoints = Checkpoints(
            folder, f"{config.name}/{folder.name}", task, self.network, self.average, self.swa, self.optimizer
        )
        self.loader = BatchLoader(task, config, device, self.ranks)
        if self.loader.has_single_images and (layers := pooled_norms(self.network, config.data.size)):
            where = f" ({self.loader.order.images} images per epoch, batch={config.batch})"
            raise single_image(layers[0], where)
        self.steps = config.epochs * self.loader.steps_per_epoch
        check_schedule(self.optimizer, config.optim, self.steps)
        self.picture = CurvesPicture(folder, f"{config.name}, {folder.name}")
        self.waiting, self.speed = 0.0, 0.0  # fraction of the last epoch's time, and images per second
        self.spent = 0.0  # seconds of the last epoch's steps
        self.advised = False  # against waiting

    def run(self, log: Logger) -> float:
        """Trains to the end and writes ``final``; returns the seconds of training over all calls.

        Args:
            log: not yet started; it is started at the step that training begins or has ended with.
        """
        self.log = log
        if (final := self.checkpoints.read_final()) is not None:
            self.state.step = final["step"]
            log.start(self.state.step)
            return final["seconds"]
        self.restore()
        self.ranks.barrier()  # all have read before the first writes
        if self.ranks.first:
            checkpoint.remove(self.folder / "final")
        state, config = self.state, self.config
        log.start(state.step)
        log("start", state.step, images=self.loader.order.images, steps=self.steps,
                 epochs=config.epochs, lr_scales=scales(self.optimizer), processes=self.ranks.size,
                 metric=self.task.metric.to_json(), trained_by=self.task.value_names[0],
                 lr_plan=lr_plan(config.optim, self.steps))  # fmt: skip
        for name, values in self.task.opening if state.step == 0 else ():
            log(name, state.step, **values)
        self.began = self.saved = time.monotonic()
        self.bar = self._bar()
        with self.bar, self.task.training_set.reporting():
            while state.epoch < config.epochs and not state.stopped:
                self.train_epoch()
                self.end_epoch()
                if state.epoch < config.epochs and not state.stopped and self.ranks.any(is_over(self.deadline)):
                    stop(self.folder, config, self._place())
            self.finish()
        return state.seconds

    def train_epoch(self) -> None:
        """The rest of the current epoch."""
        state, config = self.state, self.config
        self.network.train()
        if config.optim.freeze:
            freeze(self.network, config.optim.freeze, self.stages, state.epoch)
        began, self.loader.waited, images = time.monotonic(), 0.0, state.images
        for count, stream in self.loader.steps(state.epoch, state.batch):
            set_rate(self.optimizer, config.optim, state.step, self.steps, state.lr_reductions, state.lr_factor)
            over = self.take_step(state, count, stream)
            self.bar.update()
            if state.batch < len(self.loader.order) and self.validate.is_due(state):
                self.take_step.read(state)  # so that the log is in order
                paused = time.monotonic()
                with predicting():
                    self.validate.within(state, self.log)
                began += time.monotonic() - paused  # not of the speed of training
            # an epoch's last step is saved with the epoch: of a state in between, the log would have it twice
            if state.batch < len(self.loader.order):
                minutes = config.checkpoint_minutes
                # by agreement, since all of several processes read a step's numbers together
                if over or (minutes and self.ranks.any(time.monotonic() - self.saved > 60 * minutes)):
                    self.save()
                if over:
                    self.ranks.barrier()  # one that ends ends all, and the first may still be writing
                    stop(self.folder, config, self._place())
        self.take_step.read(state)
        waited, spent = self.ranks.sum(self.loader.waited, time.monotonic() - began)
        self.spent = spent / self.ranks.size
        self.waiting = waited / max(1e-9, spent)
        self.speed = (state.images - images) * self.ranks.size / max(1e-9, spent)
        if self.waiting > 0.1 and waited > 5 and not self.advised:
            self.advised = True
            say(waiting_advice(config, self.device.torch, self.waiting))

    def end_epoch(self) -> None:
        """Logs the epoch, moves the task on, averages, validates and saves."""
        state, config = self.state, self.config
        if not state.images:
            raise TrainingError(f"{self.folder}: every step of epoch {state.epoch + 1} was skipped; {RESTART_HINT}")
        means = {name: value / state.images for name, value in state.sums.items()}
        loss, lr, seconds = state.loss_sum / state.images, self.optimizer.param_groups[0]["lr"], self.spent
        self.log("epoch", state.step, epoch=state.epoch + 1, loss=loss, **means, lr=lr,
                 seconds=round(seconds, 2), images_per_second=round(self.speed, 3),
                 waiting=round(self.waiting, 4), memory_gib=round(self._memory_gib(), 3))  # fmt: skip
        seen = {**means, "images": state.images}
        state.epoch, state.batch = state.epoch + 1, 0
        state.loss_sum, state.sums, state.images = 0.0, {}, 0
        for event, values in self.task.end_epoch(state.epoch, seen):
            self.log(event, state.step, **values)
            if "text" in values:
                say(f"{self.folder}: {values['text']}")
        if self.swa and config.optim.swa and state.epoch > config.optim.swa.start * config.epochs:
            state.averaged += 1
            self.swa.add(self.network, state.averaged)
        trained_by, before = self.task.value_names[0], state.best
        with predicting():
            held_out = self.validate(state, means[trained_by], self.log)
        self.save()
        if self.ranks.first:
            self.picture.refresh(self.log.curves.curves)
        if self.ranks.first and (config.progress or held_out is not None):
            terms = {name: value for name, value in means.items() if name != trained_by}
            line = EpochLine(
                state.epoch, config.epochs, loss, terms, (trained_by, means[trained_by]), held_out,
                state.best != before, lr, seconds, self.validate.printed(),
            )  # fmt: skip
            say(line.to_text(self.task.metric))
            if config.progress and held_out is not None and (text := worst_text(self.validate.measured)):
                say(text)

    def finish(self) -> None:
        """Writes ``final``, with ``swa`` the mean of the last epochs' weights."""
        config = self.config
        self.take_step.graphs.drop()
        if self.swa:
            self.network.train()
            if config.optim.freeze:
                freeze(self.network, config.optim.freeze, self.stages, config.epochs)
            batches = (batch for _, part in self.loader.steps(config.epochs, 0) for batch in part)
            mean = self.swa.network
            with self.device.autocast():
                estimate_norms(mean, self.network, batches, lambda batch: self.task.step(mean, batch), self.ranks)
        if self.ranks.first:
            self.checkpoints.finish(self.state)

    def save(self) -> None:
        """Writes ``last``, from which the same command continues."""
        self.take_step.read(self.state)
        now = time.monotonic()
        self.state.seconds += now - self.began
        self.began = self.saved = now
        if self.ranks.first:
            self.checkpoints.save(self.state, self.take_step.scaler)

    def restore(self) -> None:
        """Takes up ``last``, if there is one."""
        state = self.checkpoints.restore(
            self.take_step.scaler, self.config, batches=len(self.loader.order), steps=self.steps
        )
        if state is not None:
            self.state = state
            say(f"{self.folder}: continues at {self._place()}")

    def report(self, event: str, number: int, text: str, **values: Any) -> None:
        """What happened to a step, by its number from 1, in the log and on the terminal."""
        self.log(event, number, text=text, **values)
        say(f"{self.folder}: {text}")

    def _bar(self) -> Progress:
        return Progress(
            self.folder.name, self.steps, unit="step", initial=self.state.step, figures=self._figures,
            enabled=self.config.progress and self.ranks.first,
        )  # fmt: skip

    def _memory_gib(self) -> float:
        """The most memory of the device that tensors have taken so far, or of a CPU's process."""
        if self.device.torch.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device.torch) / 2**30
        return peak_memory() / 2**30

    def _place(self) -> str:
        return f"step {self.state.step} of {self.steps}"

    def _figures(self) -> list[str]:
        """What the bar shows, the most important first; read by another thread while a step is under way."""
        state, metric = self.state, self.task.value_names[0]
        found = [f"epoch {min(state.epoch + 1, self.config.epochs)}/{self.config.epochs}"]
        if self.bar.done == self.bar.initial:
            return [*found, "first step"]
        if images := state.images:
            found += [f"loss {state.loss_sum / images:.3f}", f"{metric} {state.sums.get(metric, 0.0) / images:.3f}"]
        speed = (state.step * self.config.batch * self.config.accumulate) / max(1e-9, self._elapsed())
        return [*found, f"{speed:.1f} images/s", *([f"{self.waiting:.0%} waiting"] if self.waiting > 0.1 else [])]

    def _elapsed(self) -> float:
        return self.state.seconds + time.monotonic() - self.began


def lr_plan(config: Optim, steps: int) -> list[list[float]]:
    """Step (from 1) and learning rate at up to ``PLANNED`` places of a training, for its picture; whatever a plateau
    does to it is not planned."""
    chosen = np.unique(np.linspace(0, steps - 1, min(steps, PLANNED)).round().astype(int))
    return [[int(step) + 1, float(f"{rate(config, int(step), steps):.6g}")] for step in chosen]
