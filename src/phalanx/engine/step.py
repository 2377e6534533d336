"""One optimizer step: the gradient of its micro-batches, started again if memory runs out, skipped if not finite."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..config import Config
from ..models.norms import refusing_single_values
from ..runtime.device import Device
from ..runtime.distributed import Ranks
from .ema import Average
from .graph import Graphs
from .nonfinite import (
    Norms,
    Part,
    Transfer,
    check_weights,
    gradient_norms,
    gradient_trouble,
    loss_trouble,
    skip_step,
)
from .oom import Replay, Statistics, halve_micro_batch, out_of_memory, release
from .optim import skips_on_device
from .state import State
from .task import COUNTED, Batch, Step, Task
from .time_limit import is_over


class Taken(NamedTuple):
    """A step whose numbers have not been read yet, and what is needed to name its trouble.

    Attributes:
        place: in words.
        number: of the step, from 1.
        batch: number of its first batch in the epoch, and ``batches`` their count.
        images: over all processes.
        names: of the values.
    """

    place: str
    number: int
    batch: int
    batches: int
    images: int
    parts: list[Part]
    names: tuple[str, ...]
    norms: Norms
    transfer: Transfer


class Stepper:
    """Takes optimizer steps.

    By default a step waits for its numbers before it changes a weight. On a GPU whose optimizer allows it, the device
    itself skips a step that is not finite, and the numbers are read during the next step, before that changes a weight:
    the host does not wait for the device, and weights, log and messages are the same.

    Args:
        device: on which the network is.
        scaler: of fp16's gradients, or None.
        report: called with event, number of the step, text and values of what happens to a step.
        deadline: moment of ``time.monotonic()`` at which the time of this process is up.
        ahead: read the numbers during the next step, if the optimizer allows it.
    """

    def __init__(
        self,
        config: Config,
        task: Task,
        device: Device,
        scaler: torch.amp.GradScaler | None,
        network: nn.Module,
        optimizer: Any,
        average: Average,
        ranks: Ranks,
        report: Callable[..., None],
        deadline: float | None,
        *,
        ahead: bool = False,
    ):
        self.config, self.task, self.device, self.scaler, self.ranks = config, task, device, scaler, ranks
        self.network, self.optimizer, self.average, self.report = network, optimizer, average, report
        self.statistics, self.deadline = Statistics(network), deadline
        self.parameters = list(network.named_parameters())
        self.ahead = ahead and skips_on_device(optimizer)
        self.taken: Taken | None = None
        self.number = 0  # of the step under way, from 1
        self.graphs = Graphs(
            config, task, network, device.torch, self.compute, lambda text: self.report("graphs", self.number, text)
        )
        self.over = False  # the time of one of the processes is up

    def __call__(self, state: State, images: int, stream: Iterator[Batch]) -> bool:
        """A step on all micro-batches of a stream; moves the state on.

        Args:
            images: of the step, over all processes.

        Returns:
            whether the time of one of the processes is up, as far as is known.
        """
        batches, parts, factor, eager = Replay(stream), list[Part](), state.lr_factor, False
        self.statistics.save()
        self.number = state.step + 1
        while any(again := self.ranks.sum(*self.gradient(state, batches, images, parts, eager=eager))):
            eager = True
            self.shrink(state) if again[0] else self.restart(state)
        self.read(state)  # of the step before, if it was not waited for
        for group in self.optimizer.param_groups if state.lr_factor != factor else ():
            group["lr"] *= state.lr_factor / factor  # exactly, a power of 2
        # gradients and logged values are those of the whole step, wherever its images were
        self.ranks.sum_gradients(self.network, sum(len(part.names) for part in parts) / images)
        names = self.task.value_names
        if COUNTED in names:
            self.mean_of_counted(parts, images)
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        norms = gradient_norms(self.parameters)
        transfer, count = Transfer(parts, names, norms.total), -(-images // self.config.batch)
        self.taken = Taken(
            state.place, state.step + 1, state.batch, count, images, parts, names, norms, transfer
        )  # fmt: skip
        if self.ahead:
            self.update(state, norms.total, self.ranks.any_on_device(transfer.trouble(norm=self.scaler is None)))
            transfer.begin()
        else:
            if self.read(state):
                self.update(state, norms.total)
        self.optimizer.zero_grad(set_to_none=True)
        state.step, state.batch = state.step + 1, state.batch + count
        return self.over

    def gradient(
        self, state: State, batches: Iterable[Batch], images: int, parts: list[Part], *, eager: bool = False
    ) -> tuple[bool, bool]:
        """Adds up this process's part of the gradient of the mean loss over the ``images`` of a step.

        Args:
            parts: becomes what each forward gave.
            eager: use no graph.

        Returns:
            whether memory did not suffice; whether a graph had no room for what it computed.
        """
        parts.clear()
        self.graphs.forget()
        records = self.task.training_set.records
        try:
            for number, batch in enumerate(batches, state.batch):
                # every draw of the step, such as PointRend's points, follows from its place alone (rank 0 is no word
                # of entropy to numpy: the first process draws what one alone draws)
                place = (self.config.seed, state.epoch, number, self.ranks.rank)
                torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))
                for piece in batch.split(state.micro_batch or len(batch.rows)):
                    names = [records[i].name for i in piece.rows.tolist()]
                    weight = len(names) / images  # a mean over the images of the whole step, however it is split
                    step = None if eager else self.graphs(piece, weight)
                    if step is None:
                        step = self.compute(piece, weight)
                    why = partial(self.task.diagnose, piece, step.terms)
                    parts.append(Part(number, names, step.loss, step.values, why))
            return False, not self.graphs.settle()
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            return True, False

    @torch.no_grad()
    def mean_of_counted(self, parts: Sequence[Part], images: int) -> None:
        """Makes the gradient of a step's mean over ``images`` one over those that count; 0 stays 0 if none does."""
        found = [part.values[COUNTED].sum() for part in parts]
        own = torch.stack(found).sum() if found else torch.zeros((), device=self.device.torch)
        factor = images / self.ranks.sum_on_device(own).clamp(min=1)
        for _, parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(factor.to(parameter.grad.dtype))

    def compute(self, batch: Any, weight: float | Tensor) -> Step:
        """Forward, loss and gradient of a micro-batch, whose loss counts by a weight; its outputs are detached."""
        with self.device.autocast(), refusing_single_values():
            step = self.task.step(self.network, batch)
        loss = step.loss * (weight.to(step.loss.dtype) if isinstance(weight, Tensor) else weight)
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        return step._replace(loss=step.loss.detach())

    def update(self, state: State, norm: Tensor, skip: Tensor | None = None) -> None:
        """Changes weights and their average by the gradient.

        Args:
            norm: of the gradient, float[].
            skip: bool[] on the device; if it is set, the device leaves all as it was before the step.
        """
        if self.config.optim.clip:
            parameters = [parameter for _, parameter in self.parameters]
            torch.nn.utils.clip_grads_with_norm_(parameters, self.config.optim.clip, norm)
        if skip is not None:
            self.statistics.restore_if(skip)
        if self.scaler is not None:
            self._scaled_step(self.scaler, skip)
        elif skip is not None:
            self.optimizer.found_inf = skip.float()
            self.optimizer.step()
            del self.optimizer.found_inf
        else:
            self.optimizer.step()
        self.average.update(self.network, state.step + 1, skip)

    def _scaled_step(self, scaler: torch.amp.GradScaler, skip: Tensor | None) -> None:
        """With fp16 the optimizer skips what its scaler finds infinite, and what ``skip`` says; the scale follows from
        what the scaler found alone."""
        found = list(scaler._found_inf_per_device(self.optimizer).values()) if skip is not None else []
        own = [flag.clone() for flag in found]
        for flag in found:
            flag.logical_or_(skip)
        scaler.step(self.optimizer)
        for flag, value in zip(found, own, strict=True):
            flag.copy_(value)
        scaler.update()

    def read(self, state: State) -> bool:
        """Takes in the numbers of the step taken last, if they have not been read yet; returns whether it is finite."""
        if self.taken is None:
            return True
        taken, numbers, self.taken = self.taken, self.taken.transfer.read(), None
        losses, sums, parts = numbers.losses, numbers.sums, taken.parts
        # fp16's scaler skips steps whose gradient is not finite by itself, while it looks for its scale
        fine = math.isfinite(sum(losses)) and (math.isfinite(numbers.norm) or self.scaler is not None)
        loss = sum(value * len(part.names) for value, part in zip(losses, parts, strict=True))
        loss, bad, over, *sums = self.ranks.sum(loss, not fine, is_over(self.deadline), *sums)
        if bad:
            self.skip(state, taken, losses)
        else:
            state.loss_sum += loss
            state.sums = {
                name: state.sums.get(name, 0.0) + value for name, value in zip(taken.names, sums, strict=True)
            }
            state.images += taken.images
            state.skipped_in_row = 0
        self.over = bool(over)
        return not bad

    def shrink(self, state: State) -> None:
        """After memory did not suffice: drops the step, and computes half as many images per forward from here on; or
        does without a graph, if there is one."""
        self.restart(state)
        if held := self.ranks.any(self.graphs.recorded is not None):
            self.graphs.stop("memory does not suffice beside one")
        release()
        if held:
            return
        text = halve_micro_batch(state, self.config.batch, self.statistics)
        self.report("memory", state.step + 1, text, micro_batch=state.micro_batch)

    def restart(self, state: State) -> None:
        """Drops the step under way."""
        self.read(state)  # of the step before, so that the log is in order
        self.optimizer.zero_grad(set_to_none=True)
        self.statistics.restore()

    def skip(self, state: State, taken: Taken, losses: list[float]) -> None:
        """Ends a step that is not finite and changed no weight, or ends training, as ``on_nan`` has it."""
        check_weights(self.statistics.before(self.network), taken.place)
        parts = taken.parts
        seen = self.ranks.gather((loss_trouble(parts, losses), [name for part in parts for name in part.names]))
        trouble = next((found for found, _ in seen if found), None) or gradient_trouble(
            taken.norms, taken.batch, taken.batches, [name for _, names in seen for name in names]
        )
        text = skip_step(f"{taken.place}, {trouble}", self.config.on_nan, state)
        if not self.ahead:
            self.statistics.restore()
            if self.scaler is not None:
                self.scaler.update()
        self.report("skipped", taken.number, text, lr_factor=state.lr_factor)
