"""Options of ``view``."""

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from ..config import Fraction, Place, Strict

PORT = 8765


class ViewOptions(Strict):
    """Options of :func:`~.server.serve`."""

    SPELLED: ClassVar = {"data.root": "root"}

    root: Place | None = None  # the data set, if it was moved
    port: Annotated[int, Field(ge=0, le=65535)] = PORT  # 0: any that is free
    open: bool = True  # the page in the browser
    suspects: Path | None = None  # CSV of annotations in doubt
    decisions: Path | None = None  # JSON lines; null: next to the suspects, else view.decisions.jsonl
    quarantine: Path = Path("quarantine.txt")
    threshold: Fraction | None = None  # of scores of boxes
    runs: Path = Path("runs")
    device: str = "auto"

    @property
    def decisions_file(self) -> Path:
        """Where decisions are appended."""
        if self.decisions is not None:
            return self.decisions
        return (self.suspects or Path("view")).with_suffix(".decisions.jsonl")
