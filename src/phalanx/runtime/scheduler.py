"""Which process holds something, for which job of a cluster, and whether it has ended.

Nothing here asks how old a record is, or compares the clocks of two machines: a holder has ended because this machine
no longer has the process, or because the scheduler says so.
"""

import os
import re
import socket
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from .reading import as_name, as_whole

State = Literal["ended", "running", "unknown"]

TIMEOUT = 20  # seconds for an answer of the scheduler
GONE = "invalid job id"  # what squeue says of a job that Slurm has forgotten, some minutes after its end
OVER = frozenset({
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED",
    "TIMEOUT",
})  # fmt: skip
# to start, or to start again
WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT"})


class Job(NamedTuple):
    """A job of a scheduler.

    Attributes:
        name: such as ``slurm:1234_0`` (array task 0) or ``ray:NAME``.
        attempt: 1 for the first start, one more for each restart.
        cluster: whose numbers of jobs these are, of Slurm.
    """

    name: str
    attempt: int
    cluster: str = ""


def job_of(environment: Mapping[str, str]) -> Job | None:
    """The job that a process with this environment belongs to; None outside of a scheduler.

    >>> job_of({"SLURM_JOB_ID": "1236", "SLURM_ARRAY_JOB_ID": "1234", "SLURM_ARRAY_TASK_ID": "2"})
    Job(name='slurm:1234_2', attempt=1, cluster='')
    """
    cluster = environment.get("SLURM_CLUSTER_NAME", "")
    if name := environment.get("PHALANX_JOB"):
        given = environment.get("PHALANX_ATTEMPT", "")
        return Job(name, int(given) if given.isdecimal() else 1, cluster if name.startswith("slurm:") else "")
    number, array, task = (environment.get(f"SLURM_{key}", "") for key in ("JOB_ID", "ARRAY_JOB_ID", "ARRAY_TASK_ID"))
    if not number.isdecimal():
        return None
    if array.isdecimal() and task.isdecimal():
        number = f"{array}_{task}"
    restarts = environment.get("SLURM_RESTART_COUNT", "")
    attempt = int(restarts) + 1 if restarts.isdecimal() else 1
    return Job(f"slurm:{number}", attempt, cluster)


class Process(NamedTuple):
    """A process, such that no other one, earlier, later or elsewhere, is taken for it.

    Attributes:
        machine: the machine's id, which several machines of one name do not share; empty if it has none.
        boot: id of the machine's start.
        space: of its numbers of processes, since a container has its own.
        pid: its number.
        began: its start, in the clock's ticks since the machine's start.
    """

    host: str
    machine: str
    boot: str
    space: str
    pid: int
    began: str
    job: Job | None = None

    @classmethod
    def this(cls) -> "Process":
        """The process that runs this."""
        pid = os.getpid()
        return cls(*_machine(), pid, _began(pid) or "", job_of(os.environ))

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Process":
        """What :meth:`to_json` returned. Raises ValueError if it is anything else."""
        texts = [values.get(name) for name in ("host", "machine", "boot", "space")]
        began, name = values.get("began"), values.get("job")
        if not all(isinstance(text, str) for text in (*texts, began)):
            raise ValueError("has no process")
        job = None
        if name is not None:
            job = Job(as_name(name), as_whole(values.get("attempt"), 0), str(values.get("cluster", "")))
        host, machine, boot, space = map(str, texts)
        return cls(as_name(host), machine, boot, space, as_whole(values.get("pid"), 1), str(began), job)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        job = self.job
        about = {} if job is None else {"job": job.name, "attempt": job.attempt, "cluster": job.cluster}
        return self._replace(job=None)._asdict() | {"job": None} | about

    def __str__(self) -> str:
        job = f", job {self.job.name}, attempt {self.job.attempt}" if self.job is not None else ""
        return f"process {self.pid} on {self.host}{job}"

    @property
    def is_this(self) -> bool:
        """Whether it is the process that runs this."""
        return self._replace(job=None) == Process.this()._replace(job=None)


def state_of(process: Process, *, ask: bool = True) -> State:
    """Whether a process, or the attempt of a job that it belongs to, has ended.

    The scheduler's word comes first: a process that outlives its attempt, as after the end of a node's daemon, is no
    longer the one that works.

    Args:
        ask: the scheduler too, if need be, which takes a fraction of a second.
    """
    if process.job is not None and _is_earlier(process.job, job_of(os.environ)):
        return "ended"
    here = _state_here(process)
    if here == "ended":
        return "ended"
    if ask and process.job is not None and process.job.name.startswith("slurm:"):
        said = _state_in_slurm(process.job)
        if said != "unknown":
            return said
    return here


def _is_earlier(job: Job, own: Job | None) -> bool:
    """Whether this process is of a later attempt: no scheduler starts it before it holds the earlier one for ended."""
    return own is not None and own[::2] == job[::2] and own.attempt > job.attempt


def _state_here(process: Process) -> State:
    """What this machine knows of a process."""
    host, machine, boot, space = _machine()
    if not boot or not process.boot or process.host != host:
        return "unknown"
    if process.boot != boot:  # of this machine before its present start, unless another one has its name
        return "ended" if machine and process.machine == machine else "unknown"
    if process.space != space:
        return "unknown"
    return "running" if _began(process.pid) == process.began else "ended"


@cache
def _machine() -> tuple[str, str, str, str]:
    """Host name, machine id, id of the start, and the space of process numbers; empty where there is none."""
    try:
        space = f"{os.stat('/proc/self/ns/pid').st_ino:x}"
    except OSError:
        space = ""
    return socket.gethostname() or "?", _line("/etc/machine-id"), _line("/proc/sys/kernel/random/boot_id"), space


def _line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _began(pid: int) -> str | None:
    """When a process of this machine began; None if it is gone, or only waits to be reaped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = state.rpartition(")")[2].split()  # from the third on: its name may hold spaces
    return None if fields[0] in "ZX" else fields[19]


def _state_in_slurm(job: Job) -> State:
    """What Slurm says of an attempt of a job."""
    number = job.name.removeprefix("slurm:")
    if not re.fullmatch(r"\d+(_\d+)?", number) or job.cluster != _cluster():
        return "unknown"
    done = _ask("squeue", "--noheader", "--states=all", f"--jobs={number}", "--Format=State:30,RestartCnt:12")
    if done is None:
        return "unknown"
    if done.returncode:
        return "ended" if GONE in done.stderr.lower() else "unknown"
    rows = [line.split() for line in done.stdout.splitlines() if line.strip()]
    if not rows:
        return "ended"  # it is no longer in the queue
    if len(rows) > 1 or len(rows[0]) != 2 or not rows[0][1].isdecimal():
        return "unknown"
    state, restarts = rows[0]
    if state in OVER or state in WAITING or int(restarts) + 1 > job.attempt:
        return "ended"  # one that waits to start again has ended, since this attempt of it had begun
    return "running"


@cache
def _cluster() -> str:
    """The cluster whose Slurm answers here: another one's jobs have the same numbers."""
    if name := os.environ.get("SLURM_CLUSTER_NAME"):
        return name
    done = _ask("scontrol", "show", "config")
    found = re.search(r"^ClusterName\s*=\s*(\S+)", done.stdout, re.MULTILINE) if done is not None else None
    return found[1] if found else ""


def _ask(*words: str) -> subprocess.CompletedProcess[str] | None:
    """Runs a program of the scheduler; None if there is none, or it does not answer."""
    try:
        return subprocess.run(
            words,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
