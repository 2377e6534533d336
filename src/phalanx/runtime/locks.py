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
HOLDER = re.compile(r"process (?P<process>[0-9]+) on (?P<host>.+)")
_reported: set[Path] = set()  # folders without locks that this process has reported


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
                write_text(holder, f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        if holder is not None:
            holder.unlink(missing_ok=True)
        held.release()


def holder_of(holder: Path | None) -> str:
    """The process that a file names as the holder of a lock; empty if unknown."""
    try:
        return one_line(read_text(holder, 4096)) if holder is not None else ""
    except DataError:
        return ""


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
    found = HOLDER.fullmatch(holder_of(holder)) if holder.is_file() else None
    if found is None or not path.is_file():
        return False
    if found["host"] != socket.gethostname():
        return True
    try:
        os.kill(int(found["process"]), 0)
    except (ProcessLookupError, OverflowError):
        return False  # it was killed, and could not remove the file
    except PermissionError:
        pass
    try:  # the process may be another one by now, under the same number
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return True
    inode = str(path.stat().st_ino)
    return not lines or any(line.split()[5].rpartition(":")[2] == inode for line in lines if "->" not in line)
