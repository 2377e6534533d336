"""The images of one prediction distributed over processes, on one or several GPUs or the cores of a CPU."""

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


class GroupPredictor(Protocol):
    """Predicts groups of images; can be pickled."""

    def run(self, members: Sequence[SoftMember], groups: Groups, writer: int, done: Callable[[int], None]) -> None: ...


class Stopped(Exception):
    """Another process of the same prediction failed."""


def run_with_helpers(
    predictor: GroupPredictor, members: Sequence[SoftMember], groups: Groups, helpers: Sequence[Opener], bar: tqdm
) -> None:
    """Predicts every n-th group here, and the others in the helpers, each a process of its own.

    Raises:
        PhalanxError: a process was killed, or the error that was raised in it.
    """
    parts = [groups[number :: 1 + len(helpers)] for number in range(1 + len(helpers))]
    busy = [(opener, part) for opener, part in zip(helpers, parts[1:], strict=True) if part]

    def done(count: int) -> None:
        bar.update(count)

    if not busy:
        predictor.run(members, groups, 0, done)
        return
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    counted, stop = context.Value("l", 0), context.Event()
    seen = 0

    def catch_up() -> None:
        nonlocal seen
        found = counted.value
        bar.update(found - seen)
        seen = found

    def done_here(count: int) -> None:
        bar.update(count)
        catch_up()
        if any(future.done() and future.exception() for future in futures):
            raise Stopped

    futures: set[Future] = set()
    with ProcessPoolExecutor(len(busy), context, initializer=_init_helper, initargs=(counted, stop)) as pool:
        futures |= {pool.submit(_run_helper, predictor, *task, 1 + i) for i, task in enumerate(busy)}
        try:
            try:
                predictor.run(members, parts[0], 0, done_here)
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
                "a process of workers= was killed, probably out of memory; the same command continues, with "
                "fewer workers or a smaller batch if need be"
            ) from None


_shared: Any = None


def _init_helper(counted: Any, stop: Any) -> None:
    global _shared
    _shared = counted, stop
    # left alone, it would write rows into a journal that by then may be of other options
    end_with_parent(lambda: os.kill(os.getpid(), signal.SIGKILL))


def _run_helper(predictor: GroupPredictor, opener: Opener, groups: Groups, writer: int) -> None:
    """In a process of its own."""
    counted, stop = _shared

    def done(count: int) -> None:
        with counted.get_lock():
            counted.value += count
        if stop.is_set():
            raise Stopped

    try:
        predictor.run(opener(), groups, writer, done)
    except BaseException:
        stop.set()
        raise
