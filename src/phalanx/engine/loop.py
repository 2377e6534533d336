"""A training: epochs, steps, what ends it, and how it is taken up again. `fit` calls it; read that first."""

import math
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from tqdm import tqdm

from ..config import Config
from ..data.worker import worker_errors
from ..errors import TrainingError
from ..models.encoder_stages import encoder_stages
from ..runs import checkpoint
from ..runs.folder import Log
from ..runtime.device import check_compiler, open_device
from ..runtime.distributed import Ranks
from . import topk as top
from .ema import Average
from .freeze import check_freeze, freeze
from .loader import Feed, waiting_advice
from .nonfinite import ANEW, Part, check_weights, gradient_norm, gradient_trouble, leave_out, loss_trouble, to_host
from .oom import Replay, Statistics, halve, out_of_memory, pieces, predicting, release
from .optim import build_optimizer, scales, scales_encoder
from .schedule import check_schedule, set_rate
from .state import State
from .swa import WeightMean, estimate_norms
from .time_limit import is_over, stop
from .validation import Judge

FABRIC_PRECISION = {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


class Trainer:
    """The loop over epochs and steps, with its state on disk."""

    def __init__(self, config: Config, folder: Path, task: Any, deadline: float | None = None):
        self.config, self.folder, self.task, self.deadline = config, folder, task, deadline
        self.ranks = Ranks()
        device = open_device(config.device, config.precision)
        where = [device.torch.index or 0] if device.torch.type == "cuda" else 1
        self.fabric = Fabric(
            accelerator=device.torch.type,
            devices=where,
            precision=FABRIC_PRECISION[device.precision],  # type: ignore[arg-type]
        )
        self.fabric.launch()
        self.state = State()
        self.average = Average(task.network.to(device.torch), config.optim.ema)
        self.swa = WeightMean(self.average.network) if config.optim.swa else None
        self.judge = Judge(config, folder, task, self.average.network, self.ranks)
        self.raw = task.network
        # after the average was copied, which is not compiled; weights keep their names
        if config.model.compile:
            check_compiler(device.torch)
            self.raw.compile()
        scaled = scales_encoder(config.optim)
        self.stages = encoder_stages(self.raw, config.data.size) if scaled or config.optim.freeze else {}
        if config.optim.freeze:
            check_freeze(config.optim.freeze, self.stages)
        optimizer = build_optimizer(self.raw, config.optim, self.stages if scaled else None)
        self.network, self.optimizer = self.fabric.setup(self.raw, optimizer)
        self.statistics = Statistics(self.raw)
        self.feed = Feed(task, config, device.torch, self.ranks)
        self.steps = config.epochs * self.feed.steps_an_epoch
        check_schedule(optimizer, config.optim, self.steps)
        self.waiting, self.advised = 0.0, False  # share of the last epoch's time, and whether the user was told

    def run(self) -> float:
        """Trains to the end and writes ``final``; returns the seconds of training over all calls."""
        final = self.folder / "final"
        if checkpoint.whole(final):
            top.tidy(self.folder, [])
            return self._final_seconds()
        self.restore()
        self.ranks.barrier()  # all have read before the first writes
        if self.ranks.first:
            checkpoint.remove(final)
        state, config = self.state, self.config
        self.log = log = Log(self.folder / "log.jsonl", state.step, silent=not self.ranks.first)
        log("start", state.step, images=self.feed.batches.images, steps=self.steps, lr_scales=scales(self.optimizer),
            processes=self.ranks.size)  # fmt: skip
        self.began = self.saved = time.monotonic()
        shown = self.task.training_set
        with self._bar() as bar, worker_errors(shown.records, shown.worker_progress):
            while state.epoch < config.epochs and not state.stopped:
                self.train_epoch(bar)
                if not state.images:
                    raise TrainingError(f"{self.folder}: every step of epoch {state.epoch + 1} was left out; {ANEW}")
                loss, dice = state.loss_sum / state.images, state.dice_sum / state.images
                log("epoch", state.step, epoch=state.epoch, stage=state.stage, loss=loss, dice=dice,
                    lr=self.optimizer.param_groups[0]["lr"], waiting=round(self.waiting, 4))  # fmt: skip
                state.epoch, state.batch = state.epoch + 1, 0
                state.loss_sum, state.dice_sum, state.images = 0.0, 0.0, 0
                if self.task.loss.advance(state.stage, state.epoch - state.stage_began, dice):
                    state.stage, state.stage_began = state.stage + 1, state.epoch
                    log("stage", state.step, stage=state.stage)
                if self.swa and config.optim.swa and state.epoch > config.optim.swa.start * config.epochs:
                    state.averaged += 1
                    self.swa.add(self.raw, state.averaged)
                with predicting():
                    self.judge(state, dice, log, bar.write)
                self.save()
                if state.epoch < config.epochs and not state.stopped and self.ranks.any(is_over(self.deadline)):
                    stop(self.folder, config, self._place())
            self.finish()
        return state.seconds

    def train_epoch(self, bar: tqdm) -> None:
        """The rest of the current epoch: forward, loss, backward, step, average."""
        state, config = self.state, self.config
        self.network.train()
        if config.optim.freeze:
            freeze(self.raw, config.optim.freeze, self.stages, state.epoch)
        began, self.feed.waited = time.monotonic(), 0.0
        for images, stream in self.feed.steps(state.epoch, state.batch):
            set_rate(self.optimizer, config.optim, state.step, self.steps, state.cuts, state.rate_factor)
            batches, parts = Replay(stream), list[Part]()
            self.statistics.keep()
            while self.ranks.any(not self.gradient(batches, images, parts)):
                self.shrink(bar)
            # gradients, and what the log tells, are those of the whole step, wherever its images were
            self.ranks.sum_gradients(self.raw, sum(len(part.names) for part in parts) / images)
            scaler = self._scaler()
            norm = gradient_norm(self.raw, self.optimizer.optimizer, scaler)
            losses, dices, size = to_host(parts, norm)
            # fp16's scaler leaves out steps whose gradient is not finite by itself, while it looks for its scale
            fine = math.isfinite(sum(losses)) and (math.isfinite(size) or scaler is not None)
            loss = sum(value * len(part.names) for value, part in zip(losses, parts, strict=True))
            loss, dice, bad, over = self.ranks.sum(loss, sum(dices), not fine, is_over(self.deadline))
            if bad:
                self.leave_out(parts, losses, images, bar)
            else:
                if config.optim.clip:
                    torch.nn.utils.clip_grads_with_norm_(self.raw.parameters(), config.optim.clip, norm)
                self.optimizer.step()
                self.average.update(self.raw, state.step + 1)
                state.loss_sum, state.dice_sum = state.loss_sum + loss, state.dice_sum + dice
                state.images += images
                state.skipped_in_row = 0
            self.optimizer.zero_grad(set_to_none=True)
            state.step, state.batch = state.step + 1, state.batch + -(-images // config.batch)
            bar.update()
            bar.set_postfix_str(self._postfix(), refresh=False)
            # an epoch's last step is saved with the epoch: of a state between the two, the log would tell twice
            if state.batch < len(self.feed.batches):
                minutes = config.checkpoint_minutes
                if over or (minutes and time.monotonic() - self.saved > 60 * minutes):
                    self.save()
                if over:
                    self.ranks.barrier()  # one that ends ends all, and the first may still be writing
                    stop(self.folder, config, self._place())
        waited, spent = self.ranks.sum(self.feed.waited, time.monotonic() - began)
        self.waiting = waited / max(1e-9, spent)
        if self.waiting > 0.1 and waited > 5 and not self.advised:
            self.advised = True
            bar.write(waiting_advice(config, self.fabric.device, self.waiting))

    def gradient(self, batches: Iterable[Any], images: int, parts: list[Part]) -> bool:
        """Adds up this process's share of the gradient of the mean loss over the ``images`` of a step; False where
        memory did not suffice. ``parts`` becomes what each forward gave."""
        config, state = self.config, self.state
        parts.clear()
        try:
            for number, batch in enumerate(batches, state.batch):
                # every draw of the step, such as PointRend's points, follows from its place alone (rank 0 is no word
                # of entropy to numpy: the first process draws what one alone draws)
                place = (config.seed, state.epoch, number, self.ranks.rank)
                torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))
                for piece in pieces(batch, state.micro):
                    names = [self.task.training_set.records[i].name for i in piece.which.tolist()]
                    with self.fabric.autocast():
                        result = self.task.step(self.network, piece, state.stage)
                    # a mean over the images of the whole step, however it is cut
                    self.fabric.backward(result.total * (len(names) / images))
                    parts.append(Part(number, names, piece, result.total.detach(), result.terms, result.dice))
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            return False
        return True

    def shrink(self, bar: tqdm) -> None:
        """Memory did not suffice: forgets the step, and computes half as many images at a time from here on."""
        self.optimizer.zero_grad(set_to_none=True)
        self.statistics.restore()
        release()
        told = halve(self.state, self.config.batch, self.statistics)
        self.tell(bar, "memory", told, micro=self.state.micro)

    def leave_out(self, parts: list[Part], losses: list[float], images: int, bar: tqdm) -> None:
        """Ends a step that is not finite without changing a weight, or ends training, as ``on_nan`` has it."""
        state, config = self.state, self.config
        self.statistics.restore()
        check_weights(self.raw, state)
        seen = self.ranks.gather((
            loss_trouble(parts, losses, config.data.classes, self.task.inputs), [n for p in parts for n in p.names]
        ))  # fmt: skip
        trouble = next((found for found, _ in seen if found), None) or gradient_trouble(
            self.raw, state.batch, -(-images // config.batch), [name for _, names in seen for name in names]
        )
        told = leave_out(trouble, config.on_nan, state)
        if (scaler := self._scaler()) is not None:
            scaler.update()
        self.tell(bar, "skipped", told, rate_factor=state.rate_factor)

    def tell(self, bar: tqdm, event: str, text: str, **values: Any) -> None:
        """Of the step under way, in the log and on the terminal."""
        self.log(event, self.state.step + 1, text=text, **values)
        bar.write(f"{self.folder}: {text}")

    def finish(self) -> None:
        """Writes ``final``, and with ``average_best`` the mean of the best as ``best``."""
        state, config, weights = self.state, self.config, self._weights()
        if self.swa:
            network = self.swa.network
            weights = {"weights": network.state_dict()}
            self.network.train()
            if config.optim.freeze:
                freeze(self.raw, config.optim.freeze, self.stages, config.epochs)
            batches = (batch for _, part in self.feed.steps(config.epochs, 0) for batch in part)
            with self.fabric.autocast():
                estimate_norms(
                    network, self.raw, batches, lambda b: self.task.step(network, b, state.stage), self.ranks
                )
        if self.ranks.first:
            if state.top and any((self.folder / "top").glob("*")):  # else it was written, and final damaged since
                checkpoint.save(self.folder / "best", {"weights": top.mean(self.folder, state.top)}, asdict(state))
            checkpoint.save(self.folder / "final", weights, asdict(state))
            top.tidy(self.folder, [])

    def save(self) -> None:
        """The state as ``last``, from which the same command goes on."""
        now = time.monotonic()
        self.state.seconds += now - self.began
        self.began = self.saved = now
        if not self.ranks.first:
            return
        tensors = {
            "model": self.raw.state_dict(),
            **self._weights(),
            "optimizer": checkpoint.optimizer_tensors(self.raw, self.optimizer),
        }
        if self.swa and self.state.averaged:
            tensors["swa"] = self.swa.network.state_dict()
        scaler = self._scaler()
        scalars = {"scaler": scaler.state_dict()} if scaler is not None else {}
        checkpoint.save(self.folder / "last", tensors, asdict(self.state) | {"run": self._run()} | scalars)
        top.tidy(self.folder, self.state.top)

    def restore(self) -> None:
        """Takes up ``last``, if there is one."""
        last = self.folder / "last"
        found = checkpoint.load(last, parts=("model", "weights", "optimizer"), run=self._run())
        if found is None:
            if any((self.folder / name).exists() for name in ("final", "done.json")):
                raise TrainingError(
                    f"{self.folder}: trained to its end, but final is damaged and last is gone. Restore one of them "
                    "from a copy, or delete the folder to train anew"
                )
            return
        tensors, scalars = found
        checkpoint.check_fit(last, tensors["model"], self.raw)
        scalars.pop("run", None)
        scaler = self._scaler()
        if scaler is not None:
            scaler.load_state_dict(scalars.pop("scaler"))
        self.state = State(**scalars)
        self.raw.load_state_dict(tensors["model"])
        self.average.network.load_state_dict(tensors["weights"])
        if self.swa and "swa" in tensors:
            self.swa.network.load_state_dict(tensors["swa"])
        checkpoint.restore_optimizer(self.raw, self.optimizer, tensors["optimizer"])
        print(f"{self.folder}: continues at step {self.state.step} of {self.steps}", flush=True)

    def _run(self) -> str:
        """The run's name and fold, by which a checkpoint of another is told."""
        return f"{self.config.name}/{self.folder.name}"

    def _weights(self) -> dict[str, checkpoint.Tensors]:
        return {"weights": self.average.network.state_dict()}

    def _scaler(self) -> Any:
        return getattr(self.fabric._precision, "scaler", None)

    def _final_seconds(self) -> float:
        found = checkpoint.load(self.folder / "final")
        return found[1]["seconds"] if found else 0.0

    def _bar(self) -> tqdm:
        shown = self.config.progress and self.ranks.first
        return tqdm(
            total=self.steps, initial=self.state.step, desc=str(self.folder), unit="step", dynamic_ncols=True,
            disable=not shown, mininterval=0.5 if _terminal() else 30, smoothing=0.1,
        )  # fmt: skip

    def _place(self) -> str:
        return f"step {self.state.step} of {self.steps}"

    def _postfix(self) -> str:
        state = self.state
        speed = (state.step * self.config.batch * self.config.accumulate) / max(1e-9, self._elapsed())
        return (
            f"epoch {state.epoch + 1}/{self.config.epochs}, loss {state.loss_sum / max(1, state.images):.3f}, "
            f"Dice {state.dice_sum / max(1, state.images):.3f}, {speed:.1f} images/s, "
            f"{self.waiting:.0%} waiting for data"
        )

    def _elapsed(self) -> float:
        return self.state.seconds + time.monotonic() - self.began


def _terminal() -> bool:
    import sys

    return sys.stderr.isatty()
