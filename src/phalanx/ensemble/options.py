"""Options of ``infer`` and ``ensemble``."""

import os
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from ..config import Count, Predict, SlidingWindow, Strict, validate
from ..errors import ConfigError
from ..runtime.sidecar import is_csv


def parse_size(text: str) -> tuple[int, int]:
    """Height and width of ``2048x2048``.

    >>> parse_size("512x640")
    (512, 640)
    """
    height, cross, width = text.lower().partition("x")
    if not (cross and height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise ConfigError(f"size={text}: expected height x width, as in size=2048x2048")
    return int(height), int(width)


def parse_votes(text: str) -> list[int]:
    """Whole numbers of ``2,1,1``."""
    parts = [part.strip() for part in text.strip("[]").split(",")]
    if not all(re.fullmatch("0*[1-9][0-9]{0,8}", part) for part in parts):
        raise ConfigError(f"weights={text}: whole numbers from 1, as in weights=2,1,1; for .5,.3,.2 give 5,3,2")
    return [int(part) for part in parts]


class InferOptions(Strict):
    """Options of ``infer``; those of prediction left at None are the run's own."""

    SPELLED: ClassVar = {"data.root": "root"}  # as in training

    root: Path | None = None
    images: Path | None = None
    out: Path | None = None
    maps: bool = False
    weights: Literal["final", "best", "last"] = "final"
    tta: list[Literal["hflip", "vflip", "rotate"]] | None = None
    input_size: Annotated[int, Field(ge=32, multiple_of=32)] | None = None
    scales: list[float] | None = None
    window: SlidingWindow | None = None
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    batch: Count | None = None
    device: str = "auto"
    devices: list[str] | None = None
    workers: Count | None = None
    precision: Literal["auto", "32", "bf16", "fp16"] = "auto"
    runs: Path = Path("runs")
    progress: bool = True
    decided: Path | None = None

    @model_validator(mode="after")
    def _nothing_decided_twice(self) -> "InferOptions":
        for key in ("threshold", "votes", "maps"):
            if self.decided is not None and getattr(self, key, None):
                why = "decided= tells it" if key != "maps" else "keeps probabilities, which decided= leaves as they are"
                raise ValueError(f"{key}: {why}; leave one of the two out")
        return self

    def changes(self) -> dict[str, Any]:
        """What overrides the run's own prediction options."""
        names = ("tta", "input_size", "scales", "window", "threshold", "batch")
        given = {key: getattr(self, key) for key in names if getattr(self, key) is not None}
        validate(given, Predict)
        return given

    def places(self) -> list[str]:
        """The device of each process."""
        if self.devices and self.device != "auto":
            raise ConfigError(
                f"devices: belongs to several devices and device={self.device} to one; give one of the two"
            )
        named = [f"cuda:{name}" if name.isdecimal() else name for name in self.devices or []] or [self.device]
        return [named[i % len(named)] for i in range(self.workers or len(named))]


class EnsembleOptions(InferOptions):
    """Options of ``ensemble``."""

    READ: ClassVar = {"size": parse_size, "votes": parse_votes}

    mode: Literal["soft", "hard"]
    members: list[str] = Field(min_length=1)
    quorum: Count | None = None
    votes: list[Count] | None = None  # of each member; weights=2,1,1 says the same
    average: Literal["members", "flat"] = "members"
    size: tuple[int, int] | None = None
    anyway: bool = False

    @classmethod
    def field_of(cls, key: str, text: str) -> str:
        """Numbers in ``weights=`` are votes; a name there is a kind of weights of a run."""
        return "votes" if key == "weights" and not text.isalpha() else super().field_of(key, text)

    @model_validator(mode="after")
    def _fitting(self) -> "EnsembleOptions":
        if self.votes is not None and len(self.votes) != len(self.members):
            raise ValueError(f"weights: {len(self.votes)} for {len(self.members)} members; give one each")
        places = [os.path.normpath(name) for name in self.members]
        if doubled := [name for name, place in zip(self.members, places, strict=True) if places.count(place) > 1]:
            raise ValueError(f"members: {doubled[0]} is named twice; weights=2,1 counts a member more than once")
        for key, given in (("quorum", self.quorum is not None), ("size", self.size is not None)):
            if self.mode == "soft" and given:
                raise ValueError(f"{key}: belongs to mode=hard")
        soft = {"average": self.average != "members", "maps": self.maps, "decided": self.decided is not None}
        for key, given in soft.items():
            if self.mode == "hard" and given:
                raise ValueError(f"{key}: belongs to mode=soft; a hard vote has no probabilities")
        if self.decided is not None and self.average != "members":
            raise ValueError("average: decided= was decided about members, whose folds are averaged first")
        if self.size is not None and self.images is not None:
            raise ValueError("size: images= tells the sizes already; leave one of the two out")
        if self.mode == "hard" and all(map(is_csv, self.members)):
            idle = ("threshold", "tta", "input_size", "scales", "window", "root")
            unread = [key for key in idle if getattr(self, key) is not None] + ["weights"] * (self.weights != "final")
            if unread:
                name = "data.root" if unread[0] == "root" else unread[0]
                raise ValueError(f"{name}: changes no CSV; predict the members again with it (bash infer.sh)")
        return self
