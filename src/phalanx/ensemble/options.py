"""Options of ``infer`` and ``ensemble``."""

import os
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from ..config import Count, Place, Processes, SegmentPredict, Side, SlidingWindow, Strict, validate_as
from ..config.words import split_names
from ..errors import ConfigError
from ..runtime.sidecar import is_csv

MAX_PIXELS = 1 << 30  # of an image


def parse_size(text: str) -> tuple[int, int]:
    """Height and width of ``2048x2048``.

    >>> parse_size("512x640")
    (512, 640)
    """
    match = re.fullmatch("0*([1-9][0-9]{0,9})[xX]0*([1-9][0-9]{0,9})", text)
    if match is None or int(match[1]) * int(match[2]) > MAX_PIXELS:
        raise ConfigError(f"size={text}: expected height x width, at most {MAX_PIXELS} pixels, as in size=2048x2048")
    return int(match[1]), int(match[2])


def parse_votes(text: str) -> list[int]:
    """Whole numbers of ``2,1,1``."""
    parts = [part.strip() for part in text.strip("[]").split(",")]
    if not all(re.fullmatch("0*[1-9][0-9]{0,8}", part) for part in parts):
        raise ConfigError(f"weights={text}: whole numbers from 1, as in weights=2,1,1; for .5,.3,.2 give 5,3,2")
    return [int(part) for part in parts]


class InferOptions(Strict):
    """Options of ``infer``; those of prediction that are None are the run's own."""

    SPELLED: ClassVar = {"data.root": "root"}  # as in training

    root: Place | None = None
    images: Place | None = None
    out: Path | None = None
    maps: bool = False
    weights: Literal["final", "best", "last"] = "final"
    tta: Annotated[list[Literal["hflip", "vflip", "rotate"]], Field(max_length=3)] | None = None
    input_size: Side | None = None
    scales: Annotated[list[Annotated[float, Field(ge=0.25, le=4)]], Field(max_length=16)] | None = None
    window: SlidingWindow | None = None
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    batch: Annotated[int, Field(ge=1, le=65536)] | None = None
    device: str = "auto"
    devices: Annotated[list[str], Field(max_length=1024)] | None = None
    workers: Processes | None = None
    precision: Literal["auto", "32", "bf16", "fp16"] = "auto"
    runs: Path = Path("runs")
    progress: bool = True
    postprocess: Path | None = None
    part: Annotated[str, Field(pattern=r"^[0-9]{1,4}/[0-9]{1,4}$")] | None = (
        None  # number and count, of a call in progress
    )

    @model_validator(mode="after")
    def _no_conflict_with_postprocess(self) -> "InferOptions":
        for key in ("threshold", "votes", "maps"):
            if self.postprocess is not None and getattr(self, key, None):
                why = (
                    "saves probabilities, which postprocess= does not change"
                    if key == "maps"
                    else "postprocess= sets it"
                )
                raise ValueError(f"{key}: {why}; leave one of the two out")
        return self

    def changes(self) -> dict[str, Any]:
        """The prediction options that override the run's own."""
        names = ("tta", "input_size", "scales", "window", "threshold", "batch")
        given = {key: getattr(self, key) for key in names if getattr(self, key) is not None}
        validate_as(SegmentPredict, given)
        return given

    def places(self) -> list[str]:
        """The device of each process."""
        if self.devices and self.device != "auto":
            raise ConfigError(f"devices: lists several devices, and device={self.device} is one; give one of the two")
        named = [f"cuda:{name}" if re.fullmatch("[0-9]+", name) else name for name in self.devices or []] or [
            self.device
        ]
        return [named[i % len(named)] for i in range(self.workers or len(named))]


class EnsembleOptions(InferOptions):
    """Options of ``ensemble``."""

    READ: ClassVar = {"size": parse_size, "votes": parse_votes, "members": split_names}

    mode: Literal["soft", "hard"]
    members: list[str] = Field(min_length=1, max_length=1000)
    quorum: Count | None = None
    votes: list[Annotated[int, Field(ge=1, le=10**9)]] | None = None  # of each member; weights=2,1,1 is the same
    average: Literal["members", "flat"] = "members"
    size: tuple[int, int] | None = None
    allow_misaligned: bool = False
    out_of_fold: bool = True  # score the members' out-of-fold predictions by the same rule

    @classmethod
    def field_of(cls, key: str, text: str) -> str:
        """Numbers in ``weights=`` are votes; a name there is a checkpoint of a run."""
        return "votes" if key == "weights" and not text.isalpha() else super().field_of(key, text)

    @model_validator(mode="after")
    def _fits_the_mode(self) -> "EnsembleOptions":
        if self.votes is not None and len(self.votes) != len(self.members):
            raise ValueError(f"weights: {len(self.votes)} for {len(self.members)} members; give one each")
        places = [os.path.normpath(name) for name in self.members]
        if repeated := [name for name, place in zip(self.members, places, strict=True) if places.count(place) > 1]:
            raise ValueError(f"members: {repeated[0]} is named twice; weights=2,1 counts a member more than once")
        for key, given in (("quorum", self.quorum is not None), ("size", self.size is not None)):
            if self.mode == "soft" and given:
                raise ValueError(f"{key}: belongs to mode=hard")
        soft = {"average": self.average != "members", "maps": self.maps, "postprocess": self.postprocess is not None}
        for key, given in soft.items():
            if self.mode == "hard" and given:
                raise ValueError(f"{key}: belongs to mode=soft; a hard vote has no probabilities")
        if self.postprocess is not None and self.average != "members":
            raise ValueError("average: postprocess= was tuned on members, whose folds are averaged first")
        if self.size is not None and self.images is not None:
            raise ValueError("size: images= gives the sizes already; leave one of the two out")
        if self.mode == "hard" and all(map(is_csv, self.members)):
            unused = ("threshold", "tta", "input_size", "scales", "window", "root")
            without_effect = [key for key in unused if getattr(self, key) is not None] + ["weights"] * (
                self.weights != "final"
            )
            if without_effect:
                name = "data.root" if without_effect[0] == "root" else without_effect[0]
                raise ValueError(f"{name}: does not change a CSV; predict the members again with it (bash infer.sh)")
        return self
