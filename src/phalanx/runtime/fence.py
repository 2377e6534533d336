"""The last check before something of a held folder changes: that this process still holds it.

Whoever takes a folder over writes its own record, with the next fencing number, in the place of this one, and removes
what was written aside; see :mod:`.locks`. Every rename, append and removal of ours goes by :func:`check`, once what it
moves has been written aside. So what passed the check before the new record came is either in place before its writer
reads the folder, or fails, since the file aside is gone.
"""

import json
import os
from pathlib import Path

from ..errors import DataError, TrainingError, one_line
from .reading import MissingFile, read_text

VARIABLE = "PHALANX_HELD"  # for processes that this one starts, which write for it: record by folder, in JSON
RECORD = ".holder"
MAX_RECORD = 4096  # bytes


class Superseded(TrainingError):
    """A later attempt has taken the folder over: this process may not change it any more."""


def _given() -> dict[str, str]:
    try:
        values = json.loads(os.environ.get(VARIABLE, "{}"))
    except ValueError:
        return {}
    return {key: value for key, value in values.items() if isinstance(value, str)} if isinstance(values, dict) else {}


_held: dict[str, str] = _given()  # the record that was written, by the real path of its folder


def raise_fence(folder: Path, record: str) -> None:
    """From here on, this process and those that it starts change the folder only while ``record`` is in it."""
    _held[os.path.realpath(folder)] = record
    os.environ[VARIABLE] = json.dumps(_held)


def lower_fence(folder: Path) -> None:
    """Ends what :func:`raise_fence` began."""
    _held.pop(os.path.realpath(folder), None)
    if _held:
        os.environ[VARIABLE] = json.dumps(_held)
    else:
        os.environ.pop(VARIABLE, None)


def check(path: Path) -> None:
    """To be called right before ``path`` is replaced, extended or removed.

    Raises:
        Superseded: it is in a folder that this process held, and another one holds by now.
    """
    if not _held:
        return
    inside = os.path.realpath(path.parent)
    for folder, record in _held.items():
        if (inside + "/").startswith(folder + "/"):
            _compare(Path(folder), record)


def number_of(path: Path) -> int | None:
    """The fencing number with which this process holds the folder that ``path`` is in; None if it holds none."""
    inside = os.path.realpath(path.parent)
    found = [folder for folder in _held if (inside + "/").startswith(folder + "/")]
    return int(json.loads(_held[max(found, key=len)])["number"]) if found else None


def _compare(folder: Path, record: str) -> None:
    try:
        found = read_text(folder / RECORD, MAX_RECORD)
    except MissingFile:
        found = ""
    except DataError as error:
        raise Superseded(f"{error}, so it is not known who holds the folder; this process ends") from None
    if found != record:
        by = _text(found)
        raise Superseded(
            f"{folder}: {by}, so this process ends and changes nothing more there. The work is not lost: it goes on "
            "from the last checkpoint"
            if by
            else f"{folder}: its {RECORD} is gone, so this process holds it no more and changes nothing in it"
        )


def _text(record: str) -> str:
    """Who has taken a folder over, of the record that is in it."""
    try:
        values = json.loads(record)
        who = f"process {int(values['pid'])} on {one_line(str(values['host']), 100)}"
        job = f", job {one_line(str(values['job']), 100)}, attempt {values['attempt']}" if values.get("job") else ""
        return f"{who}{job} has taken it over with the fencing number {int(values['number'])}"
    except (ValueError, KeyError, TypeError):
        return ""
