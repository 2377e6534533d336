"""The file of `phalanx calibrate`: a temperature and thresholds, checked against the probabilities they are applied to.

The sidecar of a CSV records by which file its probabilities were calibrated, so that none is calibrated twice.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from ..config import Strict
from ..config.classify_loss import Head
from ..config.tuned import read_tuned
from ..errors import DataError
from .calibration import COLDEST, HOTTEST, apply_temperature

KIND = "calibration"


class Calibration(Strict):
    """What is done to probabilities and decisions of some classes.

    Attributes:
        run: it was fitted to; for people, as are the hashes of its weights.
        temperature: of each class, which divides its logits; 1 changes nothing.
        thresholds: of each class; None: .5 of sigmoids, the largest probability of a softmax. Those of a softmax decide
            where images may have several labels (:func:`~phalanx.scoring.several.score_several`); its classes that are
            none of such labels have None.
        report: how it was fitted.
    """

    format: Literal["phalanx-calibration-1"] = "phalanx-calibration-1"
    run: str
    run_hashes: dict[str, str]
    classes: Annotated[list[str], Field(min_length=1)]
    head: Head
    temperature: list[Annotated[float, Field(ge=COLDEST, le=HOTTEST)]]
    thresholds: list[Annotated[float, Field(gt=0, lt=1)] | None] | None = None
    report: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> "Calibration":
        for key in ("temperature", "thresholds"):
            values = getattr(self, key)
            if values is not None and len(values) != len(self.classes):
                raise ValueError(f"{key}: {len(values)} for {len(self.classes)} classes")
        if self.head == "softmax" and len(set(self.temperature)) > 1:
            raise ValueError("temperature: a softmax has one for all its classes")
        if self.head == "sigmoid" and self.thresholds is not None and None in self.thresholds:
            raise ValueError("thresholds: each sigmoid needs one")
        return self

    @classmethod
    def read(cls, path: Path) -> "Calibration":
        """A calibration file. Raises as :func:`~phalanx.config.tuned.read_tuned`."""
        return read_tuned(cls, path, "phalanx calibrate")

    @property
    def digest(self) -> str:
        """SHA-256 of what it does, whatever run it names and how it was fitted."""
        kept = self.model_dump(mode="json", include={"classes", "head", "temperature", "thresholds"})
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()

    def check(self, name: str, classes: Sequence[str], head: Head | None) -> None:
        """Raises DataError if probabilities called ``name`` are of other classes or of another head."""
        if head != self.head:
            raise DataError(
                f"{name}: has head={head or 'unknown'}, postprocess= was fitted with head={self.head}; calibrate a run "
                "of this head"
            )
        if set(classes) != set(self.classes):
            other = sorted(set(classes) ^ set(self.classes))[0]
            raise DataError(
                f"{name}: its {len(classes)} classes are not the {len(self.classes)} of postprocess=, first "
                f"{other!r}; calibrate a run of these classes"
            )

    def limits(self, classes: Sequence[str]) -> np.ndarray | None:
        """Thresholds float64[C] of classes in this order; None if there are none.

        Raises:
            DataError: one of the classes has none.
        """
        if self.thresholds is None:
            return None
        found = dict(zip(self.classes, self.thresholds, strict=True))
        if lacking := next((name for name in classes if found.get(name) is None), None):
            raise DataError(f"postprocess=: has no threshold of {lacking!r}; calibrate a run with such labels")
        return np.array([found[name] for name in classes], float)

    def apply(
        self, name: str, values: np.ndarray, classes: Sequence[str], head: Head | None, by: str | None
    ) -> np.ndarray:
        """Calibrated probabilities float64[N, C].

        Args:
            name: of the probabilities.
            by: ``digest`` of the file that they were calibrated with already, if any.

        Raises:
            DataError: other classes, another head, or calibrated with another file.
        """
        self.check(name, classes, head)
        if by is not None and by != self.digest:
            raise DataError(
                f"{name}: was calibrated with another file than postprocess=, or combined of such; predict it again "
                "with this one"
            )
        cold = np.array([self.temperature[self.classes.index(label)] for label in classes])
        if by is not None or (cold == 1).all():
            return values
        return apply_temperature(values, cold if self.head == "sigmoid" else float(cold[0]), self.head)
