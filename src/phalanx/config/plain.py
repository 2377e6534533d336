"""Reads YAML of plain scalars, lists and maps, without references, tags or expansion, in time linear in its length."""

import math
import re
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError, DataError
from ..runtime.reading import MAX_DEPTH, MAX_DIGITS, decode, read_bytes

MAX_BYTES = 256 << 10  # a run's configuration has a few thousand
_TAG = "tag:yaml.org,2002:"
_WHOLE = re.compile(r"[+-]?(0|[1-9][0-9]*)")
_REAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,9})?")
_TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_RESOLVER = yaml.resolver.Resolver()
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same events, a hundred times as fast
_END = object()


class NotPlain(ValueError):
    """What is wrong with a YAML text, on one line."""


def read_plain(path: Path) -> dict[str, Any]:
    """The map in a YAML file of plain scalars, lists and maps.

    Raises:
        ConfigError: the file cannot be read, or contains anything else.
    """
    try:
        values = parse_plain(decode(read_bytes(path, MAX_BYTES)))
    except DataError as error:
        raise ConfigError(str(error)) from None
    except NotPlain as error:
        raise ConfigError(f"{path}: is not plain YAML ({error})") from None
    except ValueError as error:  # of decoding
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: contains no options")
    return values


def parse_plain(text: str) -> Any:
    """The value of a YAML text of plain scalars, lists and maps; None of an empty one.

    Raises:
        NotPlain: it is not YAML, contains references, tags, duplicate keys or keys that are not text, is nested deeper
            than ``MAX_DEPTH``, or has a number that is not finite, not decimal, or has more than ``MAX_DIGITS`` digits.

    >>> parse_plain("a: [1, 2.5, null, yes, 'b']")
    {'a': [1, 2.5, None, True, 'b']}
    """
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.add(event)
    except (yaml.YAMLError, UnicodeEncodeError, RecursionError) as error:
        raise NotPlain(" ".join(str(error).split())[:300]) from None
    return builder.value


class _Builder:
    """Makes a value of YAML's events without recursion."""

    def __init__(self) -> None:
        self.value: Any = None
        self.documents = 0
        self.open: list[tuple[dict[str, Any] | list[Any], Any]] = []  # containers, with the pending key of a map

    def add(self, event: Any) -> None:
        """Takes the next event. Raises NotPlain."""
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                raise _fault("has several documents", event)
        elif isinstance(event, yaml.NodeEvent):
            if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
                raise _fault("has a reference (& or *)", event)
            if isinstance(event, yaml.ScalarEvent):
                self._put(self._scalar(event), event)
                return
            if event.tag not in (None, "!", f"{_TAG}map", f"{_TAG}seq"):  # type: ignore[attr-defined]
                raise _fault("has a tag", event)
            if len(self.open) >= MAX_DEPTH:
                raise _fault(f"is nested deeper than {MAX_DEPTH} levels", event)
            if self.open and isinstance(self.open[-1][0], dict) and self.open[-1][1] is _END:
                raise _fault("has a key that is not text", event)
            self.open.append(({} if isinstance(event, yaml.MappingStartEvent) else [], _END))
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._put(self.open.pop()[0], event)

    def _put(self, value: Any, event: Any) -> None:
        if not self.open:
            self.value = value
            return
        container, key = self.open[-1]
        if isinstance(container, list):
            container.append(value)
        elif key is _END:
            if not isinstance(value, str) or value in container:
                raise _fault(f"key {str(value)[:40]!r} is not text, or appears twice", event)
            self.open[-1] = container, value
        else:
            container[key] = value
            self.open[-1] = container, _END

    def _scalar(self, event: Any) -> Any:
        """The value of a scalar by YAML's rules."""
        tag = event.tag
        if tag in (None, "!"):
            tag = _RESOLVER.resolve(yaml.ScalarNode, event.value, event.implicit)
        kind, text = str(tag).removeprefix(_TAG), event.value
        try:
            return _scalar(kind, text)
        except ValueError as error:
            raise _fault(str(error), event) from None


def _scalar(kind: str, text: str) -> Any:
    if kind == "str":
        return text
    if kind == "null":
        return None
    if kind == "bool" and text.lower() in _TRUTH:
        return _TRUTH[text.lower()]
    if kind == "int":
        if not _WHOLE.fullmatch(text) or len(text.lstrip("+-")) > MAX_DIGITS:
            raise ValueError(f"{text[:24]!r} is not a decimal number of at most {MAX_DIGITS} digits")
        return int(text)
    if kind == "float":
        value = float(text) if _REAL.fullmatch(text) else math.inf
        if not math.isfinite(value):
            raise ValueError(f"{text[:24]!r} is not a finite decimal number")
        return value
    raise ValueError(f"{text[:24]!r} is a {kind}, which needs quotes")


def _fault(text: str, event: Any) -> NotPlain:
    mark = event.start_mark
    return NotPlain(f"{text} at line {mark.line + 1}, column {mark.column + 1}")


def flatten(values: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Nested dictionaries as one with dotted keys.

    >>> flatten({"a": {"b": 1}, "c": 2})
    {'a.b': 1, 'c': 2}
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{before}{key}."))
        else:
            flat[f"{before}{key}"] = value
    return flat
