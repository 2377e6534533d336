"""Words of a command line: positional ones, such as files, and ``key=value`` pairs."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError, shown

SWITCHES = ("partial",)  # may stand alone, for =true
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f]")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")


def plain_words(words: Sequence[str]) -> list[str]:
    """Words with ``--key value``, ``--key=value`` and a switch alone read as ``key=value``.

    Raises:
        ConfigError: a key without a value; a word that is not text of one line, or has a home folder ``~``, which the
            shell replaces at the beginning of a word only.

    >>> plain_words(["a.csv", "--json", "out.json", "--test-patients=3", "--partial", "size=48x64"])
    ['a.csv', 'json=out.json', 'test_patients=3', 'partial=true', 'size=48x64']
    """
    found, stream = list[str](), iter(words)
    for word in words:
        refuse_unusable(word)
    for word in stream:
        if not word.startswith("--"):
            found.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        key = name.replace("-", "_")
        if not equals:
            value = "true" if key in SWITCHES else next(stream, "")
        if not key or not value or (not equals and value.startswith("--")):
            raise ConfigError(
                f"--{name}: needs a value, as in {key}=VALUE; a file whose name begins with -- is written ./--{name}"
            )
        found.append(f"{key}={value}")
    return found


def refuse_unusable(word: str) -> None:
    """Raises ConfigError for a word that no option and no file of ours can have; see :func:`plain_words`."""
    try:
        word.encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"{shown(word)}: is not UTF-8, so it cannot be written to CSV and YAML files; rename that file or folder, "
            "or make a link to it with another name"
        ) from None
    if _CONTROL.search(word):
        raise ConfigError(f"{shown(word)}: has a line break or control character; rename that file or folder")
    value = word.partition("=")[2] or word
    if (value == "~" or value.startswith("~/")) and not os.path.lexists("~"):
        raise ConfigError(f"{word}: '~' is not replaced within a word; write $HOME{value[1:]}")


def split_places(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Places, in their order, and ``key=value`` pairs; a word that names an existing file, or has a slash before its
    first '=', is a place.

    Raises:
        ConfigError: a key that is given twice.
    """
    places, pairs = list[str](), dict[str, str]()
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or "/" in key or os.path.exists(word):
            places.append(word)
        elif key in pairs:
            raise ConfigError(f"{key}: given twice")
        else:
            pairs[key] = value
    return places, pairs


def report_path(pairs: dict[str, str], kind: str) -> Path | None:
    """The file of ``json=``, taken out of the pairs, if it was given.

    Raises:
        OutputError: the file exists and is not a report of this kind.
    """
    if "json" not in pairs:
        return None

    from ..runtime.files import check_report

    path = Path(pairs.pop("json"))
    check_report(path, kind)
    return path


def number_of(text: str) -> float | None:
    """The finite number that a text is, in plain decimal digits; None if it is something else.

    >>> number_of("0.14"), number_of("1e-3"), number_of("1_0"), number_of("nan"), number_of("1e999")
    (0.14, 0.001, None, None, None)
    """
    value = float(text) if len(text) < 100 and _NUMBER.fullmatch(text) else float("inf")
    return value if abs(value) < float("inf") else None


def switch(pairs: dict[str, str], key: str) -> bool:
    """Whether ``key=true`` was given, taken out of the pairs.

    Raises:
        ConfigError: something other than true or false.
    """
    value = pairs.pop(key, "false")
    if value not in ("true", "false"):
        raise ConfigError(f"{key}={value}: expected true or false")
    return value == "true"
