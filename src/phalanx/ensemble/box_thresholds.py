"""Thresholds of scores by class: chosen out of fold by ``tune``, stored with the run, applied by ``infer``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from ..config import Strict
from ..config.tuned import read_tuned
from ..config.words import split_names
from ..errors import ConfigError, DataError, brief
from ..runs.reader import fold_folders
from ..runtime.files import format_mark, refuse_foreign, write_json
from ..scoring.box_thresholds import By, ChosenThresholds, choose_thresholds
from .detect_oof import out_of_fold

FILE = "thresholds.json"  # in the folder of a run


class BoxThresholds(Strict):
    """The file: a box counts if its score is at least the threshold of its class.

    Attributes:
        run_hashes: SHA-256 of the weights by fold folder.
        report: how they were chosen, for people.
    """

    format: Literal["phalanx-box-thresholds-1"] = "phalanx-box-thresholds-1"
    run: str
    run_hashes: Annotated[dict[str, str], Field(min_length=1)]
    classes: Annotated[list[str], Field(min_length=1)]
    thresholds: dict[str, Annotated[float, Field(ge=0, le=1)]]
    report: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _each(self) -> "BoxThresholds":
        if set(self.thresholds) != set(self.classes):
            raise ValueError("thresholds: give each class one, and no other name")
        return self

    @classmethod
    def read(cls, path: Path) -> "BoxThresholds":
        """A file of thresholds. Raises as :func:`~phalanx.config.tuned.read_tuned`."""
        return read_tuned(cls, path, "phalanx tune")

    @classmethod
    def of_run(
        cls, folder: Path, name: str, classes: Sequence[str], hashes: Mapping[str, str]
    ) -> "BoxThresholds | None":
        """Thresholds stored with a run; None if there are none. Raises as :meth:`read` and :meth:`check`."""
        path = folder / FILE
        if not (path.exists() or path.is_symlink()):
            return None
        found = cls.read(path)
        found.check(path, name, classes, hashes)
        return found

    def check(self, path: Path, name: str, classes: Sequence[str], hashes: Mapping[str, str]) -> None:
        """Raises DataError if a run has other classes, or weights that the thresholds were not chosen for."""
        again = f"choose them again with phalanx tune members={name}, or keep all boxes with postprocess=null"
        if list(classes) != self.classes:
            raise DataError(f"{path}: is of the classes {brief(self.classes)}, and {name} has {brief(list(classes))}")
        if not set(hashes.values()) <= set(self.run_hashes.values()):
            raise DataError(f"{path}: its thresholds were chosen for other weights than those of {name}; {again}")

    def limits(self) -> np.ndarray:
        """float64[C], in the order of ``classes``."""
        return np.array([self.thresholds[name] for name in self.classes])

    @property
    def shown(self) -> str:
        """Class and threshold of each, for a line of text."""
        return ", ".join(f"{name} {at:.4f}" for name, at in self.thresholds.items())

    def to_text(self, path: Path) -> str:
        """One line for the terminal."""
        return f"{path}: boxes with lower scores are left out: {self.shown}; postprocess=null keeps them"


class TuneBoxes(Strict):
    """Options of ``tune`` for a run that detects."""

    READ: ClassVar = {"members": split_names}

    members: list[str]
    out: Path | None = None  # null: thresholds.json in the run's folder, where infer finds it
    thresholds: By = "auto"
    runs: Path = Path("runs")


def run_folder(name: str, runs: Path, weights: str = "final") -> Path:
    """The folder of a run by its name, or of the run whose fold is named. Raises as `runs.reader.fold_folders`."""
    return fold_folders(name, runs, weights)[0].parent


def tune_boxes(options: TuneBoxes) -> tuple[ChosenThresholds, Path]:
    """Chooses the thresholds of a run on its out-of-fold boxes and writes them; returns them and the file.

    Raises:
        ConfigError: not one run, or no run that detects; an ``out`` that cannot be a file of thresholds.
        DataError: no finished fold, or no box that finds an object. OutputError: another file would be replaced.
    """
    if len(options.members) != 1:
        raise ConfigError(
            f"members={','.join(options.members)}: thresholds of boxes are chosen for one run at a time, as scores of "
            "several are not alike; name one"
        )
    name = options.members[0]
    folder = run_folder(name, options.runs)
    out = options.out or folder / FILE
    if out.suffix != ".json" or out.with_suffix(".csv").exists():
        raise ConfigError(f"out={out}: name a .json file that is not a CSV's sidecar, or leave it out")
    refuse_foreign(out, format_mark("box-thresholds"))
    found = out_of_fold(folder)
    if not any(one.found[found.score.matched_at].any() for one in found.score.matches):
        raise DataError(
            f"{folder}: no out-of-fold box finds an object at IoU {found.score.at:g}, so there is no threshold to "
            "choose; train longer"
        )
    chosen = choose_thresholds(found.score, found.numbers, options.thresholds)
    hashes = {str(fold.folder): fold.weights_digest() for fold in found.folds}
    if lacking := next((name for name, value in hashes.items() if value is None), None):
        raise DataError(f"{lacking}: has no final weights; finish its training first")
    report = {"iou": found.score.at, **chosen.to_json()}
    made = BoxThresholds(
        run=str(folder), run_hashes={key: value for key, value in hashes.items() if value is not None},
        classes=list(found.score.classes), thresholds=chosen.thresholds, report=report,
    )  # fmt: skip
    write_json(out, made.model_dump(mode="json"))
    return chosen, out
