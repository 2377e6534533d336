"""Jobs of a Slurm cluster, submitted through submitit: one array per call, and later ones for jobs that begin after it.

An attempt trains for the time that Slurm gives it less a margin, ends whole, and has Slurm begin the job again. Signals
matter only if another job takes the place of this one, or if an attempt does not end in time.
"""

import math
import os
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..config.cluster import SlurmCluster
from ..errors import ConfigError, PhalanxError, TrainingError, one_line
from ..runtime.files import own_folder
from ..runtime.terminal import say
from . import slurm_queue
from .attempt import CONTINUE, Runner, Task, task_of
from .job import Job
from .local import Outcome
from .outcome import how_it_ended
from .records import Submitted, read_submissions, write_submission

MAX_TIMEOUTS = 100_000  # of submitit, whose own limit is 3; a job that makes no step is stopped by us
POLLS = (2, 30)  # seconds between two looks at the queue, at first and at most
MISSED = 2  # looks in which a job is missing before it has ended
SIGNAL_SECONDS = 90  # at most, before the end of an attempt


class SlurmAttempt:
    """What submitit calls on a node, for each attempt again."""

    def __init__(self, task: Task):
        self.task = task
        self.runner: Runner | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"task": self.task, "runner": None}

    def __call__(self) -> None:
        """Runs an attempt.

        Raises:
            TrainingError: the job failed. SystemExit: another attempt follows, which Slurm begins.
        """
        number, restarts = own_number(), os.environ.get("SLURM_RESTART_COUNT") or "0"
        self.runner = Runner(self.task, f"slurm:{number}", int(restarts))
        error = self.runner.run().error
        if error == CONTINUE:
            slurm_queue.requeue(number)
            raise SystemExit(1)
        if error:
            raise TrainingError(error)

    def checkpoint(self) -> Any:
        """The call that has to follow; submitit asks for it when Slurm signals that the attempt has to end."""
        from submitit.helpers import DelayedSubmission

        if self.runner is not None:
            self.runner.stop()
        return DelayedSubmission(self)


def own_number() -> str:
    """Number of the job that this process is part of, as 12_0 of an array."""
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{index}" if array and index else os.environ["SLURM_JOB_ID"]


def submit(jobs: Sequence[Job], cluster: SlurmCluster, records: Path) -> list[Submitted]:
    """Hands jobs to Slurm; those whose folder has a job in the queue already are left to that one.

    Args:
        records: folder of the records, which all nodes see.

    Returns:
        a record of each job, in their order.

    Raises:
        ConfigError: no Slurm, no submitit, or sbatch refuses what is asked for.
    """
    queued = slurm_queue.queue()
    before = {one.folder: one for one in read_submissions(records) if one.number in queued}
    places = {job.folder: job.folder.absolute() for job in jobs}
    found = {folder: before[place] for folder, place in places.items() if place in before}
    for one in found.values():
        say(f"{one.name}: is in the queue already, as {one.number}")
    waiting = [job for job in jobs if job.folder not in found]
    while waiting:
        unknown = {job.folder for job in waiting}
        ready = [job for job in waiting if unknown.isdisjoint(job.after)]
        if not ready:
            raise ConfigError(f"{waiting[0].name}: begins after a job that begins after it")
        after = frozenset(found[folder] for folder in ready[0].after if folder in found)
        array = [job for job in ready if frozenset(found[folder] for folder in job.after if folder in found) == after]
        made = _submit_array(array, sorted(after), cluster, records)
        found |= {job.folder: one for job, one in zip(array, made, strict=True)}
        waiting = [job for job in waiting if job.folder not in found]
    return [found[job.folder] for job in jobs]


def _submit_array(
    jobs: Sequence[Job], after: Sequence[Submitted], cluster: SlurmCluster, records: Path
) -> list[Submitted]:
    try:
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError
    except ImportError:
        raise ConfigError("cluster=slurm needs submitit: pip install '.[slurm]'") from None

    own_folder(records)
    own_folder(records / "slurm")
    limit, margin = cluster.hours * 3600, cluster.margin_minutes * 60
    tasks = [task_of(job, cluster.devices, cluster.cores, records, limit, margin) for job in jobs]
    with outside_of_a_job():
        executor = submitit.SlurmExecutor(records / "slurm", max_num_timeout=MAX_TIMEOUTS)
        executor.update_parameters(**parameters(cluster, [one.number for one in after], len(jobs)))
        try:
            if len(tasks) == 1:
                made = [executor.submit(SlurmAttempt(tasks[0]))]
            else:
                with executor.batch():
                    made = [executor.submit(SlurmAttempt(task)) for task in tasks]
        except (FailedJobError, FailedSubmissionError) as error:
            raise ConfigError(f"sbatch refuses the jobs: {one_line(_last_line(error))}") from None
    return write_submission(records, jobs, [f"slurm:{one.job_id}" for one in made])


def parameters(cluster: SlurmCluster, after: Sequence[str], jobs: int) -> dict[str, Any]:
    """What submitit writes into the script of sbatch.

    Args:
        after: numbers of jobs that must have succeeded before.
    """
    more: dict[str, Any] = {"requeue": True, "kill-on-invalid-dep": "yes", **cluster.options}
    found: dict[str, Any] = {
        "job_name": "phalanx",
        "time": math.ceil(round(cluster.hours * 60, 6)),
        "cpus_per_task": cluster.cores,
        "srun_args": [f"--cpus-per-task={cluster.cores}"],  # which srun no longer takes from the allocation
        "signal_delay_s": max(1, min(SIGNAL_SECONDS, int(cluster.margin_minutes * 60 / 8))),
        "stderr_to_stdout": True,
        "setup": [*cluster.setup] or None,
        "array_parallelism": cluster.parallel or jobs,
        "partition": cluster.partition,
        "account": cluster.account,
        "qos": cluster.qos,
        "constraint": cluster.constraint,
        "exclude": cluster.exclude,
        "gpus_per_node": cluster.gpus if cluster.devices else None,
        "mem": f"{math.ceil(cluster.memory_gb * 1024)}M" if cluster.memory_gb else None,
        "dependency": f"afterok:{':'.join(after)}" if after else None,
        "additional_parameters": {key: value for key, value in more.items() if value is not False},
    }
    return {key: value for key, value in found.items() if value is not None}


@contextmanager
def outside_of_a_job() -> Iterator[None]:
    """Within, this process does not look like part of a Slurm job, whose resources sbatch would take for its own."""
    inherited: Mapping[str, str] = {}
    if "SLURM_JOB_ID" in os.environ:
        starts = ("SLURM_", "SLURMD_", "SRUN_", "SBATCH_", "SUBMITIT_")
        inherited = {name: os.environ.pop(name) for name in [*os.environ] if name.startswith(starts)}
        if "SLURM_CONF" in inherited:
            os.environ["SLURM_CONF"] = inherited["SLURM_CONF"]
    try:
        yield
    finally:
        os.environ.update(inherited)


def wait_for(submitted: Sequence[Submitted], jobs: Sequence[Job], records: Path) -> Generator[Outcome]:
    """Yields how each job ended, in the order in which they end. Closed early, it leaves the jobs in the queue.

    Args:
        jobs: those that were submitted, in the same order.
    """
    began, pause, fault = time.monotonic(), float(POLLS[0]), ""
    missed = dict.fromkeys(range(len(jobs)), 0)
    while missed:
        try:
            queued, fault = slurm_queue.queue(), ""
        except PhalanxError as error:  # the controller restarts, or is busy
            if str(error) != fault:
                fault = str(error)
                say(f"{fault}; waits")
            time.sleep(POLLS[1])
            continue
        for index in list(missed):
            missed[index] = 0 if submitted[index].number in queued else missed[index] + 1
            if missed[index] >= MISSED:
                del missed[index]
                yield Outcome(jobs[index], time.monotonic() - began, how_it_ended(submitted[index], records))
        if missed:
            time.sleep(pause)
            pause = min(POLLS[1], pause * 1.2)


def log_of(records: Path, number: str) -> Path:
    """The output of a job, of all its attempts."""
    return records / "slurm" / f"{number}_0_log.out"


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    found = next((line for line in lines if "error:" in line), lines[-1] if lines else type(error).__name__)
    return found.partition("error:")[2].strip() or found
