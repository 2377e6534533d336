"""Where each value of a resolved recipe is from: a file of ``configs/``, the command line, or the class's default."""

from pathlib import Path
from typing import Any, NamedTuple

from . import flatten
from .compose import compose, config_folder, files_by_hydra
from .overrides import file_values, read_overrides

COMMAND_LINE, DEFAULT = "command line", "default"


class Origin(NamedTuple):
    """A value by its dotted key, and where it is from."""

    key: str
    value: Any
    source: str


class Resolved(NamedTuple):
    """All values of a recipe, and the files it is merged from, each over those before it."""

    origins: list[Origin]
    files: list[str]


def resolve(pairs: dict[str, str]) -> Resolved:
    """The resolved recipe of ``key=value`` arguments, with the source of every value.

    Raises:
        ConfigError: as `compose.compose`.
    """
    config, folder = compose(pairs), config_folder()
    read = read_overrides(pairs, folder)
    groups = {path.name for path in folder.iterdir() if path.is_dir()}
    given = [key for key in read.pairs if key not in groups]
    files = files_by_hydra(folder, tuple(word for word in read.words if not word.startswith("++")))
    names = [_shown(path, folder) for path, _ in files]
    settings = [
        {f"{section}.{key}" if section else key for key in flatten(_without_defaults(file_values(path)))}
        for path, section in files
    ]
    experiment = read.pairs.get("experiment", "base")

    def source(key: str) -> str:
        if any(_sets(one, key) for one in given):
            return COMMAND_LINE
        for name, keys in zip(reversed(names), reversed(settings), strict=True):
            if any(_sets(one, key) for one in keys):
                return name
        return f"name of experiment={experiment}" if key == "name" else DEFAULT

    values = flatten(config.model_dump(mode="json"))
    return Resolved([Origin(key, value, source(key)) for key, value in values.items()], names)


def _sets(given: str, key: str) -> bool:
    """Whether a setting of ``given`` determines ``key``: it is the same, or a section of it, or within it."""
    return given == key or key.startswith(f"{given}.") or given.startswith(f"{key}.")


def _without_defaults(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != "defaults"}


def _shown(path: Path, folder: Path) -> str:
    return str(Path(folder.name) / path.relative_to(folder))
