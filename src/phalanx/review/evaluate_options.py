"""What an evaluation is asked."""

from pathlib import Path
from typing import ClassVar

from ..config import Fraction, Place, Strict


class EvaluateOptions(Strict):
    """Options of :class:`~.evaluated.Evaluated`, of each task."""

    SPELLED: ClassVar = {"data.root": "root"}

    root: Place | None = None  # the data set, if it was moved
    threshold: Fraction | None = None  # of scores of boxes; null: as infer has it, else the best one out of fold
    runs: Path = Path("runs")
    device: str = "auto"
