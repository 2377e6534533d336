"""Files that ``postprocess=`` names: read, and refused with one message whatever is in them."""

from pathlib import Path
from typing import TypeVar

from ..errors import ConfigError, DataError, brief, one_line
from ..runtime.reading import fault, read_mapping
from .base import Strict, validate_as

Kind = TypeVar("Kind", bound=Strict)


def read_tuned(kind: type[Kind], path: Path, made_by: str, earlier: dict[str, str] | None = None) -> Kind:
    """A file of post-processing, calibration or thresholds.

    Args:
        kind: of the file; its field ``format`` has the format as its default.
        made_by: the command that makes such files.
        earlier: what to call formats that are no longer read.

    Raises:
        ConfigError: no such file, one of another format, or one with impossible values.
    """
    expected, remedy = kind.model_fields["format"].default, f"make it with {made_by}"
    try:
        values = read_mapping(path, remedy=remedy)
        found = values.get("format")
        if isinstance(found, str) and found in (earlier or {}):
            raise fault(path, f"its format {found!r} is {(earlier or {})[found]}", remedy)
        if found != expected:
            raise fault(path, f"its format is {brief(found)}, not {expected!r}", remedy)
    except DataError as error:
        raise ConfigError(f"postprocess={error}") from None
    try:
        made = validate_as(kind, values)
    except ConfigError as error:
        raise ConfigError(f"postprocess={path}: {one_line(str(error))}; make it again with {made_by}") from None
    assert isinstance(made, kind)
    return made
