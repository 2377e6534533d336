"""Files written whole or not at all: aside, synced, renamed, the folder synced."""

import json
import os
from pathlib import Path
from typing import Any

from .errors import TrainingError


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
