"""Labels of test images, and the scores of predictions for them on parts of the images.

A *twin* is the same test image without burnt-in marks: predictions for both show what the marks are worth.
"""

import csv
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np

from ..config.classify_loss import Head
from ..errors import DataError
from ..runtime.reading import LARGE, fault, read_rows
from .classify import ClassifyScore, score_classes
from .several import score_several

Subset = Literal["all", "one_label", "two_labels", "marked", "clean"]
SUBSETS: dict[Subset, str] = {
    "all": "all test images",
    "one_label": "images with one label",
    "two_labels": "images with two labels",
    "marked": "images with marks, as they are",
    "clean": "the same images without their marks",
}
assert tuple(SUBSETS) == get_args(Subset)
HEADER = ("image_name", "patient", "twin")
REMEDY = "restore it, or run the sweep again"


class Predicted(NamedTuple):
    """Probabilities of the images of a :class:`LabelTable`, in its order.

    Attributes:
        columns: names of the K columns; a softmax may have some that are not classes of the truth.
        values: float64[N, K].
        twins: float64[T, K] of the images that have a twin, predicted from it; None if none has.
        thresholds: float64[C] by class of the truth, at least which is predicted; None: those of the head.
    """

    columns: tuple[str, ...]
    head: Head
    values: np.ndarray
    twins: np.ndarray | None = None
    thresholds: np.ndarray | None = None


@dataclass(frozen=True)
class LabelTable:
    """The test images of a data set, with their patients and labels.

    Attributes:
        labels: float64[N, C] of 0, 1 and NaN (missing).
        has_twin: bool[N].
    """

    images: tuple[str, ...]
    patients: tuple[str, ...]
    classes: tuple[str, ...]
    labels: np.ndarray
    has_twin: np.ndarray

    def to_csv(self) -> str:
        """A row per image; a cell that is not labelled is empty."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow([*HEADER, *self.classes])
        for row in zip(self.images, self.patients, self.has_twin.tolist(), self.labels.tolist(), strict=True):
            table.writerow([*row[:2], int(row[2]), *("" if value != value else f"{value:.0f}" for value in row[3])])
        return text.getvalue()

    @classmethod
    def read(cls, path: Path) -> "LabelTable":
        """The table of :meth:`to_csv`. Raises DataError if the file is not one."""
        head, *rows = read_rows(path, LARGE, REMEDY) or [[]]
        classes = tuple(head[3:])
        if tuple(head[:3]) != HEADER or not classes or not rows:
            raise fault(path, f"is not a table of {', '.join(HEADER)} and classes", REMEDY)
        values = {"0": 0.0, "1": 1.0, "": np.nan}
        for number, row in enumerate(rows, 2):
            if len(row) != len(head) or row[2] not in ("0", "1") or not set(row[3:]) <= values.keys():
                raise fault(path, f"line {number} is not an image with its labels", REMEDY)
        labels = np.array([[values[cell] for cell in row[3:]] for row in rows], float)
        twins = np.array([row[2] == "1" for row in rows], bool)
        return cls(tuple(row[0] for row in rows), tuple(row[1] for row in rows), classes, labels, twins)

    @cached_property
    def exclusive(self) -> bool:
        """Whether each image that is labelled has exactly one class, as those of a softmax should."""
        known = ~np.isnan(self.labels).any(axis=1)
        return bool(known.any() and ((self.labels[known] == 1).sum(axis=1) == 1).all())

    def rows_of(self, subset: Subset) -> np.ndarray:
        """int64: numbers of the images of a subset."""
        count = (self.labels == 1).sum(axis=1)
        chosen = {
            "all": np.ones(len(self.images), bool), "one_label": count == 1, "two_labels": count == 2,
            "marked": self.has_twin, "clean": self.has_twin,
        }[subset]  # fmt: skip
        return np.flatnonzero(chosen)

    def score(self, name: str, made: Predicted, subset: Subset = "all") -> ClassifyScore:
        """The scores of predictions on a subset.

        A softmax of exclusive classes is scored by its confusion matrix, all else class by class.

        Raises:
            DataError: the subset is empty, or the predictions do not fit the labels.
        """
        rows = self.rows_of(subset)
        if not len(rows):
            raise DataError(f"{name}: there are no {SUBSETS[subset]} to score; leave that column out")
        values = made.values[rows]
        if subset == "clean":
            if made.twins is None:
                raise DataError(f"{name}: the images without marks were not predicted")
            values = made.twins
        images = [self.images[n] for n in rows]
        patients, labels = [self.patients[n] for n in rows], self.labels[rows]
        same = made.columns == self.classes
        if made.head == "softmax" and same and self.exclusive and made.thresholds is None:
            return score_classes(name, values, labels, self.classes, "softmax", images=images, patients=patients)
        return score_several(
            name, values, made.columns, labels, self.classes, head=made.head, thresholds=made.thresholds,
            images=images, patients=patients,
        )  # fmt: skip
