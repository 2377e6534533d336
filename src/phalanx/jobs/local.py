"""Runs jobs on this machine: one process per job, one job per device at a time."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from ..runtime.lifeline import VARIABLE
from ..runtime.terminal import say
from .job import Job

POLL_SECONDS = 0.05
TAIL_LINES = 100  # last lines of output to find the cause of an error in


class Outcome(NamedTuple):
    """How a job ended.

    Attributes:
        job: as it was placed on its device.
        error: the cause in one line; None if the job succeeded.
        tail: the last lines of its output.
    """

    job: Job
    seconds: float
    error: str | None = None
    tail: tuple[str, ...] = ()


def run_local(
    jobs: Sequence[Job], devices: Sequence[str], *, deadline: float | None = None, echo: bool = True
) -> Generator[Outcome]:
    """Yields the outcome of each job, in the order in which they end. A job that fails does not stop the others.

    Close the iterator, as by `contextlib.closing`, to kill the jobs that are still running.

    Args:
        jobs: begun in this order, each once those that it comes after have ended. If one of them failed, it is not
            begun.
        devices: one job runs on each at a time; a device that is named twice runs two.
        deadline: moment of ``time.monotonic()`` from which no job is begun; jobs get the rest of the time as a limit.
        echo: print the output of the jobs, each line after the job's name.
    """
    waiting, free = deque(jobs), deque(devices)
    running: list[Process] = []
    failed: set[Path] = set()  # folders of jobs
    try:
        while waiting or running:
            while free and (job := _next(waiting, running)) is not None:
                if lost := failed.intersection(job.after):
                    failed.add(job.folder)
                    yield Outcome(job, 0, f"not begun: {min(lost)} failed, which it begins after")
                    continue
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    yield Outcome(job, 0, "not begun: max_hours are over")
                    continue
                hours = None if left is None else left / 3600
                running.append(Process(job.on(free.popleft(), hours), echo=echo))
            ended = [process for process in running if process.poll() is not None]
            for process in ended:
                running.remove(process)
                free.append(process.device)
                outcome = process.outcome()
                if outcome.error:
                    failed.add(outcome.job.folder)
                yield outcome
            if running and not ended:
                time.sleep(POLL_SECONDS)
    finally:
        for process in running:
            process.kill()


def _next(waiting: deque[Job], running: Sequence["Process"]) -> Job | None:
    """Takes the first job that comes after none of those that have not ended; None if there is none."""
    unfinished = {job.folder for job in waiting} | {process.job.folder for process in running}
    found = next((job for job in waiting if unfinished.isdisjoint(job.after)), None)
    if found is not None:
        waiting.remove(found)
    return found


class Process:
    """A running job: a fresh interpreter in a process group of its own, which ends when this process ends.

    Args:
        job: placed on a device.
        echo: print its output.
        place: working folder; None: that of this process.
    """

    def __init__(self, job: Job, *, echo: bool, place: Path | None = None):
        self.job, self.device, self.began = job, job.resources.device or "auto", time.monotonic()
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        theirs, ours = os.pipe()
        self.lifeline = os.fdopen(ours, "wb", buffering=0)
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **job.environment, VARIABLE: str(theirs)}
        try:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "phalanx", *job.argv],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=place,
                pass_fds=(theirs,),
                process_group=0,  # Ctrl-C reaches this process only, which then ends the job
            )
        except BaseException:
            self.lifeline.close()
            raise
        finally:
            os.close(theirs)
        assert self.popen.stdout is not None
        prefix = f"{job.name} {self.device} | " if echo else None
        self.reader = threading.Thread(target=self._read, args=(self.popen.stdout, prefix), daemon=True)
        self.reader.start()

    def poll(self) -> int | None:
        """The exit code; None while the job runs."""
        return self.popen.poll()

    def outcome(self) -> Outcome:
        """How the job ended, once it has: its last lines are read, and nothing of it is left running."""
        self.kill()
        seconds, tail = time.monotonic() - self.began, tuple(self.tail)
        code = self.popen.returncode
        return Outcome(self.job, seconds, cause(self.job.argv[0], code, tail) if code else None, tail)

    def kill(self) -> None:
        """Kills what is left of the job and its process group, and reads the rest of its output."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()
        self.lifeline.close()
        self.reader.join(5)

    def _read(self, output: IO[bytes], prefix: str | None) -> None:
        """Keeps the last lines, and prints each after the prefix; the states of a progress bar are lines."""
        rest = b""
        with suppress(OSError), output:
            while piece := os.read(output.fileno(), 65536):
                *lines, rest = re.split(rb"[\r\n]", rest + piece)
                self._take(lines, prefix)
        self._take([rest], prefix)

    def _take(self, lines: Sequence[bytes], prefix: str | None) -> None:
        for line in lines:
            text = line.decode(errors="replace").rstrip()
            if text:
                self.tail.append(text)
            if text and prefix is not None:
                say(f"{prefix}{text}")  # in one piece, whichever thread prints it


def cause(command: str, code: int, tail: Sequence[str]) -> str:
    """Why a job failed, in one line.

    Args:
        command: of ``phalanx``, whose own errors begin with its name.
        code: exit code, negative for a signal.
        tail: last lines of the job's output.

    >>> cause("train", 2, ["epoch 1", "phalanx train: optim.lrr: no such option", "a warning at exit"])
    'optim.lrr: no such option'
    >>> cause("train", 1, ["Traceback (most recent call last):", "KeyError: 'a bug'"])
    "KeyError: 'a bug'"
    >>> cause("train", -9, ["epoch 1"])
    'the process was killed (SIGKILL), probably out of memory; the same command continues'
    """
    if code < 0:
        name = signal.Signals(-code).name
        return f"the process was killed ({name}), probably out of memory; the same command continues"
    begin = f"phalanx {command}: "
    own = [line.removeprefix(begin) for line in tail if line.startswith(begin)]
    return own[-1] if own else tail[-1] if tail else "exited without a report"
