"""Options of ``infer`` and ``ensemble``."""

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from ..config import Count, Processes, SegmentPredict, Side, SlidingWindow, validate_as
from ..errors import ConfigError
from ..runtime.sidecar import is_csv
from .common_options import MemberOptions, RunOptions

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


class InferOptions(RunOptions):
    """Options of ``infer``; those of prediction that are None are the run's own."""

    maps: bool = False
    input_size: Side | None = None
    scales: Annotated[list[Annotated[float, Field(ge=0.25, le=4)]], Field(max_length=16)] | None = None
    window: SlidingWindow | None = None
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    devices: Annotated[list[str], Field(max_length=1024)] | None = None
    workers: Processes | None = None
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


class EnsembleOptions(MemberOptions, InferOptions):
    """Options of ``ensemble``."""

    READ: ClassVar = {**MemberOptions.READ, "size": parse_size}

    mode: Literal["soft", "hard"]
    quorum: Count | None = None
    average: Literal["members", "flat"] = "members"
    size: tuple[int, int] | None = None

    @model_validator(mode="after")
    def _fits_the_mode(self) -> "EnsembleOptions":
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
