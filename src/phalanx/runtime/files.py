"""Files written whole or not at all: aside, synced, renamed, the folder synced.

No link is followed when something is written or removed, and no file is removed that this program did not write.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import OutputError, TrainingError
from . import fence
from .leftovers import Aside
from .leftovers import in_the_way as not_ours
from .reading import LIST, fresh, open_regular, read_text

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


class Replacement:
    """A file written next to ``path`` that takes its place only when all of it is on disk.

    ``with Replacement(path) as new: new.file.write(data); new.finish()``. Left without ``finish``, nothing changes.

    Raises:
        OutputError: ``path`` is a link or a folder.
    """

    def __init__(self, path: Path):
        refuse_link(path)
        if path.exists() and not path.is_file():
            raise OutputError(f"{path}: is not a regular file, and is not replaced by one; give another name")
        self.path, self._aside, self._finished = path, Aside(path), False
        self.file = self._aside.file

    def __enter__(self) -> "Replacement":
        return self

    def sync(self) -> None:
        """Writes the content through to the disk."""
        self.file.flush()
        os.fsync(self.file.fileno())

    def finish(self) -> None:
        """Puts the file in its place."""
        self.sync()
        self.file.close()  # here a network file system reports what it could not write
        refuse_link(self.path)
        move(self._aside.path, self.path)
        self._finished = True

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(self.path)  # which a full disk does not name
        try:
            if not self._finished:
                self._aside.path.unlink(missing_ok=True)
        finally:
            with suppress(*[OSError] if error else []):  # of a full disk, this fails again
                self._aside.close()


def move(source: Path, target: Path) -> None:
    """Renames a file or folder of ours, in the place of a file that has the other name.

    Raises:
        Superseded: another process holds the folder by now.
        OSError: as of a folder that is not empty in its place.
    """
    fence.check(source)
    fence.check(target)
    moved = None
    try:
        moved = fresh(lambda: os.lstat(source))
        fresh(lambda: os.replace(source, target))
    except FileNotFoundError:
        # the request may have been sent again, and fail the second time, since the first one was granted
        with suppress(FileNotFoundError):
            if moved is not None and os.path.samestat(moved, os.lstat(target)):
                return
        fence.check(target)  # whoever takes the folder over removes what is aside
        raise


def delete(path: Path) -> None:
    """Removes a file if it is there. Raises Superseded as :func:`move`."""
    fence.check(path)
    path.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Replaces ``path`` by ``data`` such that a kill at any moment leaves the old file or the new one.

    Raises:
        OutputError: ``path`` is a link or a folder.
    """
    write_parts(path, [data])


def write_parts(path: Path, parts: Iterable[bytes]) -> None:
    """As :func:`write_bytes`, of a content that need not be in memory as a whole."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with Replacement(path) as new:
            for part in parts:
                new.file.write(part)
            new.finish()
        sync_folder(path.parent)
    except OSError as error:
        error.filename = error.filename or str(path)  # writing and syncing do not name it
        raise


def write_text(path: Path, text: str) -> None:
    """As :func:`write_bytes`, in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """As :func:`write_bytes`; numbers have every digit, NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def sync_folder(folder: Path) -> None:
    """Makes renames within ``folder`` last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_file(path: Path) -> str:
    """SHA-256 of a regular file's content. Raises OSError if it is something else, or cannot be read."""

    def read() -> str:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return fresh(read)


def refuse_link(path: Path) -> None:
    """Raises OutputError if ``path`` is a link: writing or cleaning there would reach files elsewhere."""
    if path.is_symlink():
        raise OutputError(
            f"{path}: is a link, and what it leads to may not be ours to change; remove it, or name another place"
        )


def own_folder(folder: Path) -> None:
    """Makes a work folder, or takes up the one that is there.

    Raises:
        OutputError: it is a link, or a file.
    """
    refuse_link(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise not_ours(folder) from None


def append_bytes(path: Path, data: bytes) -> None:
    """Adds to the end of a file of ours, or begins it, and writes that through to the disk.

    Raises:
        OutputError: it is a link, not a regular file, or has a second name (a hard link), whose content would change
            too.
    """
    refuse_link(path)
    # O_NONBLOCK: a pipe without a reader would wait for ever
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise not_ours(path) from None
        raise
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1:
            raise not_ours(path)
        fence.check(path)  # once it is open: whoever takes the folder over puts another file in its place
        while data:  # all in one call, as a rule; if a disk is full, the next one raises
            data = data[os.write(descriptor, data) :]
        os.fsync(descriptor)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        os.close(descriptor)


def refuse_links_in(folder: Path, ours: Callable[[str], bool]) -> None:
    """Raises OutputError if ``folder`` has a link at a name that we write to, clean or replace there."""
    for place in sorted(folder.iterdir()):
        if ours(place.name):
            refuse_link(place)


def refuse_foreign(path: Path, mark: str) -> None:
    """Refuses to replace a file that an earlier call of the same kind did not write.

    Args:
        mark: what the first kilobyte of our files of this kind contains.

    Raises:
        OutputError: ``path`` is a link or a folder, or holds something else.
    """
    refuse_link(path)
    try:
        with open_regular(path) as file:
            head = file.read(1024)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise OutputError(f"{path}: {'is a folder' if path.is_dir() else error.strerror}; name a file") from None
    if head and mark.encode() not in head:
        raise OutputError(
            f"{path}: exists, and holds something else than this command writes; give another name, or delete it "
            "yourself"
        )


def format_mark(kind: str) -> str:
    """How a JSON file of ours of a kind begins, for :func:`refuse_foreign`.

    >>> format_mark("score")
    '"format": "phalanx-score-1"'
    """
    return f'"format": "phalanx-{kind}-1"'


def write_report(path: Path, kind: str, value: Mapping[str, Any]) -> None:
    """As :func:`write_json`, with the report's format first. Raises OutputError as :func:`check_report`."""
    check_report(path, kind)
    write_json(path, {"format": f"phalanx-{kind}-1", **value})


def check_report(path: Path, kind: str) -> None:
    """Refuses a name for a report before the work for it is done.

    Raises:
        OutputError: it is a link, a folder, or a file that is not a report of this kind.
    """
    refuse_foreign(path, format_mark(kind))


def check_report_folder(folder: Path, report: str, kind: str, files: Iterable[str]) -> None:
    """Refuses a folder for a report and its files before the work for them is done.

    Args:
        report: name of the report, which is written first: it shows that the files are of an earlier call.
        files: what will be written besides, from ``folder`` on.

    Raises:
        OutputError: ``folder`` is not a folder, or a link; a file to be written is a link, or exists without a report.
    """
    refuse_link(folder)
    if folder.exists() and not folder.is_dir():
        raise not_ours(folder)
    check_report(folder / report, kind)
    known = (folder / report).is_file()
    for name in files:
        refuse_link(folder / name)
        if not known and (folder / name).exists():
            raise not_ours(folder / name)


def keep_text(path: Path, text: str, cause: str) -> None:
    """Writes a text file that, once written, may never change.

    Raises:
        TrainingError: the file exists with other text; ``cause`` is the reason in the message.
        DataError: what exists is not a regular file, or cannot be read.
    """
    if not os.path.lexists(path):
        write_text(path, text)
    elif read_text(path, LIST, "restore it from a copy, or give another name=") != text:
        raise TrainingError(f"{path}: {cause}. Restore them, or give another name=")


@contextmanager
def whole_disk(folder: Path) -> Iterator[None]:
    """Reports a disk that cannot be written, wherever below ``folder`` it was met.

    Raises:
        TrainingError: it is full, beyond a quota or limit, or failed.
    """
    try:
        yield
    except OSError as error:
        if (cause := why_unwritable(error)) is None:
            raise
        path = Path(error.filename) if isinstance(error.filename, str) else folder
        raise TrainingError(disk_text(path, cause)) from None


def why_unwritable(error: Exception) -> str | None:
    """The system's message if a disk is full or failed, also within an error of a library; else None."""
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (found := re.search(r"os error (\d+)|code: (\d+)", str(error))):  # as Rust formats it
        number = int(found[1] or found[2])
    return os.strerror(number) if number in DISK_ERRORS else None


def disk_text(path: Path, cause: str) -> str:
    """The message about a disk that cannot be written."""
    there = next(place for place in (path, *path.absolute().parents) if place.is_dir())
    return (
        f"{path}: {cause} ({shutil.disk_usage(there).free / 1e6:.0f} MB are free there). What was saved before is "
        "whole: make room, and the same command goes on"
    )
