"""One spelling of a name: Hangul and accents are composed (NFC), however a file, a disk or a sheet has them.

macOS stores names decomposed, so a folder copied from there differs from a sheet that looks the same. Names are
compared in this form everywhere.
"""

import os
import unicodedata
from functools import lru_cache
from pathlib import Path, PurePath


def nfc(name: str) -> str:
    """A name in the one form that names are compared in."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def on_disk(folder: Path, name: str | PurePath) -> Path:
    """The path below a folder that a name means, whichever normal form the disk has it in.

    If there is no such file, it is the path as named.
    """
    path = folder / name
    if str(name).isascii() or os.path.lexists(path):
        return path
    found = folder
    for part in PurePath(name).parts:
        below = found / part
        if not part.isascii() and not os.path.lexists(below):
            below = found / _spellings(found).get(nfc(part), part)
        found = below
    return found if os.path.lexists(found) else path


def _spellings(folder: Path) -> dict[str, str]:
    try:
        return _listed(folder, folder.stat().st_mtime_ns)
    except OSError:
        return {}


@lru_cache(maxsize=256)
def _listed(folder: Path, changed: int) -> dict[str, str]:
    """Names in a folder that are not ASCII, by their one form."""
    return {nfc(name): name for name in sorted(os.listdir(folder)) if not name.isascii()}
