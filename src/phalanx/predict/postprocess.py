"""The post-processing file that `phalanx tune` writes, checked against the members it is applied to."""

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
from .maps import ProbabilityMaps, Size, stack_of_parts
from .soft import SoftMember

FORMAT: Literal["phalanx-postprocess-1"] = "phalanx-postprocess-1"
EARLIER_FORMAT = "phalanx-decided-1"


class TunedMember(Strict):
    """A member of the mean.

    Attributes:
        votes: 0 if it is left out.
        hashes: SHA-256 of its folds' weights, by folder.
    """

    name: str
    votes: Annotated[int, Field(ge=0)]
    hashes: dict[str, str]


class PostProcessing(Strict):
    """What replaces equal votes, one threshold and masks as they are. Classes that are not named keep these."""

    format: Literal["phalanx-postprocess-1"] = FORMAT
    classes: list[str]
    members: Annotated[list[TunedMember], Field(min_length=1)]
    threshold: Annotated[float, Field(gt=0, lt=1)]
    thresholds: dict[str, Annotated[float, Field(gt=0, lt=1)]]
    smallest: dict[str, Count]  # pixels of the image; smaller parts are removed
    largest: list[str]
    holes: list[str]
    choices: list[dict[str, Any]]  # the table, for people

    @model_validator(mode="after")
    def _known(self) -> "PostProcessing":
        for key in ("thresholds", "smallest", "largest", "holes"):
            for name in getattr(self, key):
                if name not in self.classes:
                    raise ValueError(f"{key}: {name!r} is not one of the file's classes")
        if not any(member.votes for member in self.members):
            raise ValueError("members: none has a vote")
        return self

    @classmethod
    def read(cls, path: Path) -> "PostProcessing":
        """A post-processing file.

        Raises:
            ConfigError: no such file, one of another format, or one with impossible values.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            found = values.get("format") if isinstance(values, dict) else None
            if found == EARLIER_FORMAT:
                raise ValueError(f"its format {found!r} is that of phalanx decide in an earlier version")
            if found != FORMAT:
                raise ValueError(f"its format is not {FORMAT!r}")
        except (OSError, ValueError, RecursionError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(
                f"postprocess={path}: not a post-processing file ({reason}); make it with phalanx tune"
            ) from None
        try:
            return validate(values, cls)
        except ConfigError as error:
            raise ConfigError(f"postprocess={path}: {error}; make it again with phalanx tune") from None

    def write(self, path: Path) -> None:
        """Writes the file, whole or not at all."""
        write_json(path, self.model_dump(mode="json"))

    def votes_of(self, members: Sequence[SoftMember]) -> list[int]:
        """The votes of each member, 0 for one that is left out.

        Raises:
            DataError: other classes, or other members than it was tuned on.
        """
        for member in members:
            if list(member.classes) != self.classes:
                raise DataError(f"{member.name}: has other classes than postprocess= was tuned on; tune again")
        known = {frozenset(tuned.hashes.values()): tuned for tuned in self.members}
        votes = []
        for member in members:
            found = known.pop(frozenset(member.hashes.values()), None)
            if found is None:
                names = ", ".join(tuned.name for tuned in self.members)
                raise DataError(
                    f"{member.name}: postprocess= was tuned on the weights of {names}, each once; name these members "
                    "with the same folds and weights, or tune again"
                )
            votes.append(found.votes)
        absent = [tuned.name for tuned in known.values() if tuned.votes]
        if absent:
            raise DataError(f"members: postprocess= needs {absent[0]} too; name it as well, or tune again")
        return votes

    def stack(self, parts: Sequence[tuple[ProbabilityMaps, float]], size: Size) -> Stack:
        """The masks of the mean that ``parts`` add up to, as `stack_of_parts`."""
        cleanings = {
            c: Cleaning(smallest=self.smallest.get(name, 0), largest=name in self.largest, holes=name in self.holes)
            for c, name in enumerate(self.classes)
            if name in self.smallest or name in self.largest or name in self.holes
        }
        thresholds = [self.thresholds.get(name, self.threshold) for name in self.classes]
        return stack_of_parts(parts, size, thresholds, cleanings)
