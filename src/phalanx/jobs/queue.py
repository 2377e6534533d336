"""Hands jobs to Slurm and leaves them there."""

from collections.abc import Sequence
from pathlib import Path

from ..config.cluster import SlurmCluster
from .job import Job
from .records import records_of


def hand_over(jobs: Sequence[Job], cluster: SlurmCluster, runs: Path) -> None:
    """Submits jobs to Slurm, prints their numbers, and returns.

    Args:
        runs: folder of runs, for the records.

    Raises:
        ConfigError: Slurm cannot be used.
    """
    from .slurm import submit

    if not jobs:
        return
    for one in submit(jobs, cluster, records_of(runs)):
        print(f"{one.number}  {one.name}  {one.shown}", flush=True)
    where = "" if runs == Path("runs") else f" runs={runs}"
    print(f"in the queue of Slurm; `phalanx jobs{where}` shows them", flush=True)
