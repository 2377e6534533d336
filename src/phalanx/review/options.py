"""Options of ``review``."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from ..config import Fraction, Place, Strict
from ..config.f1_iou import F1AtIoU
from ..config.words import split_names


class ReviewOptions(Strict):
    """Options of ``review``."""

    SPELLED: ClassVar = {"data.root": "root"}  # as in training
    READ: ClassVar = {"classes": split_names}

    out: Path = Path("reviews")  # if it is not given, the folder NAME in it
    classes: list[str] | None = None  # null: all
    sort: Literal["value", "fp", "fn", "precision", "recall", "name"] = "value"  # the worst first
    images: Place | None = None  # of a CSV with truth=; null: the test images of its run's data set
    worst: Annotated[int, Field(ge=1, le=1000)] = 20  # images in each gallery
    rows: Annotated[int, Field(ge=1, le=200)] = 10  # of the comparison
    f1_iou: F1AtIoU | None = None  # null: the run's image_f1, or its two classes
    split: Literal["oof", "test"] = "oof"
    truth: Path | None = None  # ground truth of the test images; null: the usual places of the data set
    root: Place | None = None
    threshold: Fraction | None = None  # of the scores of boxes; null: the best one out of fold
    midline: Literal["auto", "true", "false"] = "auto"  # auto: if the objects are long and thin
    runs: Path = Path("runs")
    device: str = "auto"
    progress: bool = True

    @model_validator(mode="after")
    def _read(self) -> "ReviewOptions":
        if self.images is not None and self.truth is None:
            raise ValueError("images: are of a CSV with its ground truth; give truth=PATH, too")
        return self
