"""Trains one fold: read this first. One call is idempotent: it begins, continues or finds the fold finished."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from ..config import Config
from ..data import folds as folding
from ..data.digests import NAME as DIGESTS
from ..data.records import Record, root_of
from ..data.versions import NAME as SNAPSHOT
from ..data.versions import named, rows_of
from ..errors import ConfigError, DataError
from ..runs import checkpoint
from ..runs.folder import agreed_digests, agreed_folds, agreed_selection, check_recipe, claim, fold_folder, locked
from ..runs.reader import FoldResult, FoldRun
from ..runtime.device import open_device
from ..runtime.distributed import Ranks, launch
from ..runtime.files import keep_text, whole_disk, write_json, write_text
from ..runtime.leftovers import temporary_folder
from ..runtime.progress import working
from ..runtime.terminal import say
from ..tracking.logger import Logger
from ..tracking.tracker import check_trackers
from .header import Images, header
from .loop import Trainer
from .monitor import check_held_out, inner_part
from .oom import predicting
from .optim import check_optimizer
from .saving import clear_replaced, clear_unfinished
from .task import Task
from .time_limit import is_over, stop
from .warm_start import RECORD, begin

PINNED = "this run began with another {}, so what it is made from has changed since"


def fit(
    config: Config,
    fold: int | None,
    records: Sequence[Record],
    kind: type[Task],
    deadline: float | None = None,
) -> Path:
    """Trains fold number ``fold`` (None: on everything) and predicts its held-out images; returns its folder.

    With ``config.ddp`` a process on each of ``config.devices`` does so, and only the first of them writes.

    Args:
        records: all annotated images.
        kind: the class of the task, a `task.Task`.
        deadline: moment of ``time.monotonic()`` at which training stops, to be continued.

    Raises:
        ConfigError: several devices, but not to train together.
        TrainingError: the folder is in use or has another recipe, or training cannot continue.
    """
    if config.devices and not config.ddp:
        raise ConfigError("devices: folds side by side are for phalanx train; here give ddp=true, or one device=")
    folder, ranks = fold_folder(config, fold), Ranks()
    if config.ddp and ranks.size == 1 and not (folder / "done.json").is_file():
        for name in config.devices:
            open_device(name, config.precision)
        launch(config.devices, _fit_on, config, fold, records, kind, deadline)
        return folder
    with whole_disk(folder), locked(folder) if ranks.first else nullcontext(), temporary_folder():
        if ranks.first:
            clear_unfinished(folder)
        ranks.barrier()
        check_recipe(folder, config, kind.longer_words(config))
        folds = agreed_folds(folder, config, records)
        if (done := finished(folder, config, kind)) is not None:
            if ranks.first:
                clear_replaced(folder)
            say(f"{folder}: finished{_value_text(done)}")
            return folder
        if ranks.any(is_over(deadline)):
            stop(folder, config)
        _train(config, fold, records, folds, kind, folder, ranks, deadline)
    return folder


def _train(
    config: Config,
    fold: int | None,
    records: Sequence[Record],
    folds: folding.Folds,
    kind: type[Task],
    folder: Path,
    ranks: Ranks,
    deadline: float | None,
) -> None:
    """Trains a fold that is not finished, in its locked folder."""
    train = [record for record in records if fold is None or folds[record.name] != fold]
    held_out = [record for record in records if fold is not None and folds[record.name] == fold]
    announced = config.progress and ranks.first
    with working(f"{folder.name}: checking the recipe", announced) as step:
        check_optimizer(config.optim)
        check_trackers(config, folder)
        check_held_out(config, held_out)
        step.rename(f"{folder.name}: hashing files")
        digests = agreed_digests(folder, {record.name: kind.files(config, record) for record in records})
        step.rename(f"{folder.name}: selecting images")
        selection = agreed_selection(folder, kind.select(config, records))
        if text := selection.left_out_text(train):
            say(text)
        torch.manual_seed(config.seed)
        shown, monitored = inner_part(config, selection.trained(train))
        patients = {record.group for record in shown}  # those of monitored ones are not trained on in any form
        shown += [record for record in kind.added(config, fold, records, held_out) if record.group in patients]
        step.rename(f"{folder.name}: preparing images, building the network")
        task = kind(config, shown, held_out, monitored, selection.weights(shown))
        begun = begin(task, config, folder, fold, held_out)
        step.rename(f"{folder.name}: moving the network to its device")
        trainer = Trainer(config, folder, task, deadline)
    if announced:
        count, images = max(folds.values()) + 1, Images(shown, monitored, held_out)
        loader = trainer.loader.order
        say(header(config, fold, count, images, task, trainer.device, trainer.steps, loader.images))
    # only now: whatever is wrong with the recipe, the files or the device shows before anything is written
    ranks.barrier()
    if ranks.first:
        claim(folder, config, Path(begun["start"]) if begun else None)
        write_text(folder / DIGESTS, digests.to_csv())
        write_json(folder / SNAPSHOT, named(rows_of(records, digests, root_of(config.data))))
        if begun:
            write_json(folder / RECORD, begun)
        folding.write(folder / "folds.csv", records, folds)
        write_text(folder / "selection.csv", selection.to_csv())
        if monitored:
            lines = ["image_name", *sorted(record.name for record in monitored)]
            write_text(folder / "monitored.csv", "\n".join(lines) + "\n")
        for name, text in task.pinned_files().items():
            keep_text(folder / name, text, PINNED.format(name))
    with Logger(config, folder, silent=not ranks.first) as log:
        seconds = trainer.run(log)
        if ranks.first:
            _finish(task, trainer, len(held_out), seconds, log)


def _finish(task: Task, trainer: Trainer, held_out: int, seconds: float, log: Logger) -> None:
    """Predicts and scores the held-out images, draws the curves, and marks the fold as finished.

    Args:
        held_out: number of these images.
        seconds: of training.
    """
    folder, progress = trainer.folder, trainer.config.progress
    result = FoldResult(task.metric, None, 0, seconds, 0.0)
    if held_out:
        began = time.monotonic()
        with predicting(), working("out-of-fold prediction and scores", progress):
            found = task.finish(folder)
        say(found.text)
        log("held_out", trainer.state.step, **{f"out_of_fold/{task.metric.name}": found.value})
        result = result._replace(value=found.value, images=held_out, seconds_held_out=time.monotonic() - began)
    trainer.picture.draw(log.curves.curves)
    write_json(folder / "done.json", result.to_json())
    clear_replaced(folder)
    say(f"{folder}: finished{_value_text(result)}")


def finished(folder: Path, config: Config, kind: type[Task]) -> FoldResult | None:
    """The result of a finished fold; None while there is work left.

    If its weights or out-of-fold predictions are damaged or missing, it reports so and there is work left: they are
    made from ``last`` again, to the same bits.

    Raises:
        DataError: done.json is not a regular file.
    """
    trouble = None
    try:
        result = FoldRun(folder).result
    except DataError:
        if not (folder / "done.json").is_file():  # a pipe or a folder, which would be in the way in the end
            raise
        result, trouble = None, "done.json is damaged"
    if result is not None and not checkpoint.whole(folder / "final"):
        trouble = "final is missing or altered"
    elif result is not None and result.value is not None:
        trouble = kind.damage(folder, config)
    if trouble is not None:
        say(f"{folder}: was finished, but {trouble}; made again")
        return None
    return result


def _fit_on(device: str, config: Config, *arguments: Any) -> None:
    fit(config.model_copy(update={"device": device}), *arguments)


def _value_text(result: FoldResult) -> str:
    return f", out of fold {result.metric.name} {result.text}" if result.value is not None else ""
