"""How a job ended, by the folder that it writes to and the record of its attempts."""

from pathlib import Path

from ..errors import DataError
from ..runs.reader import FoldRun
from .records import Attempt, Submitted, last_attempt

GONE = "the same command submits it again, and it continues"


def is_trained(job: Submitted) -> bool | None:
    """Whether a job's training is finished; None of a job that does not train."""
    if job.argv[:1] != ("train",):
        return None
    try:
        return FoldRun(job.folder).result is not None
    except DataError:
        return False


def how_it_ended(job: Submitted, records: Path) -> str | None:
    """Why a job that the scheduler has no more failed; None if it succeeded.

    Args:
        records: folder of the records.
    """
    if is_trained(job):
        return None
    last = last_attempt(records, job.id)
    if last is None:
        return f"never began: it was cancelled, or a job that it begins after failed; {GONE}"
    return fault_of(job, last)


def fault_of(job: Submitted, last: Attempt) -> str | None:
    """Why a job failed, by the last of its attempts; None if it succeeded."""
    if last.error is not None:
        return last.error
    if last.ended is None:
        return f"attempt {last.number} on {last.node} was lost or cancelled; {GONE}"
    if last.continues:
        return f"was to continue after attempt {last.number}, and was cancelled; {GONE}"
    if job.argv[:1] == ("train",):
        return f"has no result any more, though attempt {last.number} ended well; {GONE}"
    return None
