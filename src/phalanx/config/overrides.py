"""Reads ``key=value`` arguments of a recipe: its task, files and values. Of a wrong key it names the nearest one."""

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, get_args

from ..errors import ConfigError, brief
from ..runtime.reading import read_text
from . import (
    CONFIGS,
    ClassifyConfig,
    Config,
    DetectConfig,
    SegmentData,
    config_kind,
    dotted_keys,
    nearest,
    nearest_key,
)
from .base import RENAMED
from .plain import MAX_BYTES, read_plain
from .words import split_list, text_kinds, text_value

MAX_LENGTH = 16384  # characters of a value that Hydra parses
MAX_DEPTH = 16
MAX_KEY = 200  # bytes: Hydra looks a key up as a file, whose name may have 255 bytes
NOT_OF_A_RECIPE = ("sweep", "cluster")  # folders of configs/
NOT_RESOLVED = "${...} is not resolved here; write the value itself"


class Overrides(NamedTuple):
    """What ``key=value`` arguments change in the recipes' files.

    Attributes:
        pairs: the arguments, with the experiment that a data set stands for.
        words: those that Hydra reads.
        texts: values of the others by dotted key.
    """

    pairs: dict[str, str]
    words: tuple[str, ...]
    texts: dict[str, Any]


def read_overrides(pairs: dict[str, str], folder: Path) -> Overrides:
    """The arguments, each checked. Raises as :func:`compose`."""
    groups = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name not in NOT_OF_A_RECIPE)
    words, texts = list[str](), dict[str, Any]()
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
        elif key.partition(".")[0] == "cluster":
            raise ConfigError(f"{key}: is for train, sweep and infer, whose jobs run there; leave it out")
        elif len(key.encode("utf-8", "replace")) > MAX_KEY:
            raise ConfigError(f"{key}: no such option, none has a name of more than {MAX_KEY} bytes")
        elif key.split(".")[0] not in kind.model_fields:
            known = {*kind.model_fields, *groups, "fold"}
            dotted = [name for name in dotted_keys(kind) if "." in name]
            first = key.split(".")[0]
            by_leaf = "." in key or any(name.endswith(f".{key}") for name in dotted) or not close_to(first, known)
            hint = nearest_key(key, dotted) if by_leaf else ""
            hint = hint if "did you mean" in hint else nearest(first, known)
            raise ConfigError(f"{key}: no such option{hint}")
        elif (kinds := text_kinds(kind, key)) is not None:
            is_list = list in kinds and not (value == "null" and type(None) in kinds)
            texts[key] = split_list(value) if is_list else text_value(key, value, kinds)
        else:
            refuse_misplaced(kind, key)
            check_value(key, value)
            # '++' adds or changes a key; the typed configuration checks keys, with a better message
            words.append(f"++{key}={value}")
    return Overrides(pairs, tuple(words), texts)


def refuse_misplaced(kind: type[Config], key: str) -> None:
    """Raises ConfigError for a key whose section lacks it, if another section has one of that name."""
    section, _, leaf = key.rpartition(".")
    known = dotted_keys(kind)
    beside = [name for name in known if section and name.rpartition(".")[0] == section]
    if not beside or key in known or any(name.startswith(f"{key}.") for name in known) or close_to(
        leaf, [name.rpartition(".")[2] for name in beside]
    ):  # fmt: skip
        return
    elsewhere = [name for name in known if name.rpartition(".")[2] == leaf]
    if elsewhere and key not in RENAMED:
        raise ConfigError(f"{key}: no such option{nearest_key(key, known)}")


def close_to(word: str, known: Iterable[str]) -> bool:
    """Whether a word is nearly one of others."""
    return bool(difflib.get_close_matches(word, list(known), n=1, cutoff=0.6))


def experiment_of(pairs: dict[str, str], folder: Path) -> dict[str, str]:
    """The experiment of a data set with labels or boxes, if none is given: that of the same name, as the base recipe
    segments.

    Raises:
        ConfigError: there is none.
    """
    if "data" not in pairs or {"experiment", "task"} & pairs.keys():
        return {}
    layout = file_values(folder / "data" / f"{pairs['data']}.yaml").get("layout")
    for kind, what, does in ((ClassifyConfig, "labels", "classifies"), (DetectConfig, "boxes", "detects")):
        if layout not in _layouts(kind):
            continue
        task = kind.model_fields["task"].default
        known = [file.stem for file in (folder / "experiment").glob("*.yaml") if file_values(file).get("task") == task]
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
    values = file_values(folder / "data" / f"{pairs.get('data', '')}.yaml")
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
    return file_values(folder / "experiment" / f"{pairs.get('experiment', 'base')}.yaml").get("task", "segment")


def file_values(file: Path) -> dict[str, Any]:
    """The options in a recipe's file; none if there is no such file, or nothing in it but comments."""
    if not file.is_file():
        return {}
    lines = read_text(file, MAX_BYTES).splitlines()
    return read_plain(file) if any(line.strip() and not line.lstrip().startswith("#") for line in lines) else {}


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
