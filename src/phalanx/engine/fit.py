"""Trains one fold: read this first. One call is idempotent: it begins, continues or finds the fold finished."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from ..config import Config
from ..data import folds as folding
from ..data.attributes import save_attributes
from ..data.records import Record
from ..errors import ConfigError, DataError
from ..runs import checkpoint
from ..runs.folder import agreed_folds, agreed_selection, check_recipe, claim, fold_folder, locked
from ..runs.reader import FoldRun, Result
from ..runtime.device import open_device
from ..runtime.distributed import Ranks, launch
from ..runtime.files import whole_disk, write_json, write_text
from .loop import Trainer
from .monitor import check_held_out, inner_part
from .oom import predicting
from .optim import check_optimizer
from .time_limit import is_over, stop
from .warm_start import begin


def fit(
    config: Config,
    fold: int | None,
    records: Sequence[Record],
    make_task: Any,
    deadline: float | None = None,
) -> Path:
    """Trains fold number ``fold`` (None: on everything) and predicts its held-out images; returns its folder.

    With ``config.ddp`` a process on each of ``config.devices`` does so, and only the first of them writes.

    Args:
        records: all annotated images.
        make_task: class of the task, built from (config, training records, held-out records, watched records,
            weights float64[N] of the training records or None).
        deadline: moment of ``time.monotonic()`` at which training stops, to be continued.

    Raises:
        ConfigError: several devices, but not to train together.
        TrainingError: the folder is in use or holds another recipe, or training cannot go on.
    """
    if config.devices and not config.ddp:
        raise ConfigError("devices: folds side by side are for phalanx train; here give ddp=true, or one device=")
    folder, ranks = fold_folder(config, fold), Ranks()
    if config.ddp and ranks.size == 1 and not (folder / "done.json").is_file():
        for name in config.devices:
            open_device(name, config.precision)
        launch(config.devices, _fit_on, config, fold, records, make_task, deadline)
        return folder
    with whole_disk(folder), locked(folder) if ranks.first else nullcontext():
        ranks.barrier()
        check_recipe(folder, config)
        folds = agreed_folds(folder, config, records)
        train = [record for record in records if fold is None or folds[record.name] != fold]
        held_out = [record for record in records if fold is not None and folds[record.name] == fold]
        if (done := finished(folder, config, make_task)) is not None:
            print(f"{folder}: finished{_worth(done)}", flush=True)
            return folder
        if ranks.any(is_over(deadline)):
            stop(folder, config)
        check_optimizer(config.optim)
        check_held_out(config, held_out)
        selection = agreed_selection(folder, make_task.select(config, records))
        if text := selection.left_out_text(train):
            print(text, flush=True)
        torch.manual_seed(config.seed)
        shown, watched = inner_part(config, selection.trained(train))
        task = make_task(config, shown, held_out, watched, selection.weights(shown))
        begun = begin(task.network, config, folder, fold, held_out)
        trainer = Trainer(config, folder, task, deadline)
        # only now: whatever is wrong with the recipe, the files or the device shows before anything is written
        ranks.barrier()
        if ranks.first:
            claim(folder, config)
            if begun:
                write_json(folder / "start.json", begun)
            folding.write(folder / "folds.csv", records, folds)
            write_text(folder / "selection.csv", selection.to_csv())
            if watched:
                write_text(folder / "watched.csv", "\n".join(["image_name", *sorted(r.name for r in watched)]) + "\n")
            save_attributes(folder / "attributes.csv", shown, task.traits, config.model.metadata)
        seconds = trainer.run()
        if not ranks.first:
            return folder
        result = Result(make_task.metric, None, 0, seconds, 0.0)
        if held_out:
            began = time.monotonic()
            with predicting():
                outcome = task.finish(folder)
            print(outcome.text, flush=True)
            result = result._replace(
                value=outcome.value, images=len(held_out), seconds_held_out=time.monotonic() - began
            )
        write_json(folder / "done.json", result.to_json())
        print(f"{folder}: finished{_worth(result)}", flush=True)
    return folder


def finished(folder: Path, config: Config, make_task: Any) -> Result | None:
    """The result of a finished fold; None while there is work left.

    If its weights or out-of-fold predictions are damaged or missing, it reports so and there is work left: they are
    made from ``last`` again, to the same bits.
    """
    trouble = None
    try:
        result = FoldRun(folder).result
    except DataError:
        result, trouble = None, "done.json is damaged"
    if result is not None and not checkpoint.whole(folder / "final"):
        trouble = "final is missing or altered"
    elif result is not None and result.value is not None:
        trouble = make_task.damage(folder, config)
    if trouble is not None:
        print(f"{folder}: was finished, but {trouble}; made again", flush=True)
        return None
    return result


def _fit_on(device: str, config: Config, *arguments: Any) -> None:
    fit(config.model_copy(update={"device": device}), *arguments)


def _worth(result: Result) -> str:
    return f", out of fold {result.metric.name} {result.text}" if result.value is not None else ""
