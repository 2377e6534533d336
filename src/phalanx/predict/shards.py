"""The images of one prediction spread over processes, on one GPU or several or the cores of a CPU."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from ..data.records import Record
from ..errors import PhalanxError
from ..jobs.job import Job
from ..jobs.local import POLL_SECONDS, Process
from ..runtime.progress import Progress
from .journal import Journal
from .soft import SoftMember

Groups = Sequence[Sequence[Record]]


class GroupPredictor(Protocol):
    """Predicts groups of images into a journal."""

    def run(self, members: Sequence[SoftMember], groups: Groups, writer: int, done: Callable[[int], None]) -> None: ...


class Stopped(Exception):
    """A job of the same prediction failed."""


def run_in_parts(
    predictor: GroupPredictor,
    members: Sequence[SoftMember],
    parts: Sequence[Groups],
    jobs: Sequence[Job],
    journal: Journal,
    bar: Progress,
) -> None:
    """Predicts the first part here, and each other by a job that writes to the same journal.

    Args:
        parts: groups of images; jobs of empty parts are not started.
        jobs: placed on their devices; one per part but the first.

    Raises:
        PhalanxError: a job failed; the text is its error. RuntimeError: an unexpected error in a job.
    """
    processes: dict[int, Process] = {}  # by the number of their part, under which they write
    ends: dict[int, int] = {}  # of what they have written

    def catch_up() -> None:
        for number in processes:
            count, ends[number] = journal.written(number, ends[number])
            bar.update(count)

    def here(count: int) -> None:
        bar.update(count)
        catch_up()
        if any(process.poll() for process in processes.values()):
            raise Stopped

    try:
        for number, (part, job) in enumerate(zip(parts[1:], jobs, strict=True), 1):
            if part:
                _, ends[number] = journal.written(number)
                processes[number] = Process(job, echo=False)
        with suppress(Stopped):  # the error of the job follows
            predictor.run(members, parts[0], 0, here)
        while not any(codes := [process.poll() for process in processes.values()]) and None in codes:
            catch_up()
            time.sleep(POLL_SECONDS)
        for process in processes.values():
            if process.poll():
                raise failure(process)
        catch_up()
    finally:
        for process in processes.values():
            process.kill()


def failure(process: Process) -> Exception:
    """Why a job failed: its own error, or the end of its output if that was unexpected."""
    outcome = process.outcome()
    if process.popen.returncode == 1:
        return RuntimeError("\n".join([f"{outcome.job.name} failed unexpectedly:", *outcome.tail]))
    if process.popen.returncode != 2:
        return PhalanxError(
            f"{outcome.job.name}, a process of workers= or devices=: {outcome.error}, with fewer workers or a smaller "
            "batch if need be"
        )
    return PhalanxError(outcome.error or "")
