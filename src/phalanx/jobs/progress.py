"""How far a job has come, read from the folder that it writes to."""

from pathlib import Path
from typing import NamedTuple

from ..errors import DataError
from ..runtime.reading import SMALL, as_whole, read_mapping


class Progress(NamedTuple):
    """Progress of a job; of two moments the later one is greater if the job came on in between.

    Attributes:
        step: of the last checkpoint of a training.
        predicted: bytes of predicted images so far: of a prediction, or of held-out images once training has ended.
        finished: the training, its out-of-fold predictions included.
    """

    finished: bool = False
    step: int = 0
    predicted: int = 0

    @classmethod
    def of(cls, folder: Path) -> "Progress":
        """The progress of a job by the folder, or the file, that it writes to; all zero before it has begun."""
        if folder.is_file():
            return cls(predicted=_size(folder))
        checkpoints = ("last", "last.before", "final", "final.before")
        files = [file for place in (folder, folder / ".oof.csv.part") for file in place.glob("rows.*")]
        return cls(
            (folder / "done.json").is_file(),
            max(_step(folder / name / "state.json") for name in checkpoints),
            sum(_size(file) for file in files),
        )

    @property
    def text(self) -> str:
        """In words, for an error."""
        return f"step {self.step}" if self.step else "its beginning"


def _step(file: Path) -> int:
    try:
        return as_whole(read_mapping(file, SMALL).get("step"))
    except (DataError, ValueError):  # none yet, or cut by a kill: the training notices that and uses the one before
        return 0


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:  # removed meanwhile
        return 0
