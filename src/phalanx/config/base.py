"""Base class, types and error messages of all sections of the configuration."""

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import ConfigError, brief
from ..runtime.stored import is_archive

MAX_SIDE = 32768  # pixels; the memory of a network ends far below
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, le=1e6)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Processes = Annotated[int, Field(ge=1, le=1024)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Side = Annotated[int, Field(ge=32, le=MAX_SIDE, multiple_of=32)]  # of an input, in pixels


def _rooted(path: Path) -> Path:
    if path.is_dir() or not any(map(is_archive, (path, *path.parents))):
        return path
    from ..runtime.archive import rooted  # numpy is not loaded for a recipe without one

    return rooted(path)


Place = Annotated[Path, AfterValidator(_rooted)]  # a folder, also one in a tar; the tar itself is its root folder

MAX_PROBLEMS = 5  # in one message
_NUMBER = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,9})?\s*")

# Keys of earlier versions. A recipe that has one is refused, and the message names the new key.
RENAMED = {
    "model.start": "model.init_from",
    "model.start_head": "model.reinit_head (true for new, false for keep)",
    "model.checkpointing": "model.activation_checkpointing",
    "model.options.most": "model.options.max_features",
    "augment.grid": "augment.grid_distortion",
    "loss.options.point.dice": "loss.options.point.dice_weight",
    "optim.min_lr": "optim.min_lr_factor",
    "optim.one_cycle.start": "optim.one_cycle.start_factor",
    "optim.watch": "optim.monitor (its keys are split, folds and min_delta)",
    "predict.grid": "predict.input_size",
    "predict.window.skip": "predict.window.skip_empty",
}
RENAMED_OPTIONS = {"decided": "postprocess", "anyway": "allow_misaligned"}  # the same of infer and ensemble


class Strict(BaseModel):
    """Options with a fixed set of keys.

    Attributes:
        SPELLED: names of options by the key of the command line, for keys that differ.
        READ: parsers of options whose type does not determine the parser.
    """

    model_config = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)
    SPELLED: ClassVar[Mapping[str, str]] = {}
    READ: ClassVar[Mapping[str, Callable[[str], Any]]] = {}

    @model_validator(mode="before")
    @classmethod
    def _plain_numbers(cls, values: Any) -> Any:
        """Refuses numbers in a spelling of which it is not sure that a number was meant."""
        if not isinstance(values, dict):
            return values
        found = dict(values)
        for key, value in values.items():
            types = _types(cls.model_fields[key].annotation) if key in cls.model_fields else set()
            if types and (odd := odd_number(cls.model_fields[key].annotation, value)) is not None:
                kind = "integer" if int in types else "number"
                raise ValueError(f"{key}={brief(odd)}: input should be a valid {kind} in plain decimal digits")
            if int in types and isinstance(value, float) and 2**63 <= abs(value) < math.inf:
                found[key] = int(value)  # compared with the limit, which the message then names
        return found

    @classmethod
    def field_of(cls, key: str, text: str) -> str:
        """The option that ``key=text`` on the command line sets."""
        return cls.SPELLED.get(key, key)


def odd_number(annotation: Any, value: Any) -> Any:
    """A truth value, or a text that is not plain decimal digits, in a place for numbers; None if there is none."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return odd_number(parts[0], value)
    if origin is list and isinstance(value, list):
        return next((odd for item in value if (odd := odd_number(parts[0], item)) is not None), None)
    if origin is tuple and isinstance(value, list | tuple):
        return next((odd for part, item in zip(parts, value, strict=False) if (odd := odd_number(part, item))), None)
    if origin is dict and isinstance(value, dict):
        return next((odd for item in value.values() if (odd := odd_number(parts[1], item)) is not None), None)
    if origin in (Union, UnionType):
        odd = [odd_number(part, value) for part in parts if part is not type(None)]
        return odd[0] if odd and all(one is not None for one in odd) else None
    if annotation not in (int, float):
        return None
    return value if isinstance(value, bool) or (isinstance(value, str) and not _NUMBER.fullmatch(value)) else None


def _types(annotation: Any) -> set[Any]:
    """All types within an annotation."""
    return {annotation}.union(*map(_types, get_args(annotation))) if get_args(annotation) else {annotation}


def nearest(word: str, known: Any) -> str:
    """', did you mean ...?' with the closest known word, or a list of known words if none is close.

    >>> nearest("epoch", ["epochs", "batch"])
    '; did you mean epochs?'
    """
    names = sorted(map(str, known))
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known: {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}"


def unknown_key(key: str, known: Iterable[str], section: str = "") -> str:
    """The message about a key that does not exist, with its new name if it was renamed, else the nearest known one.

    Args:
        key: dotted, as the user wrote it.
        known: names that its last part could be.
        section: dotted name of the section that ``key`` starts from; "" for the top level.

    >>> unknown_key("model.start", ["init_from"]), unknown_key("grid", ["input_size"], "predict")
    ('model.start: no such option; it is now model.init_from', 'grid: no such option; it is now input_size')
    """
    prefix, names = f"{section}." if section else "", list(known)
    new = RENAMED.get(prefix + key) or RENAMED_OPTIONS.get(key)
    if new and new.split()[0].rpartition(".")[2] in names:
        return f"{key}: no such option; it is now {new.removeprefix(prefix)}"
    return f"{key}: no such option{nearest(key.rpartition('.')[2], names)}"


def validate_as(kind: type[BaseModel], values: dict[str, Any], section: str = "") -> Any:
    """A section of the configuration from plain values.

    Args:
        section: dotted name of the section, which messages start with; "" for a whole recipe or options of a command.

    Raises:
        ConfigError: each problem on the same line, with the key, the value and the nearest valid key.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        more = f"; and {len(problems) - MAX_PROBLEMS} more" if len(problems) > MAX_PROBLEMS else ""
        found = [_line(problem, kind, section) for problem in problems[:MAX_PROBLEMS]]
        raise ConfigError("; ".join(found) + more) from None


def _line(problem: Any, kind: type[BaseModel], section: str) -> str:
    inner = "".join(f"[{part}]" if "." in str(part) else f".{part}" for part in problem["loc"])[1:]
    where = f"{section}.{inner}" if section and inner else section or inner
    if problem["type"] == "extra_forbidden":
        return unknown_key(where, known_keys(kind, inner.rpartition(".")[0]))
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{where}: missing; give it as {where}=..."
    if problem["type"] == "value_error":
        return f"{where}.{message}" if where else message
    return f"{where}={brief(problem['input'])}: {message[0].lower()}{message[1:]}"


def known_keys(kind: type[BaseModel], dotted: str) -> list[str]:
    """Names of the options of the section ``dotted`` ('' for the top level)."""
    for part in dotted.split(".") if dotted else []:
        annotation = kind.model_fields[part].annotation if part in kind.model_fields else None
        options = [annotation, *getattr(annotation, "__args__", ())]
        kind = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), kind)
    return list(kind.model_fields)


def dotted_keys(kind: type[BaseModel], before: str = "") -> list[str]:
    """Dotted names of all options of a section and of the sections within it, without those of lists."""
    found = []
    for name, field in kind.model_fields.items():
        options = [field.annotation, *getattr(field.annotation, "__args__", ())]
        inner = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)
        found += [f"{before}{name}"] if inner is None else dotted_keys(inner, f"{before}{name}.")
    return found


def nearest_key(key: str, known: Iterable[str]) -> str:
    """'; did you mean ...?' with the whole keys whose last part is that of ``key``, else as :func:`nearest`.

    >>> nearest_key("lr", ["optim.lr", "optim.ema"]), nearest_key("model.lr", ["optim.lr"])
    ('; did you mean optim.lr?', '; did you mean optim.lr?')
    """
    names = list(known)
    whole = difflib.get_close_matches(key, names, n=1, cutoff=0.8) if "." in key else []
    if whole:
        return f"; did you mean {whole[0]}?"
    leaves: dict[str, list[str]] = {}
    for name in names:
        leaves.setdefault(name.rpartition(".")[2], []).append(name)
    close = difflib.get_close_matches(key.rpartition(".")[2], leaves, n=1, cutoff=0.75)
    ends = [name for name in leaves.get(close[0], []) if name != key] if close else []
    fewest = min((name.count(".") for name in ends), default=0)
    ends = sorted(name for name in ends if name.count(".") == fewest)  # of optim.lr and optim.swa.lr the first
    return f"; did you mean {' or '.join(ends[:4])}?" if ends else nearest(key, names)
