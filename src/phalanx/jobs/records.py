"""What was submitted and what its attempts did: JSON files in ``<runs>/.jobs``, which all machines share.

A submission is written by the command that submits, and each attempt of a job by that attempt. Nothing here decides
whether a job runs: that is asked of the scheduler.
"""

import os
import re
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DataError
from ..runtime.files import own_folder, write_report
from ..runtime.reading import LIST, SMALL, as_mapping, as_name, as_names, as_real, as_whole, fault, read_mapping
from .job import Job
from .progress import Progress

FOLDER = ".jobs"  # in the folder of runs; no run has a name with a leading dot
SUBMITTED, ATTEMPT = "jobs", "job-attempt"  # kinds of reports
REMEDY = "delete it; the runs themselves are whole"
ID = re.compile(r"(slurm|ray):[\w.-]+")


class Submitted(NamedTuple):
    """A job that was handed to a scheduler.

    Attributes:
        id: ``slurm:12_0`` or ``ray:20261129-101840-0``.
        folder: absolute, that the job writes to.
        at: seconds since 1970.
        by: process and machine that submitted it, which a Ray job ends with.
    """

    id: str
    name: str
    argv: tuple[str, ...]
    folder: Path
    at: float
    by: str

    @property
    def shown(self) -> str:
        """The folder, from the working folder on if it is in it."""
        here = Path.cwd()
        return str(self.folder.relative_to(here) if self.folder.is_relative_to(here) else self.folder)

    @property
    def number(self) -> str:
        """The scheduler's own name of it."""
        return self.id.partition(":")[2]

    @property
    def backend(self) -> str:
        """slurm or ray."""
        return self.id.partition(":")[0]


def records_of(runs: Path) -> Path:
    """The folder of records of the jobs that write to a folder of runs."""
    return runs / FOLDER


def write_submission(folder: Path, jobs: Sequence[Job], ids: Sequence[str]) -> list[Submitted]:
    """Records jobs that were submitted together.

    Args:
        folder: of :func:`records_of`.
        ids: of the jobs, as of :class:`Submitted`.
    """
    own_folder(folder)
    now, by = time.time(), f"process {os.getpid()} on {socket.gethostname()}"
    found = [
        Submitted(one, job.name, job.argv, job.folder.absolute(), now, by) for one, job in zip(ids, jobs, strict=True)
    ]
    rows = [row._asdict() | {"argv": list(row.argv), "folder": str(row.folder)} for row in found]
    write_report(folder / f"{_file(ids[0])}.json", SUBMITTED, {"jobs": rows})
    return found


def read_submissions(folder: Path) -> list[Submitted]:
    """All jobs that were submitted, the earliest first.

    Raises:
        DataError: a record is damaged.
    """
    found = list[Submitted]()
    for path in sorted(folder.glob("*.json")):
        if not _number(path):
            found += _submission(path)
    return sorted(found, key=lambda job: job.at)


def _submission(path: Path) -> list[Submitted]:
    values = read_mapping(path, LIST, REMEDY)
    try:
        rows = values["jobs"]
        if values.get("format") != f"phalanx-{SUBMITTED}-1" or not isinstance(rows, list):
            raise ValueError("is not a record of submitted jobs")
        found = [_submitted(as_mapping(row, "a job")) for row in rows]
    except (KeyError, ValueError) as error:
        raise fault(path, f"cannot be read as a record ({error})", REMEDY) from None
    return found


def _submitted(row: dict[str, Any]) -> Submitted:
    if not ID.fullmatch(as_name(row["id"])):
        raise ValueError(f"{row['id']} is not the name of a job")
    argv = tuple(as_names(row["argv"], "argv"))
    return Submitted(row["id"], as_name(row["name"]), argv, Path(as_name(row["folder"])), as_real(row["at"], 0),
                     as_name(row["by"]))  # fmt: skip


@dataclass(frozen=True)
class Attempt:
    """One time that a job ran.

    Attributes:
        number: from 1.
        node: name of the machine.
        began, ended: seconds since 1970 by that machine's clock, for people; None if it was lost before its end.
        progress: of the job when it began.
        error: why it failed; None if it did not, or has not ended.
        continues: it ended whole before the job did.
        preempted: the scheduler took its place for another job.
    """

    number: int
    node: str
    began: float
    progress: Progress = field(default_factory=Progress)
    ended: float | None = None
    error: str | None = None
    continues: bool = False
    preempted: bool = False


class AttemptLog:
    """The attempts of one job, each in a file of its own: one that was held for lost may still write."""

    def __init__(self, folder: Path, job: str):
        self.folder, self.job = folder, _file(job)
        places = [(_number(path), path) for path in folder.glob(f"{self.job}.attempt*.json")]
        self.attempts = [_read_attempt(path) for number, path in sorted(places) if number]

    def begin(self, attempt: Attempt) -> None:
        """Adds an attempt. Raises OutputError if something else is in the place of its file."""
        self.attempts.append(attempt)
        self._write()

    def end(self, **changes: Any) -> None:
        """Records how the attempt ended that this process began."""
        self.attempts[-1] = replace(self.attempts[-1], ended=time.time(), **changes)
        self._write()

    def stuck(self, now: Progress) -> str | None:
        """Why the job should not go on: its last two attempts made no step; None if they did, or were preempted.

        Args:
            now: the job's progress after them.
        """
        counted = [one for one in self.attempts if not one.preempted][-2:]
        if len(counted) < 2 or now > counted[0].progress:
            return None
        nodes = " and ".join(dict.fromkeys(one.node for one in counted))
        return (
            f"made no step in two attempts ({counted[0].number} and {counted[1].number}, on {nodes}): it is at "
            f"{now.text} since. A longer cluster.hours=, a smaller checkpoint_minutes= or more memory may help"
        )

    def _write(self) -> None:
        one = self.attempts[-1]
        path = self.folder / f"{self.job}.attempt{one.number}.json"
        write_report(path, ATTEMPT, asdict(one) | {"progress": list(one.progress)})


def _number(path: Path) -> int:
    """Number of the attempt whose file it is; 0 of another file."""
    found = re.fullmatch(r".+\.attempt([1-9][0-9]{0,8})\.json", path.name)
    return int(found[1]) if found else 0


def _read_attempt(path: Path) -> Attempt:
    values = read_mapping(path, SMALL, REMEDY)
    try:
        if values.get("format") != f"phalanx-{ATTEMPT}-1":
            raise ValueError("is not a record of an attempt")
        return _attempt(values)
    except (KeyError, TypeError, ValueError) as error:
        raise fault(path, f"cannot be read as a record ({error})", REMEDY) from None


def _attempt(row: dict[str, Any]) -> Attempt:
    finished, step, predicted = row["progress"]
    if not all(isinstance(value, bool) for value in (finished, row["continues"], row["preempted"])):
        raise ValueError("a truth value is something else")
    return Attempt(
        as_whole(row["number"], 1), as_name(row["node"]), as_real(row["began"], 0),
        Progress(finished, as_whole(step), as_whole(predicted)),
        None if row["ended"] is None else as_real(row["ended"], 0),
        None if row["error"] is None else str(row["error"]), row["continues"], row["preempted"],
    )  # fmt: skip


def last_attempt(folder: Path, job: str) -> Attempt | None:
    """The last attempt of a job; None if it has not begun, or its record is damaged."""
    try:
        return next(reversed(AttemptLog(folder, job).attempts), None)
    except DataError:
        return None


def _file(job: str) -> str:
    return job.replace(":", "-")
