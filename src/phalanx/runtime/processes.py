"""Processes of ours that end with the one that started them, however that ends, and bring their errors back to it."""

import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from tqdm import tqdm

from ..errors import PhalanxError, TrainingError

Result = TypeVar("Result")
MAX_ERROR_CHARACTERS = 10_000  # characters of an error: what a pipe takes though nobody reads yet


class Child:
    """A new Python process that calls ``function(*arguments)``, in a process group of its own.

    It is killed with all its own processes when the one that started it ends, be it by SIGKILL.
    """

    def __init__(self, name: str, function: Callable[..., Any], *arguments: Any):
        context = multiprocessing.get_context("spawn")  # CUDA and threads do not survive a fork
        self.name = name
        self.report, theirs = context.Pipe(duplex=False)
        self.process = context.Process(target=_run, args=(theirs, function, arguments), name=name)
        # Ctrl-C comes to the process that started this one, which then ends it
        main = threading.current_thread() is threading.main_thread()
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
        try:
            self.process.start()
        finally:
            if main:
                signal.signal(signal.SIGINT, handler)
        theirs.close()

    def end(self) -> None:
        """Kills what is left of the process and its group, and waits for it."""
        group = self.process.pid
        if group is not None:
            with suppress(ProcessLookupError, PermissionError):  # not yet a group, or no more
                os.killpg(group, signal.SIGKILL)
        self.process.kill()
        self.process.join()

    def error(self) -> tuple[float, BaseException | str] | None:
        """When and of what the process says it ended."""
        with suppress(EOFError, OSError):
            return self.report.recv() if self.report.poll() else None
        return None


def cores() -> int:
    """Cores that this process may use; ``PHALANX_CORES`` is the number that a job was given."""
    given = os.environ.get("PHALANX_CORES", "")
    if given.isdecimal() and int(given):
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory() -> int:
    """The most memory that this process has had so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def process_map(
    function: Callable[[Any], Result],
    items: Sequence[Any],
    *,
    workers: int,
    name: str,
    unit: str,
    progress: bool,
    least: int = 1,
) -> list[Result]:
    """The function's result of each item, in their order, computed in several processes.

    Args:
        function: and the items can be pickled.
        workers: processes; -1 for one per core. With one, all is done here.
        name: on the progress bar, as is the unit of the items.
        least: items for which another process is worth its start, about half a second.

    Raises:
        PhalanxError: a process was killed. Whatever the function raises.
    """
    workers = min(cores() if workers < 0 else max(1, workers), -(-len(items) // least) or 1)
    bar = partial(tqdm, total=len(items), unit=unit, desc=name, leave=False, disable=not progress)
    if workers == 1:
        return list(bar(map(function, items)))
    # spawned, not forked: the caller may have threads (torch), which a fork would leave in an unknown state
    try:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            return list(bar(pool.map(function, items, chunksize=max(1, min(4, len(items) // workers)))))
    except BrokenProcessPool:
        raise PhalanxError(
            f"{name}: a process was killed, probably out of memory, or the calling script lacks an "
            '`if __name__ == "__main__":` guard; give workers=1 or fewer workers'
        ) from None


def together(children: Sequence[Child]) -> None:
    """Waits until all have ended well. When one fails, or this call is interrupted, all are ended.

    Raises:
        the error of the child that failed first, if it is meant for the user or the system's; else RuntimeError with
        its traceback; TrainingError if one was killed.
    """
    left = {child.process.sentinel: child for child in children}
    try:
        while left:
            for sentinel in wait(list(left)):
                child = left.pop(sentinel)  # type: ignore[arg-type]
                child.process.join()
                if child.process.exitcode:
                    raise cause(children)
    finally:
        for child in children:
            child.end()


def cause(children: Sequence[Child]) -> BaseException:
    """What went wrong first, of children of which one ended badly: its partners soon fail too."""
    killed = [(child, child.process.exitcode) for child in children if (child.process.exitcode or 0) < 0]
    if killed:
        child, code = killed[0]
        text = f"{child.name}: the process was killed ({signal.Signals(-code).name})"  # type: ignore[operator]
        return TrainingError(f"{text}, perhaps out of memory; the same command continues")
    said = [found for child in children if (found := child.error()) is not None]
    if not said:
        return RuntimeError("a process exited without a report; its output is above")
    cause = min(said, key=lambda found: found[0])[1]
    return RuntimeError(cause) if isinstance(cause, str) else cause


def _run(report: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.setpgrp()
    end_with_parent(lambda: os.killpg(0, signal.SIGKILL))
    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which would count as leaked after os._exit
    code = 0
    try:
        function(*arguments)
    except OSError as error:
        report.send((time.monotonic(), error))
        code = 2
    except PhalanxError as error:
        report.send((time.monotonic(), type(error)(str(error)[:MAX_ERROR_CHARACTERS])))
        code = 2
    except BaseException:
        report.send((time.monotonic(), traceback.format_exc()[-MAX_ERROR_CHARACTERS:]))
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # without waiting for partners that may be gone


def end_with_parent(end: Callable[[], None]) -> None:
    """Calls ``end`` when the process that started this one is gone, be it by SIGKILL."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def follow() -> None:
        wait([parent.sentinel])
        end()

    threading.Thread(target=follow, daemon=True).start()
