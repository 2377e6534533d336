"""Finds run folders below a folder, however deep, and without walking through what runs and data sets contain."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from ..errors import ConfigError
from ..runs.reader import TRAINED
from ..runtime.reading import fresh

FOLD = re.compile("fold[0-9]+|all")
MAX_DEPTH = 8


def find_runs(root: Path) -> dict[Path, list[Path]]:
    """The folders of folds below a folder, by their run's folder, sorted; folds in the order of their numbers.

    Raises:
        ConfigError: no such folder.
    """
    if not root.is_dir():
        raise ConfigError(f"runs={root}: no such folder; train something first (bash train.sh), or name another")
    found: dict[Path, list[Path]] = {}
    for folder in _folds(root, 0):
        found.setdefault(folder.parent, []).append(folder)
    for folders in found.values():
        folders.sort(key=lambda folder: (folder.name == "all", len(folder.name), folder.name))
    return dict(sorted(found.items()))


def _folds(folder: Path, depth: int) -> Iterator[Path]:
    try:
        below = fresh(lambda: [entry for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=depth == 0)])
    except OSError:
        return
    for entry in below:
        place = folder / entry.name
        if _is_fold(place):
            yield place
        elif depth < MAX_DEPTH and not entry.name.startswith("."):
            yield from _folds(place, depth + 1)


def _is_fold(place: Path) -> bool:
    """Whether a training began there, or is beginning: also a fold that has lost its recipe."""
    if (place / "config.yaml").exists() and any(
        (place / name).exists() for name in (".lock", ".holder", "folds.csv", *TRAINED)
    ):
        return True
    return FOLD.fullmatch(place.name) is not None and any(
        (place / name).exists() for name in ("config.yaml", "log.jsonl", *TRAINED)
    )
