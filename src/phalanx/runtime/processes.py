"""Processes of ours that end with the one that started them, however that ends, and bring their errors back to it."""

import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from ..errors import PhalanxError, TrainingError
from .leftovers import adopt, current_temporary_folder
from .lifeline import end_with_parent
from .progress import Progress, tracked
from .stopping import SIGNALS, deferred

Result = TypeVar("Result")
AHEAD = 256  # lists of results that wait for an earlier one
MAX_ERROR_CHARACTERS = 10_000  # characters of an error: what a pipe takes though nobody reads yet


class Child:
    """A new Python process that calls ``function(*arguments)``, in a process group of its own.

    It is killed with all its own processes when the one that started it ends, be it by SIGKILL.
    """

    def __init__(self, name: str, function: Callable[..., Any], *arguments: Any):
        context = multiprocessing.get_context("spawn")  # CUDA and threads do not survive a fork
        self.name = name
        self.report, theirs = context.Pipe(duplex=False)
        given = (_Tie(), theirs, current_temporary_folder(), function, arguments)
        self.process = context.Process(target=_run, args=given, name=name)
        try:
            with deferred():
                self.process.start()
        except BaseException:  # such as a signal that was deferred
            if self.process.pid is not None:
                self.end()
            raise
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
    """The results of :func:`process_imap`, all together."""
    return list(process_imap(function, items, workers=workers, name=name, unit=unit, progress=progress, least=least))


def process_imap(
    function: Callable[[Any], Result],
    items: Sequence[Any],
    *,
    workers: int,
    name: str,
    unit: str,
    progress: bool,
    least: int = 1,
) -> Iterator[Result]:
    """The function's result of each item, in their order, computed in several processes; few wait to be taken.

    Args:
        function: and the items can be pickled.
        workers: processes; -1 for one per core. With one, all is done here.
        name: on the progress bar, as is the unit of the items.
        least: items for which another process is worth its start, about half a second.

    Raises:
        PhalanxError: a process was killed. Whatever the function raises.
    """
    workers = min(cores() if workers < 0 else max(1, workers), -(-len(items) // least) or 1)
    if workers == 1:
        yield from tracked(map(function, items), name, len(items), unit=unit, enabled=progress)
        return
    size = max(1, min(4, len(items) // workers))
    chunks = ((number, items[first : first + size]) for number, first in enumerate(range(0, len(items), size)))
    done: dict[int, list[Result]] = {}  # what is ahead of its turn
    turn = 0
    servers: dict[Any, Server] = {}
    try:
        for number in range(workers):
            server = Server(f"{name} {number}", function)
            servers[server.connection] = server
        with Progress(name, len(items), unit=unit, enabled=progress) as shown:
            busy = {connection for connection, server in servers.items() if server.give(next(chunks, None))}
            idle = list[Any]()
            while busy:
                for connection in wait(busy):
                    server = servers[connection]
                    number, done[number] = server.take()
                    shown.update(len(done[number]))
                    busy.remove(connection)
                    idle.append(connection)
                while turn in done:
                    yield from done.pop(turn)
                    turn += 1
                while idle and len(done) < AHEAD:  # else one slow item would let all others pile up
                    connection = idle.pop()
                    if servers[connection].give(next(chunks, None)):
                        busy.add(connection)
    except (EOFError, ConnectionError):
        raise PhalanxError(
            f"{name}: a process was killed, probably out of memory, or the calling script lacks an "
            '`if __name__ == "__main__":` guard; give workers=1 or fewer workers'
        ) from None
    finally:
        for server in servers.values():
            server.child.end()


class Server:
    """A process that computes a function of lists of items, one list at a time."""

    def __init__(self, name: str, function: Callable[[Any], Any]):
        self.connection, theirs = multiprocessing.get_context("spawn").Pipe()
        self.child = Child(name, _serve, theirs, function)
        theirs.close()

    def give(self, chunk: tuple[int, Sequence[Any]] | None) -> bool:
        """Sends it a list of items with its number; False for None."""
        if chunk is not None:
            self.connection.send(chunk)
        return chunk is not None

    def take(self) -> tuple[int, list[Any]]:
        """The number and the results of the list it was given, or raises what the function has raised."""
        number, found = self.connection.recv()
        if isinstance(found, Exception):
            raise found
        return number, found


def _serve(connection: Connection, function: Callable[[Any], Any]) -> None:
    while True:  # until it is killed
        number, items = connection.recv()
        try:
            connection.send((number, [function(item) for item in items]))
        except Exception as error:
            if not isinstance(error, PhalanxError):
                error.add_note(traceback.format_exc())
            try:
                connection.send((number, error))
            except Exception:  # one that cannot be pickled
                connection.send((number, RuntimeError(traceback.format_exc())))


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


class _Tie:
    """Ties a process to the one that starts it as soon as it is read there: first of all, since what it is to compute
    may take seconds to import."""

    def __reduce__(self) -> tuple[Callable[[int], bool], tuple[int]]:
        return end_with_parent, (os.getpid(),)


def _run(
    tie: Any, report: Connection, temporary: Path | None, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    begin_child(temporary)
    os.setpgrp()
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


def begin_child(temporary: Path | None) -> None:
    """To be called first in a process of `multiprocessing`: it ends with the one that started it, be that by SIGKILL,
    and leaves Ctrl-C to it.

    Args:
        temporary: the folder for temporary files of the one that started it, which removes what is left there.
    """
    if temporary is not None:
        adopt(temporary)
    parent = multiprocessing.parent_process()
    assert parent is not None
    assert parent.pid is not None
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not end_with_parent(parent.pid):
        threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _follow(sentinel: int) -> None:
    wait([sentinel])
    os.kill(os.getpid(), signal.SIGKILL)
