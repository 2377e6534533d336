"""One attempt of a job on a node: its command, run whole, and what has to follow."""

import os
import signal
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import one_line
from ..runtime.stopping import UNFINISHED
from ..runtime.terminal import say
from .job import Job
from .local import POLL_SECONDS, Outcome, Process
from .progress import Progress
from .records import Attempt, AttemptLog

JOB, ATTEMPT = "PHALANX_JOB", "PHALANX_ATTEMPT"  # variables of a job's processes
CARRIED = ("PYTHONPATH", "OMP_NUM_THREADS", "HF_HOME", "HF_HUB_OFFLINE", "TORCH_HOME")  # from the command that submits
PATIENCE = 20  # seconds for a process to end after SIGTERM; training and predicting end in one
HELD = "another process is training here"
HELD_SECONDS = 300  # for which a later attempt waits for what is left of an earlier one
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)  # exit codes
CONTINUE = "continues"


@dataclass(frozen=True)
class Task:
    """A job and what its attempts need to know, as plain data that is sent to a node.

    Attributes:
        job: placed; its words have no ``max_hours``.
        records: folder of `records`.
        place: working folder.
        limit: seconds after which the scheduler ends an attempt; None if it does not.
        margin: seconds before that in which an attempt ends whole.
    """

    job: Job
    records: Path
    place: Path
    limit: float | None = None
    margin: float = 0.0


def task_of(job: Job, gpus: int, cores: int, records: Path, limit: float | None = None, margin: float = 0.0) -> Task:
    """The task of a job that runs on GPUs and cores of some node; the other arguments are as of :class:`Task`."""
    ours = {name: os.environ[name] for name in CARRIED if name in os.environ}  # a node may not have them
    placed = replace(job, environment={**ours, **job.environment}).on_node(gpus, cores)
    return Task(placed, records.absolute(), Path.cwd(), limit, margin)


class Runner:
    """Runs an attempt of a task.

    Args:
        name: of the job for the scheduler, as of `records.Submitted`.
        restarts: of the job, as far as the scheduler counts them.
    """

    def __init__(self, task: Task, name: str, restarts: int = 0):
        self.task, self.name, self.log = task, name, AttemptLog(task.records, name)
        self.number = max(*(one.number for one in self.log.attempts), 0, restarts) + 1
        self.process: Process | None = None

    def run(self) -> Outcome:
        """Runs the job's command, to its end or for the time that an attempt has.

        Returns:
            how it ended; the error is :data:`CONTINUE` if another attempt has to follow.
        """
        job, began = self.task.job, time.monotonic()
        now = Progress.of(self.folder)
        stuck = self.log.stuck(now)
        node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
        self.log.begin(Attempt(self.number, node, time.time(), now))
        say(f"{self.name}: attempt {self.number} on {node}, from {now.text}")
        if stuck is not None:
            return self._end(Outcome(job, 0, stuck))
        outcome = self._run(began)
        while outcome.error and HELD in outcome.error and self.number > 1 and time.monotonic() - began < HELD_SECONDS:
            say(f"{self.name}: an earlier attempt has not ended yet; waits for it")
            time.sleep(2)
            outcome = self._run(began)
        if not outcome.error:
            return self._end(outcome)
        code = self.process.popen.returncode if self.process is not None else 0
        if not (code < 0 or code in STOPPED or UNFINISHED in outcome.error):
            return self._end(outcome)
        stuck = self.log.stuck(Progress.of(self.folder))
        if stuck is not None:
            return self._end(outcome._replace(error=f"{stuck}. The last attempt ended so: {outcome.error}"))
        say(f"{self.name}: attempt {self.number}: {outcome.error}")
        return self._end(outcome._replace(error=CONTINUE))

    @property
    def folder(self) -> Path:
        """That the job writes to."""
        return self.task.place / self.task.job.folder

    def stop(self) -> None:
        """Ends the process of an attempt that is preempted."""
        if self.process is not None:
            end_whole(self.process)
        if self.log.attempts and self.log.attempts[-1].ended is None:
            self.log.end(continues=True, preempted=True)

    def _end(self, outcome: Outcome) -> Outcome:
        again = outcome.error == CONTINUE
        self.log.end(error=None if again else outcome.error and one_line(outcome.error, 2000), continues=again)
        return outcome

    def _run(self, began: float) -> Outcome:
        """Runs the command in a process of its own, and ends it if it does not end in time."""
        task, left = self.task, None
        if task.limit is not None:
            left = task.limit - task.margin - (time.monotonic() - began)
        job = with_time(replace(task.job, environment={**task.job.environment, **self._variables()}), left)
        self.process = process = Process(job, echo=True, place=task.place)
        try:
            while process.poll() is None:
                if task.limit is not None and time.monotonic() - began > task.limit - task.margin / 4:
                    say(f"{self.name}: does not end in time; it is stopped, and continues in another attempt")
                    end_whole(process)
                    break
                time.sleep(POLL_SECONDS)
            return process.outcome()
        finally:
            process.kill()

    def _variables(self) -> Mapping[str, str]:
        return {JOB: self.name, ATTEMPT: f"{self.number}"}


def with_time(job: Job, seconds: float | None) -> Job:
    """The job with a limit of time, if its command can end in time."""
    if seconds is None or job.argv[0] != "train":
        return job
    return replace(job, argv=(*job.argv, f"max_hours={max(1.0, seconds) / 3600:.6f}"))


def end_whole(process: Process) -> None:
    """Asks a process to end, and kills it if it does not."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(process.popen.pid, signal.SIGTERM)
    until = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < until:
        time.sleep(POLL_SECONDS)
    process.kill()
