"""Of which task a run or a CSV is: by a run's recipe, or the header of a CSV."""

from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError, DataError


def task_of_run(name: str, runs: Path) -> str:
    """The task of a member by its name: that of the run or export; of anything else, as stored maps, ``segment``.

    Raises:
        ConfigError: the run's configuration cannot be read.
    """
    from ..predict.exported import DESCRIPTION_FILE
    from ..runs.reader import FoldRun

    if (path := Path(name) / DESCRIPTION_FILE).is_file():
        return _task_of_export(path)
    for place in (Path(name), runs / name):
        if recipes := sorted([*place.glob("config.yaml"), *place.glob("*/config.yaml")]):
            return str(FoldRun(recipes[0].parent).recipe.get("task", "segment"))
    return "segment"


def _task_of_export(path: Path) -> str:
    from ..predict.exported_labels import FORMAT
    from ..runtime.reading import read_mapping

    try:
        return "classify" if read_mapping(path).get("format") == FORMAT else "segment"
    except DataError:
        return "segment"  # whose reader says what is wrong


def task_of_members(names: Sequence[str], runs: Path) -> str:
    """The task of all members of a prediction or vote: runs by their recipe, CSVs by their header.

    Raises:
        ConfigError: they are of several tasks. DataError: a CSV that does not exist.
    """
    from ..runtime.sidecar import is_csv

    found: dict[str, str] = {}
    for name in names:
        if is_csv(name) and not Path(name).exists():
            raise DataError(f"{name}: no such submission file")
        found.setdefault(task_of_csv(Path(name)) if is_csv(name) else task_of_run(name, runs), name)
    if len(found) > 1:
        (one, first), (other, second) = list(found.items())[:2]
        raise ConfigError(f"members: {first} is of task={one} and {second} of task={other}; they cannot be combined")
    return next(iter(found), "segment")


def task_of_csv(path: Path) -> str:
    """By the header of a CSV: boxes have corners, probabilities a column per class, masks are anything else."""
    from ..runtime.reading import open_regular
    from ..submission.box_rows import is_box_header
    from ..submission.rows import HEADER

    try:
        with open_regular(path) as file:
            line = file.readline(1 << 16).decode("utf-8-sig", "replace").strip()
    except OSError:
        return "segment"  # whose reader says what is wrong
    if any(is_box_header([cell.strip(' "') for cell in line.split(mark)]) for mark in ",;\t|"):
        return "detect"
    first = [cell.strip('"') for cell in line.split(",")]
    return "classify" if first[0] == "image_name" and tuple(first) != HEADER else "segment"
