"""Options of ``show``."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from ..config import Strict

SECTIONS = (
    "annotations", "rotation", "outliers", "background", "marks", "augment", "mix", "warp", "batch", "distance",
    "selection", "noise",
)  # fmt: skip


class ShowOptions(Strict):
    """Options of ``show`` that are not keys of a recipe."""

    out: Path
    images: Annotated[int, Field(ge=1, le=200)] = 4  # of each kind of picture
    image: str | None = None  # its name; null: images of several kinds and patients
    size: Annotated[int, Field(ge=128, le=4096)] = 768  # pixels of a panel's long side
