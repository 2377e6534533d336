"""Composes a recipe from ``key=value`` arguments and the YAML files of ``configs/``, by Hydra.

Only the command line uses this module; other code gets a validated configuration.
"""

import copy
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, get_args

from ..errors import ConfigError, brief
from ..runtime.reading import read_text
from . import CONFIGS, ClassifyConfig, Config, DetectConfig, SegmentData, config_kind, nearest, validate
from .plain import MAX_BYTES, read_plain
from .words import split_list, text_kinds, text_value

MAX_LENGTH = 16384  # characters of a value that Hydra parses
MAX_DEPTH = 16
MAX_KEY = 200  # bytes: Hydra looks a key up as a file, whose name may have 255 bytes
Recipe = TypeVar("Recipe", bound=Config)
NOT_RESOLVED = "${...} is not resolved here; write the value itself"


def config_folder() -> Path:
    """``configs/`` of the working folder, else of the repository that contains the package."""
    for folder in (Path.cwd() / "configs", Path(__file__).resolve().parents[3] / "configs"):
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
    groups = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name != "sweep")
    words, texts = list[str](), dict[str, Any]()
    state = check_recipes(folder)
    pairs = pairs | experiment_of(pairs, folder)
    kind = config_kind(task_of(pairs, folder))
    check_layout(kind, pairs, folder)
    for key, value in pairs.items():
        if "${" in value:
            raise ConfigError(f"{key}={value}: {NOT_RESOLVED}")
        if key in groups:
            choices = [path.stem for path in (folder / key).glob("*.yaml")]
            if value not in choices:
                raise ConfigError(f"{key}={value}: no configs/{key}/{value}.yaml{nearest(value, choices)}")
            words.append(f"{key}={value}")
        elif len(key.encode("utf-8", "replace")) > MAX_KEY:
            raise ConfigError(f"{key}: no such option, none has a name of more than {MAX_KEY} bytes")
        elif key.split(".")[0] not in kind.model_fields:
            known = {*kind.model_fields, *groups, "fold"}
            raise ConfigError(f"{key}: no such option{nearest(key.split('.')[0], known)}")
        elif (kinds := text_kinds(kind, key)) is not None:
            is_list = list in kinds and not (value == "null" and type(None) in kinds)
            texts[key] = split_list(value) if is_list else text_value(key, value, kinds)
        else:
            check_value(key, value)
            # '++' adds or changes a key; the typed configuration checks keys, with a better message
            words.append(f"++{key}={value}")
    values = copy.deepcopy(composed_by_hydra(folder, tuple(words), state))
    for key, text in texts.items():
        set_value(values, key, text)
    values.setdefault("name", pairs.get("experiment", "base"))
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


def experiment_of(pairs: dict[str, str], folder: Path) -> dict[str, str]:
    """The experiment of a data set with labels or boxes, if none is given: that of the same name, as the base recipe
    segments.

    Raises:
        ConfigError: there is none.
    """
    if "data" not in pairs or {"experiment", "task"} & pairs.keys():
        return {}
    layout = _values(folder / "data" / f"{pairs['data']}.yaml").get("layout")
    for kind, what, does in ((ClassifyConfig, "labels", "classifies"), (DetectConfig, "boxes", "detects")):
        if layout not in _layouts(kind):
            continue
        task = kind.model_fields["task"].default
        known = [file.stem for file in (folder / "experiment").glob("*.yaml") if _values(file).get("task") == task]
        if pairs["data"] in known:
            return {"experiment": pairs["data"]}
        alike = [name for name in known if name.startswith(pairs["data"])]
        raise ConfigError(
            f"data={pairs['data']}: has {what}, and the recipe by default segments; name one that {does}, as in "
            f"experiment={min(alike or known, default='NAME')}"
        )
    return {}


def check_layout(kind: type[Config], pairs: dict[str, str], folder: Path) -> None:
    """Raises ConfigError for a data set of another task than the recipe's, before its keys are refused one by one."""
    values = _values(folder / "data" / f"{pairs.get('data', '')}.yaml")
    usual = SegmentData.model_fields["layout"].default if values else None  # which files of data sets leave out
    layout = pairs.get("data.layout") or values.get("layout", usual)
    if layout is not None and layout not in _layouts(kind):
        task = kind.model_fields["task"].default
        others = [name for name, other in CONFIGS.items() if layout in _layouts(other)]
        if others:
            raise ConfigError(
                f"data={pairs.get('data', layout)}: its layout is {layout}, of task={others[0]}, and the recipe is of "
                f"task={task}; name an experiment= of that task"
            )


def _layouts(kind: type[Config]) -> tuple[Any, ...]:
    data: Any = kind.model_fields["data"].annotation
    return get_args(data.model_fields["layout"].annotation)


def task_of(pairs: dict[str, str], folder: Path) -> Any:
    """The task of a recipe: as given, else of its experiment's file."""
    if "task" in pairs:
        return pairs["task"]
    return _values(folder / "experiment" / f"{pairs.get('experiment', 'base')}.yaml").get("task", "segment")


def _values(file: Path) -> dict[str, Any]:
    """The options in a recipe's file; none if there is no such file, or nothing in it but comments."""
    if not file.is_file():
        return {}
    lines = read_text(file, MAX_BYTES).splitlines()
    return read_plain(file) if any(line.strip() and not line.lstrip().startswith("#") for line in lines) else {}


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


def check_value(key: str, value: str) -> None:
    """Raises ConfigError for a value that Hydra reads as a sweep, or cannot parse.

    >>> check_value("optim.lr", "1,2")
    Traceback (most recent call last):
    phalanx.errors.ConfigError: optim.lr=1,2: expected one value; a list is written optim.lr=[1,2]
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    shown = brief(value)[1:-1]
    if len(value) > MAX_LENGTH or deepest(value) > MAX_DEPTH:
        raise ConfigError(
            f"{key}={shown}: is longer than {MAX_LENGTH} characters or nested deeper than {MAX_DEPTH} levels; write "
            "it into a file of configs/"
        )
    if re.fullmatch(r"[-+]?[0-9]+_[0-9_.]*", value):  # which Hydra reads as a number
        raise ConfigError(f"{key}={shown}: is not a decimal number; write it without underscores")
    try:
        if not OverridesParser.create().parse_override(f"++{key}={value}").is_sweep_override():
            return
    except (HydraException, ValueError, RecursionError):  # ValueError: a number of more than 4000 digits
        raise ConfigError(
            f"{key}={shown}: cannot be parsed; put quotes around a string with characters other than letters, digits, "
            f"spaces and ./_:-, as in '{key}=\"a (b)\"'"
        ) from None
    raise ConfigError(f"{key}={shown}: expected one value; a list is written {key}=[{shown}]")


def deepest(text: str) -> int:
    """Levels of brackets within each other, or more if a string has some.

    >>> deepest("{a:[1,2],b:[3]}")
    2
    """
    depth = most = 0
    for letter in text:
        depth += (letter in "[{(") - (letter in "]})")
        most = max(most, depth)
    return most
