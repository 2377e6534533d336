"""Words of a command line: positional ones, such as files, and ``key=value`` pairs."""

from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError

SWITCHES = ("partial",)  # may stand alone, for =true


def plain_words(words: Sequence[str]) -> list[str]:
    """Words with ``--key value``, ``--key=value`` and a switch alone read as ``key=value``.

    Raises:
        ConfigError: a key without a value.

    >>> plain_words(["a.csv", "--json", "out.json", "--test-patients=3", "--partial", "size=48x64"])
    ['a.csv', 'json=out.json', 'test_patients=3', 'partial=true', 'size=48x64']
    """
    found, stream = list[str](), iter(words)
    for word in stream:
        if not word.startswith("--"):
            found.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        key = name.replace("-", "_")
        if not equals:
            value = "true" if key in SWITCHES else next(stream, "")
        if not key or not value or (not equals and value.startswith("--")):
            raise ConfigError(f"--{name}: needs a value, as in {key}=VALUE")
        found.append(f"{key}={value}")
    return found


def split_places(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Places, in their order, and ``key=value`` pairs; a word that names an existing file is a place.

    Raises:
        ConfigError: a key that is given twice.
    """
    places, pairs = list[str](), dict[str, str]()
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or Path(word).exists():
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


def switch(pairs: dict[str, str], key: str) -> bool:
    """Whether ``key=true`` was given, taken out of the pairs.

    Raises:
        ConfigError: something other than true or false.
    """
    value = pairs.pop(key, "false")
    if value not in ("true", "false"):
        raise ConfigError(f"{key}={value}: expected true or false")
    return value == "true"
