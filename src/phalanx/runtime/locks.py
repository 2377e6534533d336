"""The locks of whatever processes share: one that is held for a moment, and the hold of a folder for hours.

A lock is the operating system's where that excludes, and one of files elsewhere (see :mod:`.mounts`, :mod:`.soft`).

The hold of a folder is the record in its file ``.holder``: who holds it, with a fencing number that each new holder
raises. A new record is only written under a lock, and only if the holder before released the folder or has ended. It
has ended

- if this process was has_locks the system's lock that it had: a system drops it when its process ends;
- if this machine no longer has the process, or has started again since;
- if the scheduler says so; a later attempt of the same job is its word that the earlier one has.

The last may be said of a process that still runs. It fails at its next write, by :mod:`.fence`.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, SoftFileLockProtocolError, Timeout

from ..errors import DataError, OutputError, PhalanxError
from . import fence, soft
from .files import write_text
from .leftovers import in_the_way
from .mounts import excludes
from .reading import MissingFile, as_whole, listed, read_mapping
from .scheduler import Process, State, state_of
from .terminal import say

LOCK = ".lock"  # the system's lock of a held folder, where there are such locks
RECORD = fence.RECORD
FORMAT = "phalanx-holder-1"
TURN = f"{RECORD}.lock"  # under which the record is changed
REMEDY = "if no process works in the folder, on any machine, delete this file"

_reported: set[Path] = set()  # folders without locks of any kind that this process has reported
_holding: set[str] = set()  # the folders that this process holds, by real path


class LockHeld(PhalanxError):
    """Another process holds the lock.

    Attributes:
        holder: that process as text; empty if unknown.
        remedy: what to do if it has ended, though this machine cannot find that out; empty if it runs.
    """

    def __init__(self, path: Path, holder: str, remedy: str = ""):
        who = f"another process{f' ({holder})' if holder else ''}"
        super().__init__(f"{path}: {who} holds this lock; wait for it{f', or {remedy}' if remedy else ''}")
        self.holder, self.remedy = holder, remedy


class Record(NamedTuple):
    """Who holds a folder, or held it last.

    Attributes:
        number: the fencing number: one more than that of the holder before.
        held: False once it was released.
        native: the holder has the system's lock, too.
    """

    number: int
    held: bool
    native: bool
    process: Process

    def text(self) -> str:
        """The content of its file."""
        head: dict[str, Any] = {"format": FORMAT, "number": self.number, "held": self.held, "native": self.native}
        return json.dumps(head | self.process.to_json(), indent=1) + "\n"

    @classmethod
    def read(cls, folder: Path) -> "Record | None":
        """The record in a folder; None if there is none.

        Raises:
            DataError: it is damaged, or of another version.
        """
        path = folder / RECORD
        try:
            values = read_mapping(path, fence.MAX_RECORD, REMEDY)
        except MissingFile:
            return None
        held, native = values.get("held"), values.get("native")
        try:
            if values.get("format") != FORMAT or not isinstance(held, bool) or not isinstance(native, bool):
                raise ValueError("is not a record of who holds a folder")
            return cls(as_whole(values.get("number"), 1), held, native, Process.of(values))
        except ValueError as error:
            raise DataError(f"{path}: {error}; {REMEDY}") from None


@contextmanager
def lock(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Holds the lock file ``path`` for this process, for a moment. A kill releases it, and its files stay.

    A file system with neither locks nor hard links is reported once per folder; work goes on there without the lock.

    Args:
        path: the lock file, in a folder that exists.
        wait: until another process releases the lock.

    Raises:
        LockHeld: another process holds the lock and ``wait`` is false.
        OutputError: a pipe, folder or the like is in its place.
    """
    _refuse_other(path)
    with ExitStack() as held:
        # once soft, always soft: a machine whose mount has locks goes by what another one uses
        if excludes(path) and not soft.place(path).exists():
            native = FileLock(path)
            try:
                native.acquire(blocking=wait)
            except Timeout:
                raise LockHeld(path, "") from None
            held.callback(native.release)
        else:
            claim = soft.SoftLock(path)
            try:
                if not claim.acquire(wait):
                    raise LockHeld(path, claim.owner())
                held.callback(claim.release)
            except SoftFileLockProtocolError as error:
                _report(path, error)
        yield


@contextmanager
def hold(folder: Path) -> Iterator[int]:
    """Holds a folder for this process, until the end of the block or of the process; yields the fencing number.

    While it is held, writing below ``folder`` fails if another process has taken it over.

    Raises:
        LockHeld: another process holds it, or it is not known whether that has ended.
        DataError: the record of who holds it is damaged.
        OutputError: a pipe, folder or the like is in the place of one of its files.
    """
    path, known = folder / LOCK, os.path.realpath(folder)
    for name in (LOCK, RECORD, TURN):
        _refuse_other(folder / name)
    with ExitStack() as undo:
        has_locks = excludes(path)
        native = has_locks and _take(path, undo)
        with lock(folder / TURN):
            try:
                before = Record.read(folder)
            except DataError:
                if not has_locks:
                    raise
                before = None
            if before is None and has_locks and not native:
                raise LockHeld(path, "")  # of an earlier version, or of another program
            if before is not None and before.held and (state := _state_of(before, native, known)) != "ended":
                remedy = f"if it has ended for certain, delete {folder / RECORD}" if state == "unknown" else ""
                raise LockHeld(path, str(before.process), remedy)
            own = Record(before.number + 1 if before is not None else 1, True, native, Process.this())
            write_text(folder / RECORD, own.text())
        _holding.add(known)
        fence.raise_fence(folder, own.text())
        try:
            yield own.number
        finally:
            fence.lower_fence(folder)
            _holding.discard(known)
            _release(folder, own)


def _take(path: Path, undo: ExitStack) -> bool:
    """Whether the system's lock is has_locks, until ``undo``."""
    native = FileLock(path)
    try:
        native.acquire(blocking=False)
    except Timeout:
        return False
    undo.callback(native.release)
    return True


def _state_of(record: Record, native: bool, folder: str) -> State:
    """Whether the holder of a record has ended.

    Args:
        native: this process has the system's lock.
        folder: the real path of the folder.
    """
    if native and record.native:
        return "ended"
    if record.process.is_this:
        return "running" if folder in _holding else "ended"
    return state_of(record.process)


def _release(folder: Path, own: Record) -> None:
    if not (folder / RECORD).exists():  # removed, with a folder that stayed empty
        return
    with suppress(DataError, OSError), lock(folder / TURN):
        if Record.read(folder) == own:  # else another process has taken it over
            write_text(folder / RECORD, own._replace(held=False).text())


def is_held(folder: Path) -> bool:
    """Whether a process holds a folder, found without its lock, which would refuse a process that begins just then.

    One of another machine is believed.
    """
    try:
        found = Record.read(folder)
    except DataError:
        return False
    if found is None or not found.held:
        return False
    if found.process.is_this:
        return os.path.realpath(folder) in _holding
    return state_of(found.process, ask=False) != "ended"


def is_lock_file(name: str) -> bool:
    """Whether :func:`hold` makes a file or folder of that name in a folder."""
    return name in (LOCK, RECORD) or _is_of(TURN, name)


def _is_of(lock_name: str, name: str) -> bool:
    """Whether :func:`lock` makes a file or folder of that name for a lock; the last is one that a kill leaves."""
    own = re.escape(lock_name)
    return re.fullmatch(rf"{own}(\.soft(\.filelock|\.cards)?)?|\.{own}\.soft\.private-\S+\.tmp", name) is not None


def lock_files(folder: Path) -> list[str]:
    """The names in a folder of what :func:`hold` made there."""
    return [path.name for path in listed(folder) if is_lock_file(path.name)]


def remove_lock(path: Path) -> None:
    """Removes the files of a lock that this process holds, to leave nothing next to what it was for."""
    for place in listed(path.parent):
        if _is_of(path.name, place.name):
            _remove(place)


def remove_hold(folder: Path) -> None:
    """Removes the files by which this process holds a folder, to remove the folder itself while it holds it."""
    fence.check(folder / RECORD)
    for name in lock_files(folder):
        _remove(folder / name)


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place, ignore_errors=True)
    else:
        place.unlink(missing_ok=True)


def holder_of(folder: Path) -> str:
    """The process that holds a folder, as text; empty if nobody does or it is unknown."""
    with suppress(DataError):
        found = Record.read(folder)
        if found is not None and found.held:
            return str(found.process)
    return ""


def _refuse_other(path: Path) -> None:
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise in_the_way(path)


def _report(path: Path, error: SoftFileLockProtocolError) -> None:
    if "hard-link" not in str(error) and "hard links" not in str(error):
        text = f"{soft.place(path)}: {error}; if no process works here, delete what has that name"
        raise OutputError(text) from None
    if path.parent not in _reported:
        _reported.add(path.parent)
        say(f"{path.parent}: its file system has neither locks nor hard links; start no second process here")
