"""The files of the held-out images that a finished fold has: are they still there?"""

from pathlib import Path

from ..errors import DataError
from ..runtime.sidecar import Sidecar, read_sidecar

FILES = ("oof.csv", "oof.json", "oof_score.json")


def intact_sidecar(folder: Path) -> Sidecar | str:
    """The sidecar of ``oof.csv``, or what is missing or damaged."""
    missing = next((name for name in FILES if not (folder / name).is_file()), None)
    if missing is not None:
        return f"{missing} is missing"
    try:
        sidecar, _ = read_sidecar(folder / "oof.csv")
    except DataError as error:
        return str(error)
    return "oof.json is damaged" if sidecar is None else sidecar
