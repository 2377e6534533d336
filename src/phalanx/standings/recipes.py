"""Keys in which recipes differ, and words that choose among recipes."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from ..config import RUNTIME_KEYS, nearest_key
from ..config.plain import NotPlain, parse_plain
from ..errors import ConfigError

NOT_RESULTS = {*RUNTIME_KEYS, "name", "format"}  # differ without a difference in the result


def differing(recipes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Dotted keys whose values differ between recipes, in the recipes' order; those of machines are left out."""
    keys = dict.fromkeys(key for recipe in recipes for key in recipe)
    return [
        key
        for key in keys
        if key not in NOT_RESULTS
        and not key.startswith("data.phantom.")  # it only matters through data.root
        and any(recipe.get(key) != recipes[0].get(key) for recipe in recipes[1:])
    ]


def short_names(keys: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """A heading for each key: its last part, or as many as tell it from the others.

    >>> short_names(["optim.lr", "loss.name", "model.name"])
    {'optim.lr': 'lr', 'loss.name': 'loss.name', 'model.name': 'model.name'}
    """
    all_keys, found = list(keys), dict[str, str]()
    for key in all_keys:
        parts = key.split(".")
        names = [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]
        others = [other for other in all_keys if other != key]
        found[key] = next(
            (
                name
                for name in names
                if name not in taken and not any(other == name or other.endswith(f".{name}") for other in others)
            ),
            key,
        )
    return found


def text_of(value: Any) -> str:
    """A value as the command line takes it.

    >>> text_of(None), text_of(True), text_of([1, "a"]), text_of(0.0003), text_of("x")
    ('null', 'true', '[1,a]', '0.0003', 'x')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(text_of, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{text_of(one)}" for key, one in value.items()) + "}"
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def matches(value: Any, wanted: str) -> bool:
    """Whether a value is what a word asks for: the same value, or text with ``*``.

    >>> matches(0.0001, "1e-4"), matches("fpn", "f*"), matches(["a", "b"], "[a, b]"), matches(None, "null")
    (True, True, True, True)
    """
    try:
        if parse_plain(wanted) == value and isinstance(value, bool) == isinstance(parse_plain(wanted), bool):
            return True
    except NotPlain:
        pass
    return text_of(value) == wanted or fnmatchcase(text_of(value), wanted)


def chosen(recipe: Mapping[str, Any], filters: Mapping[str, str]) -> bool:
    """Whether a recipe has all values that words ask for."""
    return all(key in recipe and matches(recipe[key], wanted) for key, wanted in filters.items())


def check_filters(filters: Mapping[str, str], recipes: Sequence[Mapping[str, Any]], own: Sequence[str]) -> None:
    """Raises ConfigError for a key that no recipe has. ``own``: keys of the command."""
    keys = dict.fromkeys(key for recipe in recipes for key in recipe)
    for key in filters:
        if key not in keys:
            raise ConfigError(f"{key}: no listed recipe has this key{nearest_key(key, [*own, *keys])}")
