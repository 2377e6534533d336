"""Hands jobs to whatever runs them: this machine, Slurm or Ray. None of it schedules anything across machines."""

from collections.abc import Generator, Sequence
from pathlib import Path

from ..config.cluster import Cluster, RayCluster, SlurmCluster
from .job import Job
from .local import Outcome, run_local
from .records import records_of


def run_jobs(
    jobs: Sequence[Job], cluster: Cluster | None, devices: Sequence[str], runs: Path, deadline: float | None = None
) -> Generator[Outcome]:
    """Yields the outcome of each job, in the order in which they end. A job that fails does not stop the others.

    Closed early, it kills the jobs of this machine and of Ray; those of Slurm go on.

    Args:
        cluster: None: this machine.
        devices, deadline: of this machine, as of `local.run_local`.
        runs: folder of runs, for the records.

    Raises:
        ConfigError: the cluster cannot be used.
    """
    if isinstance(cluster, SlurmCluster):
        from .slurm import submit, wait_for

        submitted = submit(jobs, cluster, records_of(runs))
        yield from wait_for(submitted, jobs, records_of(runs))
    elif isinstance(cluster, RayCluster):
        from .ray_tasks import run_ray

        yield from run_ray(jobs, cluster, records_of(runs))
    else:
        yield from run_local(jobs, devices, deadline=deadline)
