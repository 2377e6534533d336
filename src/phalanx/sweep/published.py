"""The published numbers, each once with its recipe: configs/published.yaml."""

from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..config import Strict, read_plain, validate_as
from ..config.compose import config_folder
from ..errors import ConfigError


class Published(Strict):
    """A published Dice, a difference from the baseline that ``recipe`` names, or one from validation to a test."""

    dice: Annotated[float, Field(gt=0, lt=1)] | None = None
    gain: Annotated[float, Field(gt=-1, lt=1)] | None = None
    gap: Annotated[float, Field(gt=-1, lt=1)] | None = None  # the Dice of ``score`` less that of validation
    score: Literal["validation", "public", "private", "fold"]
    recipe: str = Field(min_length=1)
    models: list[str] = Field(default=[])  # files of configs/model/ whose header gives it

    @model_validator(mode="after")
    def _says_something(self) -> "Published":
        if self.dice is None and self.gain is None and self.gap is None:
            raise ValueError("dice: or gain: or gap: is needed")
        return self


def read_published() -> dict[str, Published]:
    """All published numbers by key.

    Raises:
        ConfigError: the file is missing, or an entry is wrong.
    """
    return _read(config_folder() / "published.yaml")


@cache
def _read(path: Path) -> dict[str, Published]:
    found = {}
    for key, entry in read_plain(path).items():
        try:
            found[key] = validate_as(Published, entry)
        except ConfigError as error:
            raise ConfigError(f"{path}: {key}: {error}") from None
    return found
