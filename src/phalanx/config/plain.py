"""Reads YAML of plain scalars, lists and maps, without references, tags or expansion."""

from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError

MAX_BYTES = 1 << 20  # a run's configuration has a few thousand
PLAIN = ("str", "int", "float", "bool", "null", "seq", "map")


class _Loader(yaml.SafeLoader):
    """Raises an error for anchors, other tags, and duplicate keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if getattr(event, "anchor", None) is not None:
            raise yaml.MarkedYAMLError(None, None, "has a reference (& or *)", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value if isinstance(key, yaml.ScalarNode) else None for key, _ in node.value]
        for (key, _), name in zip(node.value, names, strict=True):
            if key.tag != "tag:yaml.org,2002:str" or names.count(name) > 1:
                raise yaml.MarkedYAMLError(None, None, f"key {name!r} is not text, or appears twice", key.start_mark)
        return super().construct_mapping(node, deep)


_Loader.yaml_constructors = {
    tag: make
    for tag, make in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.removeprefix("tag:yaml.org,2002:") in PLAIN
}


def read_plain(path: Path) -> dict[str, Any]:
    """The map in a YAML file of plain scalars, lists and maps.

    Raises:
        ConfigError: the file cannot be read, or contains anything else.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ConfigError(f"{path}: has more than {MAX_BYTES >> 20} MiB, so it is not a configuration")
        values = yaml.load(content, _Loader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except ConfigError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not plain YAML ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: contains no options")
    return values


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
