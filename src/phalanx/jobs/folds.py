"""Folds side by side: one training job per fold, and a table of their results."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import closing

from ..config import Config
from ..runs.folder import fold_folder
from ..runs.reader import FoldRun
from ..runtime.processes import cores
from ..runtime.progress import Progress
from ..runtime.terminal import say
from .job import Job, Resources
from .local import Outcome, run_local


def fold_job(pairs: Mapping[str, str], fold: int | None, config: Config) -> Job:
    """The job that trains a fold.

    Args:
        pairs: the options of ``phalanx train`` without ``fold``; those that choose a device are left out.
        config: made of them; its devices share the cores.
    """
    name = "all" if fold is None else f"{fold}"
    words = {key: value for key, value in pairs.items() if key not in ("devices", "device", "ddp", "max_hours")}
    return Job(
        f"fold {name}",
        ("train", *(f"{key}={value}" for key, value in words.items()), f"fold={name}"),
        fold_folder(config, fold),
        Resources(cores=max(1, cores() // len(config.devices))),
    )


def train_folds(
    pairs: Mapping[str, str], folds: Sequence[int | None], config: Config, deadline: float | None = None
) -> int:
    """Trains folds on ``config.devices``, one per device at a time, and prints their output and a table.

    Args:
        pairs: the options of ``phalanx train`` without ``fold``.
        deadline: moment of ``time.monotonic()`` from which no fold is begun; each job stops by then.

    Returns:
        the exit code: 0, or 1 if a fold failed. The others are trained to their ends.
    """
    outcomes = []
    jobs = [fold_job(pairs, fold, config) for fold in folds]
    bar = Progress("folds", len(jobs), unit="fold", enabled=config.progress)
    with closing(run_local(jobs, config.devices, deadline=deadline)) as ending, bar:
        for outcome in ending:
            bar.update()
            outcomes.append(outcome)
            if outcome.error:
                device = outcome.job.resources.device
                say(f"{outcome.job.name}{f' on {device}' if device else ''}: {outcome.error}", sys.stderr)
    print(table(outcomes), flush=True)
    return int(any(outcome.error for outcome in outcomes))


def table(outcomes: Sequence[Outcome]) -> str:
    """One line per fold, by number.

    >>> from pathlib import Path
    >>> job = Job("fold 1", ("train",), Path("runs/x/fold1"), Resources("cpu"))
    >>> print(table([Outcome(job, 3.0, "step 3: out of memory")]))
    fold  device   seconds  metric
    1     cpu            3  failed: step 3: out of memory
    """
    folds = [(FoldRun(outcome.job.folder), outcome) for outcome in outcomes]
    results = {fold.folder: fold.result for fold, outcome in folds if not outcome.error}
    name = next((result.metric.name for result in results.values() if result), "metric")
    lines = [f"fold  device   seconds  {name}"]
    for fold, outcome in sorted(folds, key=lambda pair: pair[0].number or 0):
        result = results.get(fold.folder)
        done = f"failed: {outcome.error}" if outcome.error else result.text if result else "-"
        number, device = "all" if fold.number is None else fold.number, outcome.job.resources.device or "-"
        lines.append(f"{number:<4}  {device:<7}  {outcome.seconds:>7.0f}  {done}")
    return "\n".join(lines)
