"""The decisions file: what `phalanx decide` kept, checked against the members it is applied to."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ..config import Count, Strict, validate
from ..errors import ConfigError, DataError
from ..masks.stack import Stack
from ..runtime.files import write_json
from .components import Cleaning
from .maps import Maps, Size, stack_of_parts
from .soft import SoftMember

FORMAT: Literal["phalanx-decided-1"] = "phalanx-decided-1"


class DecidedMember(Strict):
    """A member of the mean; ``hashes``: of its folds' weights, by folder; ``votes`` 0: left out."""

    name: str
    votes: Annotated[int, Field(ge=0)]
    hashes: dict[str, str]


class Decided(Strict):
    """What replaces equal votes, one threshold and untouched masks. Classes that are not named keep these."""

    format: Literal["phalanx-decided-1"] = FORMAT
    classes: list[str]
    members: Annotated[list[DecidedMember], Field(min_length=1)]
    threshold: Annotated[float, Field(gt=0, lt=1)]
    thresholds: dict[str, Annotated[float, Field(gt=0, lt=1)]]
    smallest: dict[str, Count]  # pixels of the image; smaller parts are removed
    largest: list[str]
    holes: list[str]
    verdicts: list[dict[str, Any]]  # the table, for people

    @model_validator(mode="after")
    def _known(self) -> "Decided":
        for key in ("thresholds", "smallest", "largest", "holes"):
            for name in getattr(self, key):
                if name not in self.classes:
                    raise ValueError(f"{key}: {name!r} is none of the file's classes")
        if not any(member.votes for member in self.members):
            raise ValueError("members: none has a vote")
        return self

    @classmethod
    def read(cls, path: Path) -> "Decided":
        """A decisions file.

        Raises:
            ConfigError: none, or one with impossible values.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(values, dict) or values.get("format") != FORMAT:
                raise ValueError(f"its format is not {FORMAT!r}")
        except (OSError, ValueError, RecursionError) as error:
            told = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(f"decided={path}: no decisions file ({told}); make it with phalanx decide") from None
        try:
            return validate(values, cls)
        except ConfigError as error:
            raise ConfigError(f"decided={path}: {error}; make it again with phalanx decide") from None

    def write(self, path: Path) -> None:
        """Writes the file, whole or not at all."""
        write_json(path, self.model_dump(mode="json"))

    def votes_of(self, members: Sequence[SoftMember]) -> list[int]:
        """The votes of each member, 0 for one that was decided against.

        Raises:
            DataError: other classes, or other members than were decided about.
        """
        for member in members:
            if list(member.classes) != self.classes:
                raise DataError(f"{member.name}: has other classes than the decisions were made for; decide anew")
        known = {frozenset(decided.hashes.values()): decided for decided in self.members}
        votes = []
        for member in members:
            found = known.pop(frozenset(member.hashes.values()), None)
            if found is None:
                names = ", ".join(decided.name for decided in self.members)
                raise DataError(
                    f"{member.name}: decisions were made for the weights of {names}, each once; name these members "
                    "with the same folds and weights, or decide anew"
                )
            votes.append(found.votes)
        absent = [decided.name for decided in known.values() if decided.votes]
        if absent:
            raise DataError(f"members: the decisions count on {absent[0]} too; name it as well, or decide anew")
        return votes

    def stack(self, parts: Sequence[tuple[Maps, float]], size: Size) -> Stack:
        """The masks of the mean that ``parts`` add up to, as `stack_of_parts`."""
        cleanings = {
            c: Cleaning(smallest=self.smallest.get(name, 0), largest=name in self.largest, holes=name in self.holes)
            for c, name in enumerate(self.classes)
            if name in self.smallest or name in self.largest or name in self.holes
        }
        thresholds = [self.thresholds.get(name, self.threshold) for name in self.classes]
        return stack_of_parts(parts, size, thresholds, cleanings)
