"""What every section of the configuration is made of, and how it answers to a mistake."""

import difflib
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import ConfigError

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Strict(BaseModel):
    """Options of which every key is known.

    Attributes:
        SPELLED: option by the key that a command line has for it, if that is another one.
        READ: how the text of an option is read, if its type does not say so.
    """

    model_config = ConfigDict(extra="forbid", validate_default=True)
    SPELLED: ClassVar[Mapping[str, str]] = {}
    READ: ClassVar[Mapping[str, Callable[[str], Any]]] = {}

    @classmethod
    def field_of(cls, key: str, text: str) -> str:
        """The option that a command line's ``key=text`` means."""
        return cls.SPELLED.get(key, key)


def nearest(word: str, known: Any) -> str:
    """', did you mean ...?' for the closest known word, or the list where nothing is close.

    >>> nearest("epoch", ["epochs", "batch"])
    '; did you mean epochs?'
    """
    names = sorted(map(str, known))
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known: {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}"


def validate_as(kind: type[BaseModel], values: dict[str, Any]) -> Any:
    """A section of a kind from plain values.

    Raises:
        ConfigError: one line a problem, each with the key, the value and the nearest valid key.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        lines = [_line(problem, kind) for problem in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def _line(problem: Any, kind: type[BaseModel]) -> str:
    where = "".join(f"[{part}]" if "." in str(part) else f".{part}" for part in problem["loc"])[1:]
    if problem["type"] == "extra_forbidden":
        parent, _, key = where.rpartition(".")
        return f"{where}: no such option{nearest(key, known_keys(kind, parent))}"
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
