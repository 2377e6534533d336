"""Options of the page of a run."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from ..review.evaluate_options import EvaluateOptions

Images = Annotated[int, Field(ge=0, le=100)]


class ReportOptions(EvaluateOptions):
    """Options of ``phalanx report``."""

    out: Path | None = None  # the HTML file; null: report.html in the first run's folder
    truth: Path | None = None  # of the images of a CSV that is no vote
    folder: Path | None = None  # its images
    worst: Images = 12  # images with large pictures, those with the lowest figure
    best: Images = 6  # the same, with the highest
    images: Annotated[int, Field(ge=0, le=5000)] = 400  # that the list shows at all, the worst first
    workers: Annotated[int, Field(ge=-1, le=1024)] = -1  # processes that draw; -1: one per core
    progress: bool = True
