"""One optimizer step: the gradient of its micro-batches, started again if memory runs out, skipped if not finite."""

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import nn

from ..config import Config
from ..models.norms import refusing_single_values
from ..runtime.device import Device
from ..runtime.distributed import Ranks
from .ema import Average
from .nonfinite import Part, check_weights, gradient_norm, gradient_trouble, loss_trouble, skip_step, to_host
from .oom import Replay, Statistics, halve_micro_batch, out_of_memory, release
from .state import State
from .task import Batch, Task
from .time_limit import is_over


class Stepper:
    """Takes optimizer steps.

    Args:
        device: on which the network is.
        scaler: of fp16's gradients, or None.
        report: called with event, text and values of what happens to a step.
        deadline: moment of ``time.monotonic()`` at which the time of this process is up.
    """

    def __init__(
        self,
        config: Config,
        task: Task,
        device: Device,
        scaler: torch.amp.GradScaler | None,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        average: Average,
        ranks: Ranks,
        report: Callable[..., None],
        deadline: float | None,
    ):
        self.config, self.task, self.device, self.scaler, self.ranks = config, task, device, scaler, ranks
        self.network, self.optimizer, self.average, self.report = network, optimizer, average, report
        self.statistics, self.deadline = Statistics(network), deadline

    def __call__(self, state: State, images: int, stream: Iterator[Batch]) -> bool:
        """A step on all micro-batches of a stream; moves the state on.

        Args:
            images: of the step, over all processes.

        Returns:
            whether the time of one of the processes is up.
        """
        batches, parts = Replay(stream), list[Part]()
        self.statistics.save()
        while self.ranks.any(not self.gradient(state, batches, images, parts)):
            self.shrink(state)
        # gradients and logged values are those of the whole step, wherever its images were
        self.ranks.sum_gradients(self.network, sum(len(part.names) for part in parts) / images)
        norm, names = gradient_norm(self.network, self.optimizer, self.scaler), self.task.value_names
        losses, sums, size = to_host(parts, names, norm)
        # fp16's scaler skips steps whose gradient is not finite by itself, while it looks for its scale
        fine = math.isfinite(sum(losses)) and (math.isfinite(size) or self.scaler is not None)
        loss = sum(value * len(part.names) for value, part in zip(losses, parts, strict=True))
        loss, bad, over, *sums = self.ranks.sum(loss, not fine, is_over(self.deadline), *sums)
        if bad:
            self.skip(state, parts, losses, images)
        else:
            if self.config.optim.clip:
                torch.nn.utils.clip_grads_with_norm_(self.network.parameters(), self.config.optim.clip, norm)
            if self.scaler is None:
                self.optimizer.step()
            else:
                self.scaler.step(self.optimizer)
                self.scaler.update()
            self.average.update(self.network, state.step + 1)
            state.loss_sum += loss
            state.sums = {name: state.sums.get(name, 0.0) + value for name, value in zip(names, sums, strict=True)}
            state.images += images
            state.skipped_in_row = 0
        self.optimizer.zero_grad(set_to_none=True)
        state.step, state.batch = state.step + 1, state.batch + -(-images // self.config.batch)
        return bool(over)

    def gradient(self, state: State, batches: Iterable[Batch], images: int, parts: list[Part]) -> bool:
        """Adds up this process's part of the gradient of the mean loss over the ``images`` of a step; False if memory
        did not suffice. ``parts`` becomes what each forward gave."""
        parts.clear()
        records = self.task.training_set.records
        try:
            for number, batch in enumerate(batches, state.batch):
                # every draw of the step, such as PointRend's points, follows from its place alone (rank 0 is no word
                # of entropy to numpy: the first process draws what one alone draws)
                place = (self.config.seed, state.epoch, number, self.ranks.rank)
                torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))
                for piece in batch.split(state.micro_batch or len(batch.rows)):
                    names = [records[i].name for i in piece.rows.tolist()]
                    with self.device.autocast(), refusing_single_values():
                        step = self.task.step(self.network, piece)
                    # a mean over the images of the whole step, however it is split
                    loss = step.loss * (len(names) / images)
                    (loss if self.scaler is None else self.scaler.scale(loss)).backward()
                    parts.append(Part(number, names, step.loss.detach(), step.values, step.diagnose))
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            return False
        return True

    def shrink(self, state: State) -> None:
        """After memory did not suffice: drops the step, and computes half as many images per forward from here on."""
        self.optimizer.zero_grad(set_to_none=True)
        self.statistics.restore()
        release()
        text = halve_micro_batch(state, self.config.batch, self.statistics)
        self.report("memory", text, micro_batch=state.micro_batch)

    def skip(self, state: State, parts: list[Part], losses: list[float], images: int) -> None:
        """Ends a step that is not finite without changing a weight, or ends training, as ``on_nan`` has it."""
        self.statistics.restore()
        check_weights(self.network, state)
        seen = self.ranks.gather((loss_trouble(parts, losses), [name for part in parts for name in part.names]))
        trouble = next((found for found, _ in seen if found), None) or gradient_trouble(
            self.network, state.batch, -(-images // self.config.batch), [name for _, names in seen for name in names]
        )
        text = skip_step(trouble, self.config.on_nan, state)
        if self.scaler is not None:
            self.scaler.update()
        self.report("skipped", text, lr_factor=state.lr_factor)
