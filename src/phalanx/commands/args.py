"""Words of a command line: flags with their values, places, and key=value pairs."""

from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError


def split_flags(words: Sequence[str], known: dict[str, bool]) -> tuple[dict[str, str], list[str], dict[str, str]]:
    """Flags (with their values), other words, and key=value pairs. ``known``: flag to whether it takes a value."""
    flags: dict[str, str] = {}
    places: list[str] = []
    pairs: dict[str, str] = {}
    stream = iter(words)
    for word in stream:
        name, equals, value = word.partition("=")
        if word.startswith("--"):
            if name not in known:
                from ..config import nearest

                raise ConfigError(f"{name}: no such flag{nearest(name, known)}")
            if known[name] and not equals:
                value = next(stream, "")
                if not value:
                    raise ConfigError(f"{name}: needs a value")
            flags[name] = value
        elif equals and not Path(word).exists():
            pairs[name] = value
        else:
            places.append(word)
    return flags, places, pairs


def report_path(flags: dict[str, str], kind: str) -> Path | None:
    """The file of ``--json``, if it was given.

    Raises:
        OutputError: it may not be written: it holds something else than a report of this kind.
    """
    if "--json" not in flags:
        return None

    from ..runtime.files import check_report

    check_report(Path(flags["--json"]), kind)
    return Path(flags["--json"])


def whole(flags: dict[str, str], name: str, default: int | None) -> int | None:
    """A flag's whole number."""
    if name not in flags:
        return default
    try:
        return int(flags[name])
    except ValueError:
        raise ConfigError(f"{name} {flags[name]}: expected a whole number") from None
