"""Whether the runs that members were predicted by have other weights now."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ..errors import DataError
from ..runs.reader import FoldRun


def retrained(hashes: Mapping[str, str]) -> list[str]:
    """The run folders on this machine of which no checkpoint has the recorded weights.

    Args:
        hashes: SHA-256 of weights by the folder of their fold.
    """
    found = []
    for folder, value in hashes.items():
        current = set()
        for kind in ("final", "best", "last"):
            with suppress(DataError):
                current.add(FoldRun(Path(folder)).weights_digest(kind))
        current.discard(None)
        if current and value not in current:
            found.append(folder)
    return found


def note_retrained(name: str, hashes: Mapping[str, str]) -> None:
    """Prints a note if a run was trained again after a member was predicted."""
    if folders := retrained(hashes):
        which = f"{folders[0]}{f' and {len(folders) - 1} more' if folders[1:] else ''}"
        print(
            f"note: {name}: predicted with other weights than {which} now has; predict it again, unless it comes from "
            "another machine",
            flush=True,
        )
