"""Predicts with runs as jobs: on the devices of this machine, or on a cluster."""

import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..jobs.job import Job
from .task_commands import check_outputs

if TYPE_CHECKING:
    from ..config.cluster import Cluster

OF_A_MACHINE = ("devices", "device", "workers", "progress")  # options that a job has of its own


def jobs_of_runs(
    names: Sequence[str],
    pairs: dict[str, str],
    kind: Any,
    check: Callable[[list[str], Path, str], Any] | None = None,
    *,
    in_parts: bool = False,
) -> list[Job]:
    """The jobs that predict with runs, after the options of all of them were checked.

    Args:
        kind: class of the options.
        check: raises if a run cannot be predicted with, as of `task_commands.infer_each`.
        in_parts: several jobs may share a run's images, as many as ``workers=``; a last one writes the CSV.

    Raises:
        ConfigError: options that the task does not have.
    """
    from ..config.words import join_list, typed
    from ..predict.journal import part_folder

    options = typed(kind, pairs)
    if getattr(options, "part", None) is not None:
        raise ConfigError(f"part={options.part}: with cluster= the jobs have parts of their own; give workers=")
    check_outputs(names, options.out)
    if check is not None:
        check(list(names), options.runs, options.weights)
    words = [f"{key}={value}" for key, value in pairs.items() if key not in OF_A_MACHINE]
    found = list[Job]()
    for name in names:
        out = options.out or Path("submissions") / f"{Path(name).name}.csv"
        place, title = part_folder(out), Path(name).name
        argv = ("infer", f"experiment={join_list([name])}", *words, "progress=false")
        count = (options.workers or 1) if in_parts else 1
        parts = [
            Job(f"{title} part {number}", (*argv, f"part={number}/{count}"), place / f"rows.{number}")
            for number in range(1, count + 1)
        ]
        if count > 1:
            found += parts
        found.append(Job(title, argv, place, after=tuple(job.folder for job in parts) if count > 1 else ()))
    return found


def infer_as_jobs(jobs: Sequence[Job], cluster: "Cluster", pairs: dict[str, str]) -> int:
    """Runs the jobs of :func:`jobs_of_runs`.

    Returns:
        the exit code: 1 if a job failed.

    Raises:
        ConfigError: an option that a cluster sets itself, or a cluster that cannot be used.
    """
    from ..config.cluster import LocalCluster, SlurmCluster
    from ..config.words import split_list
    from ..jobs.backend import run_jobs
    from ..jobs.queue import hand_over

    devices = [pairs.get("device", "auto")]
    if isinstance(cluster, LocalCluster):
        given = split_list(pairs.get("devices", ""))
        devices = [f"cuda:{name}" if name.isdecimal() else name for name in given] or devices
    else:
        for key in ("device", "devices"):
            if key in pairs:
                raise ConfigError(f"{key}: with cluster= each job has a device of its own; give cluster.gpus=")
        if cluster.devices > 1:
            raise ConfigError("cluster.gpus: a job predicts on one GPU; workers= divides the images among more jobs")
    runs = Path(pairs.get("runs", "runs"))
    if isinstance(cluster, SlurmCluster) and not cluster.wait:
        hand_over(jobs, cluster, runs)
        return 0
    failed = 0
    with closing(run_jobs(jobs, cluster, devices, runs)) as ending:
        for outcome in ending:
            failed += bool(outcome.error)
            if outcome.error:
                print(f"{outcome.job.name}: {outcome.error}", file=sys.stderr, flush=True)
    return int(failed > 0)
