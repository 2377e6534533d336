"""Files written whole or not at all: aside, synced, renamed, the folder synced."""

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import TrainingError

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def write_bytes(path: Path, data: bytes) -> None:
    """Replaces ``path`` by ``data`` such that a kill at any moment leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """As :func:`write_bytes`, in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """As :func:`write_bytes`; numbers keep every digit, NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def sync_folder(folder: Path) -> None:
    """Makes renames within ``folder`` last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def keep_text(path: Path, text: str, cause: str) -> None:
    """Writes a text file that, once written, may never change.

    Raises:
        TrainingError: the file is there and says otherwise; ``cause`` tells what that means.
    """
    if not path.is_file():
        write_text(path, text)
    elif path.read_text(encoding="utf-8") != text:
        raise TrainingError(f"{path}: {cause}. Restore them, or give another name=")


@contextmanager
def whole_disk(folder: Path) -> Iterator[None]:
    """Tells of a disk that takes no more, wherever below ``folder`` it was met.

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
    """The system's words where a disk is full or failed, also within an error of a library; else None."""
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (found := re.search(r"os error (\d+)|code: (\d+)", str(error))):  # Rust's way to tell
        number = int(found[1] or found[2])
    return os.strerror(number) if number in UNWRITABLE else None


def disk_text(path: Path, cause: str) -> str:
    """What to tell of a disk that takes no more."""
    there = next(place for place in (path, *path.absolute().parents) if place.is_dir())
    return (
        f"{path}: {cause} ({shutil.disk_usage(there).free / 1e6:.0f} MB are free there). What was saved before is "
        "whole: make room, and the same command goes on"
    )
