"""Ctrl-C and ``kill``: a command ends in one line, whatever its processes are doing."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)
UNFINISHED = "unfinished: max_hours="  # in the error of a training whose time is up, which is whole and continues
PATIENCE = 10  # seconds for what is done at the end; then the process ends at once
MESSAGES = {True: "stopped; the same command continues", False: "stopped; the same command starts again"}


class Stopped(KeyboardInterrupt):
    """The user, or the system, asked this process to end. ``code``: its exit code."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


class _Active:
    """What the outermost call of :func:`stoppable` has changed."""

    text: str | None = None  # what to print at last; None outside of a command
    received: int | None = None


@contextmanager
def stoppable(text: str, *, at_exit: bool) -> Iterator[bool]:
    """Within, SIGINT and SIGTERM raise Stopped. A second one, or PATIENCE seconds, end the process at once.

    Whatever error a signal leads to, such as that of a process which it killed, becomes Stopped. Where a signal was
    ignored, as of commands in the background, it still is.

    Args:
        text: the line that is printed if the process has to be ended at once.
        at_exit: the process ends after this, which may not take longer either.

    Yields:
        whether this call is not within another, of which the inner ones are a part.
    """
    if _Active.text is not None or threading.current_thread() is not threading.main_thread():
        yield False
        return
    hooks = sys.unraisablehook, threading.excepthook
    # an ignored signal, and one whose handler is not Python's, stay as they are
    before = {number: old for number in SIGNALS if (old := signal.getsignal(number)) not in (signal.SIG_IGN, None)}
    alarm = signal.getsignal(signal.SIGALRM)
    _Active.text, _Active.received = text, None
    try:
        for number in before:
            signal.signal(number, _stop)
        yield True
        if _Active.received is not None:  # a library caught it
            raise Stopped(_Active.received)
    except BaseException as error:
        if _Active.received is None or isinstance(error, Stopped):
            raise
        raise Stopped(_Active.received) from None
    finally:
        if _Active.received is not None and at_exit:
            _kill_children()
        else:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, old in {**before, signal.SIGALRM: alarm}.items():
                signal.signal(number, old)
            sys.unraisablehook, threading.excepthook = hooks
            _Active.text = None


def _stop(number: int, frame: FrameType | None) -> None:
    if _Active.received is not None:
        _end()
    _Active.received = number
    # no thread is started here, since this may come in the middle of starting one
    signal.signal(signal.SIGALRM, _end)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    sys.unraisablehook = threading.excepthook = _say_nothing  # of what else breaks now
    raise Stopped(number)


def _end(*_: Any) -> NoReturn:
    """Ends this process at once. Those that it has started end with it."""
    with suppress(OSError):
        os.write(2, f"{_Active.text}\n".encode())
    os._exit(128 + (_Active.received or signal.SIGINT))


def _kill_children() -> None:
    """Ends processes of `multiprocessing` that nobody got hold of before the signal; the interpreter would wait."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's own would report them
    import multiprocessing

    for child in multiprocessing.active_children():
        child.kill()


def _say_nothing(_: Any) -> None:
    pass


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Adds to a variable, by comma, for the processes that are started within."""
    before = os.environ.get(name)
    os.environ[name] = value if before is None else f"{before},{value}"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def deferred() -> Iterator[None]:
    """Within, signals to stop wait: a process that is started here does not see them until it has begun."""
    from multiprocessing import resource_tracker  # only here, as this module is loaded with every command

    with _environment("PYTHONWARNINGS", "ignore:resource_tracker"):  # it removes what killed processes left, quietly
        resource_tracker.ensure_running()  # else the first process would start it, and let the signals through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
