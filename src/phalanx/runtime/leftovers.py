"""What a killed process left: who wrote it is gone if nobody holds its lock, on whatever machine that was.

A process number says little: it is given to other processes later, and other machines count their own. So every file or
folder that is written aside is locked by the process that writes it, and the operating system unlocks it when that
process ends. Where such locks do not exclude, only who holds a folder takes what is in it for left behind.
"""

import fcntl
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import OutputError, PhalanxError
from .mounts import excludes

LEFTOVER = re.compile(r"\.(.+)\.\d+\.part", re.DOTALL)  # of a write that was killed, with the name of its target
TEMPORARY = re.compile(r"phalanx-[a-z0-9_]{8}")  # in the system's folder for temporary files
LOCK = ".lock"
FRESH = 60  # seconds for which a folder without a lock may be one that was just made
NOFOLLOW = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe in the way would wait for ever


class Held(PhalanxError):
    """Another process is making the same thing."""

    def __init__(self, path: Path):
        super().__init__(f"{path}: another process is making it; wait for it, or give another name")


def in_the_way(path: Path) -> OutputError:
    """The error of a file or folder in the way that this program did not write."""
    return OutputError(f"{path}: is in the way and was not written by this program; move it away")


def try_lock(descriptor: int) -> bool:
    """Locks an open file unless another process has; True also where the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def is_abandoned(descriptor: int) -> bool:
    """Whether no living process has locked an open file, which then is locked by this one."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one at ``path``: a name may come to mean another before a lock is had."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


class Aside:
    """A new file ``.NAME.<number>.part`` next to ``path``, locked until it is closed. What killed writes of the same
    name left there is removed.

    Raises:
        OutputError: a link, folder or the like is in the way.
    """

    def __init__(self, path: Path):
        clear(path.parent, path.name.__eq__)
        number = os.getpid()
        while True:
            self.path = path.with_name(f".{path.name}.{number}.part")
            try:
                self.file = self.path.open("xb")  # which follows no link
            except FileExistsError:
                if not _is_regular(self.path):
                    raise in_the_way(self.path) from None
                number = secrets.randbelow(10**9)  # of a process of the same number, on another machine
                continue
            with suppress(FileNotFoundError):
                self._lock = os.open(self.path, os.O_RDWR | NOFOLLOW)
                if try_lock(self._lock) and is_at(self._lock, self.path):
                    return
                os.close(self._lock)
            self.file.close()  # taken for left behind, in the moment before it was locked

    def close(self) -> None:
        """Closes the file, which of a full disk may fail again, and releases the lock."""
        try:
            self.file.close()
        finally:
            os.close(self._lock)


def clear(folder: Path, ours: Callable[[str], bool], *, held: bool = False) -> None:
    """Removes the files that killed writes left in a folder.

    Args:
        ours: whether a file of that name is written there, to which what was left belongs.
        held: this process holds the folder, so that whatever lies there aside is left behind, or of a process from
            which the folder was taken over, whose rename then fails.
    """
    try:
        with os.scandir(folder) as entries:
            left = [entry.name for entry in entries if entry.name.startswith(".")]
    except OSError:
        return
    for entry_name in left:
        found = LEFTOVER.fullmatch(entry_name)
        if found and ours(found[1]):
            if held and _is_regular(folder / entry_name):
                with suppress(FileNotFoundError):
                    os.unlink(folder / entry_name)
            else:
                _remove_abandoned(folder / entry_name)


def _remove_abandoned(path: Path) -> None:
    with suppress(OSError):  # of another user, or gone meanwhile
        if not _is_regular(path) or not excludes(path):
            return  # else a living writer's lock would be granted to this process, too
        descriptor = os.open(path, os.O_RDWR | NOFOLLOW)
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode) and is_abandoned(descriptor) and is_at(descriptor, path):
                os.unlink(path)
        finally:
            os.close(descriptor)


def _is_regular(path: Path) -> bool:
    with suppress(OSError):
        return stat.S_ISREG(os.lstat(path).st_mode)
    return False


def _hold(lock: Path, of: Path) -> int:
    """The descriptor of a lock file that is held by this process, and made if need be. Raises Held, OutputError."""
    while True:
        if lock.is_symlink() or (lock.exists() and not _is_regular(lock)):
            raise in_the_way(lock)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | NOFOLLOW, 0o666)
        if not try_lock(descriptor):
            os.close(descriptor)
            raise Held(of)
        if is_at(descriptor, lock):
            return descriptor
        os.close(descriptor)  # its holder has removed it


_temporary: Path | None = None


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for temporary files, of libraries too, removed in the end; those of killed processes of this user are
    removed first.

    Within another call, and after :func:`adopt`, it is that one's.
    """
    global _temporary
    if _temporary is not None:
        yield _temporary
        return
    home = Path(tempfile.gettempdir())
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(home / f"torchinductor_{os.getuid()}"))  # to last longer
    _clear_temporary(home)
    place = Path(tempfile.mkdtemp(prefix="phalanx-", dir=home))
    descriptor = _hold(place / LOCK, place)
    adopt(place)
    try:
        yield place
    finally:
        _temporary, tempfile.tempdir = None, str(home)
        shutil.rmtree(place, ignore_errors=True)
        os.close(descriptor)


def adopt(place: Path) -> None:
    """Makes ``place``, of the process that started this one, the folder for all temporary files of this process."""
    global _temporary
    _temporary, tempfile.tempdir = place, str(place)


@contextmanager
def outlasting() -> Iterator[None]:
    """Within it, :mod:`tempfile` names the folder that outlasts :func:`temporary_folder`: for what is made once and
    used by later commands, such as a compiler's headers."""
    before = tempfile.tempdir
    if _temporary is not None:
        tempfile.tempdir = str(_temporary.parent)
    try:
        yield
    finally:
        tempfile.tempdir = before


def current_temporary_folder() -> Path | None:
    """The folder of :func:`temporary_folder`; None outside of it."""
    return _temporary


def _clear_temporary(home: Path) -> None:
    """Removes the temporary folders of processes of this user that were killed."""
    for place in home.glob("phalanx-*"):
        with suppress(OSError):
            state = place.lstat()
            ours = TEMPORARY.fullmatch(place.name) and stat.S_ISDIR(state.st_mode) and state.st_uid == os.getuid()
            if not ours:
                continue
            if not _is_regular(place / LOCK):
                if time.time() - state.st_mtime > FRESH:
                    place.rmdir()  # killed before it had a lock: nothing else is in it
                continue
            if not excludes(place / LOCK):
                continue
            descriptor = os.open(place / LOCK, os.O_RDWR | NOFOLLOW)
            try:
                if is_abandoned(descriptor):
                    shutil.rmtree(place, ignore_errors=True)
            finally:
                os.close(descriptor)
