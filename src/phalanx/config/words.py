"""``key=value`` arguments as typed options; the type of an option determines how its value is parsed."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel

from ..errors import ConfigError
from .base import Strict, known_keys, unknown_key, validate_as


def typed(kind: type[Strict], pairs: dict[str, str]) -> Any:
    """Options of class ``kind`` from ``key=value`` pairs.

    Strings and paths are taken as they are. A list is written ``a,b`` or ``[a,b]``, nested options
    ``{size:1024,skip_empty:true}``. Options in ``kind.READ`` are parsed by its functions.

    Raises:
        ConfigError: an unknown key, a key given twice, or an invalid value.
    """
    values: dict[str, Any] = {}
    names = sorted({*known_keys(kind, ""), *kind.SPELLED} - set(kind.SPELLED.values()))
    for key, text in pairs.items():
        field = kind.field_of(key, text)
        if key not in names:
            raise ConfigError(unknown_key(key, names, "predict"))
        if field in values:
            raise ConfigError(f"{key}: sets the same option as another key; give one of them")
        values[field] = kind.READ[field](text) if field in kind.READ else _value(key, text, leaves(kind, field))
    return validate_as(kind, values)


def words_of(options: Strict, fields: Iterable[str]) -> list[str]:
    """The ``key=value`` words of some options, for :func:`typed`; an option that has its default needs no word."""
    spelled = {field: key for key, field in options.SPELLED.items()}
    values = options.model_dump(mode="json", exclude_defaults=True, include=set(fields))
    return [f"{spelled.get(field, field)}={_text(value)}" for field, value in values.items()]


def _text(value: Any) -> str:
    if isinstance(value, list) and not any(isinstance(part, dict | list) for part in value):
        return ",".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)


def leaves(kind: type[BaseModel], field: str) -> set[Any]:
    """The types that an option may have, without unions and annotations; of containers only the outer type."""
    found, pending = set(), [kind.model_fields[field].annotation]
    while pending:
        one = pending.pop()
        origin = get_origin(one)
        if origin in (list, tuple, dict):
            found.add(origin)
        elif origin is Literal:
            found |= {type(value) for value in get_args(one)}
        elif get_args(one):
            pending += [part for part in get_args(one) if isinstance(part, type) or get_origin(part) is not None]
        else:
            found.add(one)
    return found


def _value(key: str, text: str, kinds: set[Any]) -> Any:
    if list in kinds:
        return [part.strip() for part in text.strip("[]").split(",") if part.strip()]
    if kinds & {str, Path}:
        return text
    if any(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in kinds):
        text = re.sub(r":(?=\S)", ": ", text)  # as in Hydra, spaces are optional
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"{key}={text}: not a value") from None
