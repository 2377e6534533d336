"""``key=value`` arguments as typed options; the type of an option determines how its value is parsed."""

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel

from ..errors import ConfigError, brief
from .base import Strict, known_keys, unknown_key, validate_as
from .plain import NotPlain, parse_plain

QUOTES = "\"'"
MAX_COMMAS = 16  # in a name that has no quotes
_QUOTED_PART = re.compile(r"""\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)')\s*(?:,|$)""")
_PART = re.compile(r"\s*(?P<plain>[^,]*?)\s*(?:,|$)")


def typed(kind: type[Strict], pairs: dict[str, str]) -> Any:
    """Options of class ``kind`` from ``key=value`` pairs.

    Strings and paths are taken as they are, without one pair of quotes around them. A list is written ``a,b`` or
    ``[a,b]``, nested options ``{size:1024,skip_empty:true}``. Options in ``kind.READ`` are parsed by its functions.

    Raises:
        ConfigError: an unknown key, a key given twice, or an invalid value.
    """
    return validate_as(kind, parsed(kind, pairs, "predict"))


def parsed(kind: type[Strict], pairs: dict[str, str], section: str) -> dict[str, Any]:
    """The values of :func:`typed`, before they are validated.

    Args:
        section: in which keys had other names in earlier versions.

    Raises:
        ConfigError: an unknown key, a key given twice, or a text that is not a value.
    """
    values: dict[str, Any] = {}
    names = sorted({*known_keys(kind, ""), *kind.SPELLED} - set(kind.SPELLED.values()))
    for key, text in pairs.items():
        field = kind.field_of(key, text)
        if key not in names:
            raise ConfigError(unknown_key(key, names, section))
        if field in values:
            raise ConfigError(f"{key}: sets the same option as another key; give one of them")
        values[field] = kind.READ[field](text) if field in kind.READ else _value(key, text, leaves(kind, field))
    return values


def words_of(options: Strict, fields: Iterable[str]) -> list[str]:
    """The ``key=value`` words of some options, for :func:`typed`; an option that has its default needs no word."""
    spelled = {field: key for key, field in options.SPELLED.items()}
    values = options.model_dump(mode="json", exclude_defaults=True, include=set(fields))
    return [f"{spelled.get(field, field)}={_text(value)}" for field, value in values.items()]


def _text(value: Any) -> str:
    if isinstance(value, list) and not any(isinstance(part, dict | list) for part in value):
        return join_list(map(str, value))
    if isinstance(value, str):
        return f'"{value}"' if value[:1] in QUOTES or value == "null" else value
    return json.dumps(value)


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


def text_kinds(kind: type[BaseModel], dotted: str) -> set[Any] | None:
    """The types of a text option, or of a list of texts, as :func:`leaves`; None if it is anything else.

    Args:
        dotted: key of the option, with the sections that contain it.
    """
    section, _, rest = dotted.partition(".")
    if section not in kind.model_fields:
        return None
    kinds = leaves(kind, section)
    if rest:
        inner = [one for one in kinds if isinstance(one, type) and issubclass(one, BaseModel)]
        return text_kinds(inner[0], rest) if inner else None
    plain = kinds - {type(None)}
    if plain and plain <= {str, Path}:
        return kinds
    return kinds if plain == {list} and _items(kind.model_fields[section].annotation) <= {str} else None


def _items(annotation: Any) -> set[Any]:
    """The types of the items of a list, wherever it is within an annotation."""
    if get_origin(annotation) is list:
        return _scalars(get_args(annotation)[0])
    return set().union(*map(_items, get_args(annotation)))


def _scalars(annotation: Any) -> set[Any]:
    if get_origin(annotation) is Literal:
        return {type(value) for value in get_args(annotation)}
    if get_origin(annotation) is Annotated:
        return _scalars(get_args(annotation)[0])
    return {annotation}


def _value(key: str, text: str, kinds: set[Any]) -> Any:
    if list in kinds:
        return split_list(text)
    if kinds & {str, Path}:
        return text_value(key, text, kinds)
    if any(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in kinds):
        text = re.sub(r":(?=\S)", ": ", text)  # as in Hydra, spaces are optional
    try:
        return parse_plain(text)
    except NotPlain as error:
        why = str(error).partition(" at line")[0]
        raise ConfigError(f"{key}={brief(text)[1:-1]}: not a value ({why})") from None


def text_value(key: str, text: str, kinds: set[Any]) -> str | None:
    """The value of an option that is a string or a path: the text itself, or None for ``null`` if that is a value.

    One pair of quotes around it is left out, unless a file has that name.

    Raises:
        ConfigError: an empty path.

    >>> text_value("a", "한글 (사본), [1]", {str}), text_value("a", "'b'", {Path}), text_value("a", "null", {str})
    ('한글 (사본), [1]', 'b', 'null')
    """
    if text == "null" and type(None) in kinds:
        return None
    if len(text) > 1 and text[0] in QUOTES and text[-1] == text[0] and not (Path in kinds and os.path.lexists(text)):
        text = text[1:-1]
    if not text and Path in kinds:
        raise ConfigError(f"{key}=: expected the name of a file or folder")
    return text


def split_list(text: str) -> list[str]:
    """The parts of ``a,b`` or ``[a,b]``; those with commas are in quotes.

    >>> split_list("[a, b]"), split_list("'a, b',c[1]"), split_list("it's,")
    (['a', 'b'], ['a, b', 'c[1]'], ["it's"])
    """
    text = text.strip()
    if text.startswith("[") and _closing(text) == len(text) - 1:
        text = text[1:-1]
    found, place = list[str](), 0
    while place < len(text):
        match = _QUOTED_PART.match(text, place) or _PART.match(text, place)
        assert match is not None  # the second fits any text
        found.append(match[match.lastgroup or "plain"])
        place = match.end()
    return [part for part in found if part]


def _closing(text: str) -> int:
    """Where the bracket is closed that a text begins with; -1: nowhere."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "[") - (letter == "]")
        if not depth:
            return place
    return -1


def join_list(parts: Iterable[str]) -> str:
    """A list that :func:`split_list` splits into these parts."""
    return ",".join(_quoted(part) if _needs_quotes(part) else part for part in parts)


def _needs_quotes(part: str) -> bool:
    return "," in part or part != part.strip() or part[:1] in (*QUOTES, "[")


def _quoted(part: str) -> str:
    mark = "'" if '"' in part else '"'
    return f"{mark}{part}{mark}"  # with both in a name that also has a comma, no spelling is left


def split_names(text: str) -> list[str]:
    """As :func:`split_list`, of files or folders, whose names may have commas without quotes if they exist."""
    if os.path.lexists(text):
        return [text]
    parts, found = text.split(","), list[str]()
    while parts:
        joined = (n for n in range(1, min(len(parts), MAX_COMMAS + 1) + 1) if os.path.lexists(",".join(parts[:n])))
        count = next(joined, 1)
        found.append(",".join(parts[:count]))
        parts = parts[count:]
    return found if any("," in name for name in found) else split_list(text)
