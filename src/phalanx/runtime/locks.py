"""One lock for whatever processes share: a file that the operating system unlocks when its holder ends."""

import errno
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import DataError, PhalanxError, one_line
from .files import write_text
from .leftovers import in_the_way
from .reading import read_text

NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP)  # from file systems that cannot lock, as some network mounts
HOLDER = re.compile(r"process (?P<process>[0-9]+) on (?P<host>.+)\n(?P<began>.*)")
_reported: set[Path] = set()  # folders without locks that this process has reported
_holding: set[Path] = set()  # the lock files that this process holds


class LockHeld(PhalanxError):
    """Another process holds the lock. ``holder``: that process as text, empty if unknown."""

    def __init__(self, path: Path, holder: str):
        super().__init__(f"{path}: another process{f' ({holder})' if holder else ''} holds this lock; wait for it")
        self.holder = holder


@contextmanager
def lock(path: Path, *, wait: bool = True, holder: Path | None = None) -> Iterator[None]:
    """Holds the lock file ``path`` for this process. A kill releases it, and the file stays.

    A file system without locks is reported once per folder; work goes on there without the lock.

    Args:
        path: the lock file, in a folder that exists.
        wait: until another process releases the lock.
        holder: file that names the holding process as long as the lock is held.

    Raises:
        LockHeld: another process holds the lock and ``wait`` is false.
        OutputError: a pipe, folder or the like is in its place.
    """
    if path.exists() and not path.is_file():
        raise in_the_way(path)
    held = FileLock(path)
    try:
        held.acquire(blocking=wait)
    except Timeout:
        raise LockHeld(path, holder_of(holder)) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        _report(path.parent, error)
    try:
        if holder is not None:
            with suppress(OSError):  # it only informs
                write_text(holder, f"process {os.getpid()} on {socket.gethostname()}\n{_began(os.getpid())}")
        _holding.add(path.resolve())
        yield
    finally:
        _holding.discard(path.resolve())
        if holder is not None:
            holder.unlink(missing_ok=True)
        held.release()


def holder_of(holder: Path | None) -> str:
    """The process that a file names as the holder of a lock; empty if unknown."""
    return one_line(_read(holder).partition("\n")[0])


def _read(holder: Path | None) -> str:
    try:
        return read_text(holder, 4096) if holder is not None else ""
    except DataError:
        return ""


def _began(process: int) -> str:
    """When a process began, as Linux tells it: the boot and the clock's ticks since then. Empty elsewhere, or ended."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = state.rpartition(")")[2].split()  # from the third on: its name may hold spaces
    return "" if fields[0] in "ZX" else f"{boot} {fields[19]}"


def _report(folder: Path, error: OSError) -> None:
    if folder not in _reported:
        _reported.add(folder)
        print(f"{folder}: its file system has no locks ({error.strerror}); start no second process here", flush=True)


def is_held(path: Path, holder: Path) -> bool:
    """Whether a process holds a lock, found without taking it, which would refuse a process that begins just then.

    Args:
        path: the lock file.
        holder: the file that names the process; of another machine it is believed.
    """
    found = HOLDER.fullmatch(_read(holder)) if holder.is_file() else None
    if found is None or not path.is_file():
        return False
    if found["host"] != socket.gethostname():
        return True
    process = int(found["process"])
    if process == os.getpid():
        return path.resolve() in _holding
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False  # it was killed, and could not remove the file
    except PermissionError:
        pass
    return found["began"] == _began(process)  # else another process has its number by now
