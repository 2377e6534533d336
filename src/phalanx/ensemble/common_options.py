"""Options that ``infer``, and ``ensemble``, have for every task."""

import os
import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ..config import Place, Strict
from ..config.training import View
from ..config.words import split_names
from ..errors import ConfigError


def parse_votes(text: str) -> list[int]:
    """Whole numbers of ``2,1,1``."""
    parts = [part.strip() for part in text.strip("[]").split(",")]
    if not all(re.fullmatch("0*[1-9][0-9]{0,8}", part) for part in parts):
        raise ConfigError(f"weights={text}: whole numbers from 1, as in weights=2,1,1; for .5,.3,.2 give 5,3,2")
    return [int(part) for part in parts]


class RunOptions(Strict):
    """How a run predicts; what is None is the run's own."""

    SPELLED: ClassVar = {"data.root": "root"}  # as in training

    root: Place | None = None
    images: Place | None = None
    out: Path | None = None
    weights: Literal["final", "best", "last"] = "final"
    tta: Annotated[list[View], Field(max_length=3)] | None = None
    batch: Annotated[int, Field(ge=1, le=65536)] | None = None
    device: str = "auto"
    precision: Literal["auto", "32", "bf16", "fp16"] = "auto"
    runs: Path = Path("runs")
    progress: bool = True


class MemberOptions(Strict):
    """The members of an ensemble, and the weight of each."""

    READ: ClassVar = {"votes": parse_votes, "members": split_names}

    members: list[str] = Field(min_length=1, max_length=1000)
    votes: list[Annotated[int, Field(ge=1, le=10**9)]] | None = None  # of each member; weights=2,1,1 is the same
    allow_misaligned: bool = False
    out_of_fold: bool = True  # vote and score the members' out-of-fold predictions by the same rule

    @classmethod
    def field_of(cls, key: str, text: str) -> str:
        """Numbers in ``weights=`` are votes; a name there is a checkpoint of a run."""
        return "votes" if key == "weights" and not text.isalpha() else super().field_of(key, text)

    @model_validator(mode="after")
    def _members_count_once(self) -> Self:
        if self.votes is not None and len(self.votes) != len(self.members):
            raise ValueError(f"weights: {len(self.votes)} for {len(self.members)} members; give one each")
        places = [os.path.normpath(name) for name in self.members]
        if repeated := [name for name, place in zip(self.members, places, strict=True) if places.count(place) > 1]:
            raise ValueError(f"members: {repeated[0]} is named twice; weights=2,1 counts a member more than once")
        return self
