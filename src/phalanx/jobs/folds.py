"""Trainings side by side: one job per fold of each recipe, and a table of their results."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import closing

from ..config import Config
from ..config.cluster import Cluster
from ..runs.folder import check_recipe, fold_folder
from ..runs.reader import FoldRun
from ..runtime.processes import cores
from ..runtime.progress import Progress
from ..runtime.terminal import say
from .backend import run_jobs
from .job import Job, Resources
from .local import Outcome

OF_A_MACHINE = ("devices", "device", "ddp", "max_hours")  # options that a backend sets for each job


def fold_job(pairs: Mapping[str, str], fold: int | None, config: Config, title: str = "fold") -> Job:
    """The job that trains a fold.

    Args:
        pairs: the options of ``phalanx train`` without ``fold``; those that choose a device are left out.
        config: made of them; its devices share the cores.
        title: before the number of the fold in the job's name.
    """
    name = "all" if fold is None else f"{fold}"
    words = {key: value for key, value in pairs.items() if key not in OF_A_MACHINE}
    return Job(
        f"{title} {name}",
        ("train", *(f"{key}={value}" for key, value in words.items()), f"fold={name}"),
        fold_folder(config, fold),
        Resources(cores=max(1, cores() // max(1, len(config.devices)))),
    )


def train_jobs(
    jobs: Sequence[Job], config: Config, cluster: Cluster | None = None, deadline: float | None = None
) -> int:
    """Trains folds, and prints their output and a table.

    Args:
        jobs: as of :func:`fold_job`.
        config: of one of them: its devices, its folder of runs, and whether to show progress.
        cluster: where to train; None: on ``config.devices``, one job per device at a time.
        deadline: moment of ``time.monotonic()`` from which no job is begun on this machine; each stops by then.

    Returns:
        the exit code: 0, or 1 if a fold failed. The others are trained to their ends.
    """
    outcomes = []
    bar = Progress("folds", len(jobs), unit="fold", enabled=config.progress)
    with closing(run_jobs(jobs, cluster, config.devices or [config.device], config.runs, deadline)) as ending, bar:
        for outcome in ending:
            bar.update()
            outcomes.append(outcome)
            if outcome.error:
                device = outcome.job.resources.device
                say(f"{outcome.job.name}{f' on {device}' if device else ''}: {outcome.error}", sys.stderr)
    print(table(outcomes), flush=True)
    return int(any(outcome.error for outcome in outcomes))


def unfinished(jobs: Sequence[Job], configs: Sequence[Config]) -> list[Job]:
    """The jobs whose folds are not finished; a line is printed about each of the others.

    Args:
        configs: of the jobs.

    Raises:
        TrainingError: a finished fold has another recipe.
    """
    found = []
    for job, config in zip(jobs, configs, strict=True):
        result = FoldRun(job.folder).result
        if result is None:
            found.append(job)
        else:
            check_recipe(job.folder, config)
            say(f"{job.folder}: finished, out of fold {result.metric.name} {result.text}")
    return found


def table(outcomes: Sequence[Outcome]) -> str:
    """One line per fold, by run and number.

    >>> from pathlib import Path
    >>> job = Job("fold 1", ("train",), Path("runs/x/fold1"), Resources("cpu"))
    >>> print(table([Outcome(job, 3.0, "step 3: out of memory")]))
    fold  device   seconds  metric
    1     cpu            3  failed: step 3: out of memory
    """
    folds = [(FoldRun(outcome.job.folder), outcome) for outcome in outcomes]
    results = {fold.folder: fold.result for fold, outcome in folds if not outcome.error}
    name = next((result.metric.name for result in results.values() if result), "metric")
    runs = {fold.folder.parent.name for fold, _ in folds}
    width = max(map(len, runs), default=0) + 2 if len(runs) > 1 else 0
    lines = [f"{'run':<{width}}fold  device   seconds  {name}" if width else f"fold  device   seconds  {name}"]
    for fold, outcome in sorted(folds, key=lambda pair: (pair[0].folder.parent.name, pair[0].number or 0)):
        result = results.get(fold.folder)
        done = f"failed: {outcome.error}" if outcome.error else result.text if result else "-"
        number, device = "all" if fold.number is None else fold.number, outcome.job.resources.device or "-"
        run = f"{fold.folder.parent.name:<{width}}" if width else ""
        lines.append(f"{run}{number:<4}  {device:<7}  {outcome.seconds:>7.0f}  {done}")
    return "\n".join(lines)
