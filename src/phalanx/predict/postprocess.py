"""The post-processing file that `phalanx tune` writes, checked against the members it is applied to."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ..config import Strict
from ..config.tuned import read_tuned
from ..errors import DataError, one_line
from ..masks.stack import Stack
from ..runtime.files import write_json
from ..runtime.sidecar import MAX_PIXELS
from ..runtime.terminal import say
from .components import Cleaning
from .maps import ProbabilityMaps, Size, stack_of_parts
from .soft import SoftMember

EARLIER_FORMATS = {"phalanx-decided-1": "that of phalanx decide in an earlier version"}
MAX_VOTES = 999_999_999


class TunedMember(Strict):
    """A member of the mean.

    Attributes:
        votes: 0 if it is left out.
        hashes: SHA-256 of its folds' weights, by folder.
        options: with which its maps were made, as `soft.made_with`; None if they do not record it.
    """

    name: str
    votes: Annotated[int, Field(ge=0, le=MAX_VOTES)]
    hashes: Annotated[dict[str, str], Field(min_length=1)]
    options: dict[str, Any] | None = None

    def check_options(self, member: SoftMember) -> None:
        """Compares how the maps of a member are made with how those were that it was tuned on.

        Another precision, and maps that do not record their options, are noted.

        Raises:
            DataError: other views, sizes or windows.
        """
        if self.options is None or member.options is None:
            which = "its maps do" if self.options else "postprocess= does"
            say(f"note: {member.name}: {which} not record the options of prediction; they are not compared")
            return
        for key, was in self.options.items():
            now = member.options.get(key)
            if now == was:
                continue
            text = f"{member.name}: has {one_line(key, 40)} {_shown(now)}, postprocess= was tuned with {_shown(was)}"
            if key != "precision":
                raise DataError(f"{text}; predict with the same options, or tune again")
            say(f"note: {text}")


def _shown(value: Any) -> str:
    return one_line(json.dumps(value, ensure_ascii=False), 100)


class PostProcessing(Strict):
    """What replaces equal votes, one threshold and masks as they are. Classes that are not named keep these."""

    format: Literal["phalanx-postprocess-1"] = "phalanx-postprocess-1"
    classes: Annotated[list[str], Field(min_length=1)]
    members: Annotated[list[TunedMember], Field(min_length=1)]
    threshold: Annotated[float, Field(gt=0, lt=1)]
    thresholds: dict[str, Annotated[float, Field(gt=0, lt=1)]]
    smallest: dict[str, Annotated[int, Field(ge=1, le=MAX_PIXELS)]]  # pixels of the image; smaller parts are removed
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
        """A post-processing file. Raises as :func:`~phalanx.config.tuned.read_tuned`."""
        return read_tuned(cls, path, "phalanx tune", EARLIER_FORMATS)

    def write(self, path: Path) -> None:
        """Writes the file, whole or not at all."""
        write_json(path, self.model_dump(mode="json"))

    def votes_of(self, members: Sequence[SoftMember]) -> list[int]:
        """The votes of each member, 0 for one that is left out.

        Raises:
            DataError: other classes, or other members than it was tuned on, or the same predicted otherwise.
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
            found.check_options(member)
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
