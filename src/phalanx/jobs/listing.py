"""The table of ``phalanx jobs``: what the queue says of jobs that it has, and the run folders of the others."""

import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import PhalanxError, one_line
from . import slurm_queue
from .outcome import fault_of, is_trained
from .progress import Progress
from .records import FOLDER, Attempt, Submitted, last_attempt, read_submissions
from .slurm_queue import NoSlurm, Queued

HEAD = ("id", "name", "fold", "state", "attempt", "node", "reason", "time", "folder")
ENDED = ("finished", "failed", "stopped", "lost")
WIDEST = {"reason": 60, "name": 40}  # characters in the table
WORDS = {"PENDING": "pending", "RUNNING": "running", "COMPLETING": "ending", "SUSPENDED": "suspended"}


class Row(NamedTuple):
    """A job as it is now.

    Attributes:
        state: pending, running, finished, failed, stopped (whole, and nothing goes on with it), lost, or, without the
            scheduler, unknown.
        attempt: number of the last one; 0 before the first.
    """

    id: str
    name: str
    fold: str
    state: str
    attempt: int
    node: str
    reason: str
    time: str
    folder: str
    backend: str

    @property
    def is_over(self) -> bool:
        """Whether nothing will go on with it."""
        return self.state in ENDED


class Listing(NamedTuple):
    """All jobs, and why the queue could not be asked, if it could not."""

    rows: list[Row]
    note: str


def list_jobs(runs: Path) -> Listing:
    """The jobs of a folder of runs and of those directly within it, as of sweeps.

    Raises:
        DataError: a record is damaged.
    """
    places = [place for place in (runs / FOLDER, *sorted(runs.glob(f"*/{FOLDER}"))) if place.is_dir()]
    found = [(place, job) for place in places for job in read_submissions(place)]
    latest = {job.folder: job.id for _, job in sorted(found, key=lambda pair: pair[1].at)}
    found = [(place, job) for place, job in found if latest[job.folder] == job.id]  # not those submitted again since
    queued: Mapping[str, Queued] | None = {}
    note = ""
    if any(job.backend == "slurm" for _, job in found):
        try:
            queued = slurm_queue.queue()
        except NoSlurm:
            queued, note = None, (
                "squeue: not found here, so pending, running and lost jobs look alike; a machine of the "
                "Slurm cluster shows them"
            )  # fmt: skip
        except PhalanxError as error:
            queued, note = None, f"{error}; pending, running and lost jobs look alike"
    return Listing([_row(job, last_attempt(place, job.id), queued) for place, job in found], note)


def _row(job: Submitted, last: Attempt | None, queued: Mapping[str, Queued] | None) -> Row:
    """A job, by its record, its last attempt and the queue; ``queued``: None if it could not be asked."""
    one = queued.get(job.number) if queued is not None and job.backend == "slurm" else None
    node, spent = last.node if last else "", _spent(last)
    if one is not None:
        state = WORDS.get(one.state, one.state.lower())
        reason = one.reason if one.state == "PENDING" and one.reason != "None" else ""
        node, spent = one.node or node, one.time if one.state != "PENDING" else spent
    elif is_trained(job):
        state, reason = "finished", ""
    elif last is not None and (last.error is not None or last.ended is not None):
        error = fault_of(job, last)
        state, reason = "finished" if error is None else "stopped" if last.continues else "failed", error or ""
    elif job.backend == "ray" and not _has_ended(job.by):
        state, reason = "running" if last is not None else "pending", f"of {job.by}, with which it ends"
    elif job.backend == "slurm" and queued is None:
        state, reason = "unknown", ""
    else:
        state = "stopped" if last is None else "lost"
        reason = "never began, and is in no queue any more" if last is None else f"attempt {last.number} did not end"
    progress = Progress.of(job.folder)
    if state in ("stopped", "lost", "running") and progress.step:
        reason = f"{reason}; at {progress.text}" if reason else f"at {progress.text}"
    fold = re.fullmatch("fold([0-9]+)|all", job.folder.name)
    return Row(
        job.number, job.name, (fold[1] or "all") if fold else "-", state, last.number if last else 0, node,
        one_line(reason), spent, job.shown, job.backend,
    )  # fmt: skip


def _has_ended(by: str) -> bool:
    """Whether the process that submitted a job of Ray is gone; one of another machine is believed to run."""
    found = re.fullmatch(r"process ([0-9]{1,9}) on (.+)", by)
    if found is None or found[2] != socket.gethostname():
        return False
    try:
        os.kill(int(found[1]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def _spent(last: Attempt | None) -> str:
    """How long the last attempt took, by the clock of its node."""
    if last is None:
        return ""
    seconds = int(max(0.0, (last.ended if last.ended is not None else time.time()) - last.began))
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def to_text(rows: Sequence[Row]) -> str:
    """The table, with the columns that hold anything."""
    cells = [[_short(name, str(getattr(row, name))) for name in HEAD] for row in rows]
    cells = [
        ["-" if text in ("", "0") and HEAD[i] != "fold" else text for i, text in enumerate(line)] for line in cells
    ]
    widths = [max(map(len, (HEAD[i], *(line[i] for line in cells)))) for i in range(len(HEAD))]
    lines = [HEAD, *cells]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
                     for line in lines)  # fmt: skip


def _short(name: str, text: str) -> str:
    most = WIDEST.get(name, len(text))
    return text if len(text) <= most else f"{text[: most - 3]}..."


def to_json(listing: Listing) -> dict[str, Any]:
    """The table with whole reasons."""
    return {"jobs": [row._asdict() for row in listing.rows], "note": listing.note or None}


def chosen(rows: Sequence[Row], wanted: str) -> list[Row]:
    """The jobs that a word names: by id, number of an array, name with * for any text, run or folder; or all."""
    if wanted == "all":
        return list(rows)
    return [
        row
        for row in rows
        if wanted in (row.id, row.id.partition("_")[0], row.folder, Path(row.folder).parent.name)
        or fnmatchcase(row.name, wanted)
    ]
