"""One spelling of a name: Hangul and accents are composed (NFC), however a file, a disk or a sheet has them.

macOS stores names decomposed, so a folder copied from there differs from a sheet that looks the same. Names are
compared in this form everywhere.
"""

import os
import unicodedata
from functools import lru_cache
from pathlib import Path, PurePath

from .stored import Stored


def nfc(name: str) -> str:
    """A name in the one form that names are compared in."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def on_disk(folder: Path, name: str | PurePath) -> Path:
    """The path below a folder that a name means, whichever normal form the disk has it in.

    If there is no such file, it is the path as named.
    """
    path = folder / name
    if str(name).isascii() or _there(path):
        return path
    found = folder
    for part in PurePath(name).parts:
        below = found / part
        if not part.isascii() and not _there(below):
            below = found / _spellings(found).get(nfc(part), part)
        found = below
    return found if _there(found) else path


def _there(path: Path) -> bool:
    return path.exists() if isinstance(path, Stored) else os.path.lexists(path)


def _spellings(folder: Path) -> dict[str, str]:
    try:
        return _listed(folder, folder.stat().st_mtime_ns)
    except OSError:
        return {}


@lru_cache(maxsize=256)
def _listed(folder: Path, changed: int) -> dict[str, str]:
    """Names in a folder that are not ASCII, by their one form."""
    return {nfc(path.name): path.name for path in sorted(folder.iterdir()) if not path.name.isascii()}
