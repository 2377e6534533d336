"""Base class, types and error messages of all sections of the configuration."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import ConfigError

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]

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

    model_config = ConfigDict(extra="forbid", validate_default=True)
    SPELLED: ClassVar[Mapping[str, str]] = {}
    READ: ClassVar[Mapping[str, Callable[[str], Any]]] = {}

    @classmethod
    def field_of(cls, key: str, text: str) -> str:
        """The option that ``key=text`` on the command line sets."""
        return cls.SPELLED.get(key, key)


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
        ConfigError: one line per problem, each with the key, the value and the nearest valid key.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        lines = [_line(problem, kind, section) for problem in error.errors()]
        raise ConfigError("\n".join(lines)) from None


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
    return f"{where}={problem['input']!r}: {message[0].lower()}{message[1:]}"


def known_keys(kind: type[BaseModel], dotted: str) -> list[str]:
    """Names of the options of the section ``dotted`` ('' for the top level)."""
    for part in dotted.split(".") if dotted else []:
        annotation = kind.model_fields[part].annotation if part in kind.model_fields else None
        options = [annotation, *getattr(annotation, "__args__", ())]
        kind = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), kind)
    return list(kind.model_fields)
