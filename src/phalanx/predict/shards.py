"""The images of one prediction spread over processes, on one GPU or several or the cores of a CPU."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

from tqdm import tqdm

from ..data.records import Record
from ..errors import PhalanxError
from ..runtime.processes import end_with_parent
from .soft import SoftMember

Opener = Callable[[], Sequence[SoftMember]]  # can be pickled; opens the members in a process
Groups = Sequence[Sequence[Record]]


class Work(Protocol):
    """What is to be done with groups of images; can be pickled."""

    def do(self, members: Sequence[SoftMember], groups: Groups, writer: int, done: Callable[[int], None]) -> None: ...


class Stopped(Exception):
    """Another process of the same prediction failed."""


def helped(work: Work, members: Sequence[SoftMember], groups: Groups, helpers: Sequence[Opener], bar: tqdm) -> None:
    """Does the work here, every n-th group, and the rest by the helpers, each in a process of its own.

    Raises:
        PhalanxError: a process was killed, for want of memory as a rule; or what went wrong in it.
    """
    shares = [groups[number :: 1 + len(helpers)] for number in range(1 + len(helpers))]
    busy = [(opener, share) for opener, share in zip(helpers, shares[1:], strict=True) if share]

    def done(count: int) -> None:
        bar.update(count)

    if not busy:
        work.do(members, groups, 0, done)
        return
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    counted, stop = context.Value("l", 0), context.Event()
    seen = 0

    def catch_up() -> None:
        nonlocal seen
        found = counted.value
        bar.update(found - seen)
        seen = found

    def here(count: int) -> None:
        bar.update(count)
        catch_up()
        if any(future.done() and future.exception() for future in futures):
            raise Stopped

    futures: set[Future] = set()
    with ProcessPoolExecutor(len(busy), context, initializer=_share, initargs=(counted, stop)) as pool:
        futures |= {pool.submit(_help, work, *task, 1 + i) for i, task in enumerate(busy)}
        try:
            try:
                work.do(members, shares[0], 0, here)
            except Stopped:
                pass  # the helper's own error follows
            except BaseException:
                stop.set()
                raise
            waiting = futures
            while waiting:
                ended, waiting = wait(waiting, timeout=0.5, return_when=FIRST_EXCEPTION)
                catch_up()
                errors = [error for future in ended if (error := future.exception()) is not None]
                if errors:
                    stop.set()
                    raise next((e for e in errors if not isinstance(e, Stopped)), errors[0])
        except BrokenProcessPool:
            raise PhalanxError(
                "a process of workers= was killed, for want of memory as a rule; the same command continues, with "
                "fewer workers or a smaller batch if need be"
            ) from None


_shared: Any = None


def _share(counted: Any, stop: Any) -> None:
    global _shared
    _shared = counted, stop
    # left alone, it would write rows into a journal that by then may be of other options
    end_with_parent(lambda: os.kill(os.getpid(), signal.SIGKILL))


def _help(work: Work, opener: Opener, groups: Groups, writer: int) -> None:
    """In a process of its own."""
    counted, stop = _shared

    def done(count: int) -> None:
        with counted.get_lock():
            counted.value += count
        if stop.is_set():
            raise Stopped

    try:
        work.do(opener(), groups, writer, done)
    except BaseException:
        stop.set()
        raise
