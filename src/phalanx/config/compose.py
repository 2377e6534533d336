"""Composes a recipe from ``key=value`` arguments and the YAML files of ``configs/``, by Hydra.

Only the command line uses this module; other code gets a validated configuration.
"""

import copy
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from ..errors import ConfigError
from ..runtime.reading import read_text
from . import Config, validate
from .overrides import NOT_RESOLVED, read_overrides
from .plain import MAX_BYTES, read_plain

Recipe = TypeVar("Recipe", bound=Config)


def config_folder() -> Path:
    """``configs/`` of the working folder, else of the repository that contains the package, else of the wheel that it
    was installed from."""
    place = Path(__file__).resolve()
    for folder in (Path.cwd() / "configs", place.parents[3] / "configs", place.parents[1] / "configs"):
        if (folder / "config.yaml").is_file():
            return folder
    raise ConfigError("configs/config.yaml: not found here; run from the repository's root")


def split_words(words: Sequence[str]) -> dict[str, str]:
    """``key=value`` arguments as a dictionary; an argument without '=' or a duplicate key is an error.

    >>> split_words(["fold=0..4", "model.weights=none"])
    {'fold': '0..4', 'model.weights': 'none'}
    """
    pairs: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ConfigError(f"{word!r}: expected key=value, as in fold=0 or model.weights=none")
        if key in pairs:
            raise ConfigError(f"{key}: given twice")
        pairs[key] = value
    return pairs


def parse_folds(text: str, count: int) -> list[int | None]:
    """Folds of ``0``, ``0,2``, ``0..4`` or ``all`` (None: train on everything).

    >>> parse_folds("0..2", 5), parse_folds("1,3", 5), parse_folds("all", 5)
    ([0, 1, 2], [1, 3], [None])
    """
    if text == "all":
        return [None]
    found: list[int | None] = []
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,9})(?:\.\.([0-9]{1,9}))?", part.strip())
        if not match:
            raise ConfigError(f"fold={text}: expected one fold (0), some (0,2), a range (0..4) or all")
        first, last = int(match[1]), int(match[2] or match[1])
        for fold in range(first, last + 1):
            if fold >= count:
                raise ConfigError(f"fold={text}: fold {fold} of {count}; there are 0..{count - 1} (folds={count})")
            if fold not in found:
                found.append(fold)
    if not found:
        raise ConfigError(f"fold={text}: an empty range; the first fold comes first, as in 0..4")
    return found


def compose_as(kind: type[Recipe], pairs: dict[str, str]) -> Recipe:
    """As :func:`compose`, for what only one task has. Raises ConfigError if the recipe is of another task."""
    found = compose(pairs)
    if not isinstance(found, kind):
        wanted = kind.model_fields["task"].default
        raise ConfigError(f"task={found.task}: this command needs a recipe of task={wanted}")
    return found


def compose(pairs: dict[str, str]) -> Config:
    """The resolved recipe of the given overrides. ``experiment`` is the recipe and the default name of the run.

    Strings, paths and lists of strings are taken as they are, as by `words.typed`; Hydra parses all other values.

    Raises:
        ConfigError: an unknown key, a value that cannot be used, a recipe that is not plain YAML.
    """
    folder = config_folder()
    state = check_recipes(folder)
    read = read_overrides(pairs, folder)
    values = copy.deepcopy(composed_by_hydra(folder, read.words, state))
    for key, text in read.texts.items():
        set_value(values, key, text)
    values.setdefault("name", read.pairs.get("experiment", "base"))
    values.pop("experiment", None)
    values["runs"] = values.get("runs", "runs")
    return validate(values)


@lru_cache(maxsize=256)
def composed_by_hydra(folder: Path, words: tuple[str, ...], state: tuple[Any, ...]) -> dict[str, Any]:
    """What Hydra makes of the words, once per state of the recipes' files: it takes a tenth of a second. Not to be
    changed.

    Raises:
        ConfigError: Hydra refuses them.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(str(folder), version_base="1.3"):
            composed = hydra_compose("config", list(words))
        values: Any = OmegaConf.to_container(composed, resolve=False)
    except (HydraException, OmegaConfBaseException) as error:
        text = " ".join(str(error).split())
        raise ConfigError(f"{' '.join(words).replace('++', '')}: {text}") from None
    return values


def files_by_hydra(folder: Path, words: tuple[str, ...]) -> list[tuple[Path, str]]:
    """The files that Hydra merges for the words, each over those before it, with the section that each sets.

    Raises:
        ConfigError: Hydra refuses the words.
    """
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from hydra.types import RunMode

    try:
        with initialize_config_dir(str(folder), version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()
            found = loader.compute_defaults_list("config", list(words), RunMode.RUN).defaults
    except HydraException as error:
        raise ConfigError(f"{' '.join(words).replace('++', '')}: {' '.join(str(error).split())}") from None
    files = [(folder / f"{one.config_path}.yaml", one.package or "") for one in found if one.config_path]
    return [(path, section) for path, section in files if path.is_file()]


def set_value(values: dict[str, Any], key: str, value: Any) -> None:
    """Sets the value of a dotted key; sections that are missing or null are made.

    Raises:
        ConfigError: a section on the way is a value.
    """
    *parents, last = key.split(".")
    for parent in parents:
        if values.get(parent) is None:
            values[parent] = {}
        values = values[parent]
        if not isinstance(values, dict):
            raise ConfigError(f"{key}: {parent} is a value, not a section")
    values[last] = value


def check_recipes(folder: Path) -> tuple[tuple[Any, ...], ...]:
    """The recipes' files, each with what changes when it is edited.

    All files are checked, because Hydra resolves a defaults list before its result can be checked.

    Raises:
        ConfigError: one is not plain YAML, or contains ``${...}``, whose resolvers read the environment.
    """
    states = list[tuple[Any, ...]]()
    for path in sorted(folder.rglob("*.yaml")):
        stat = path.stat()
        state = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        check_recipe(path, state)
        states.append((path, *state))
    return tuple(states)


@lru_cache(maxsize=1024)
def check_recipe(path: Path, state: tuple[int, ...]) -> None:
    """Checks one file, once per state of it; see :func:`check_recipes`."""
    text = read_text(path, MAX_BYTES)
    if "${" in text:
        lines = [line for line in text.splitlines() if "${" in line and not line.lstrip().startswith("#")]
        if lines:
            raise ConfigError(f"{path}: {lines[0].strip()}: {NOT_RESOLVED}")
    if any(line.strip() and not line.lstrip().startswith("#") for line in text.splitlines()):
        read_plain(path)
