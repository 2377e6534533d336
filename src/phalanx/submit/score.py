"""Dice of a submission against the truth: per image and class, with intervals that respect patients.

Both empty counts 1, as in the competition. Images of a patient are alike, so intervals resample patients, not
images: a mean over images is a ratio of two sums over patients, and every image weighs the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import DataError
from .stack import dice_per_class
from .table import Submission, check_alike, known_sizes

RESAMPLES = 2000
SEED = 0
_CHUNK = 100  # resamples drawn at once: bounds memory for tens of thousands of patients

Interval = tuple[float, float] | None


def bootstrap(values: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Means over images of ``values`` float64[I, K] in ``RESAMPLES`` draws of as many patients as there are.

    Args:
        patients: int64[I], each image's patient as 0 .. P - 1.

    Returns:
        float64[RESAMPLES, K]. The same patients give the same draws: two submissions compare in pairs.
    """
    count = int(patients.max()) + 1
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, patients, values)
    images = np.bincount(patients, minlength=count).astype(float)
    rng = np.random.default_rng(SEED)
    means = np.empty((RESAMPLES, values.shape[1]))
    for start in range(0, RESAMPLES, _CHUNK):
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=_CHUNK).astype(float)  # (chunk, P)
        means[start : start + _CHUNK] = drawn @ sums / (drawn @ images)[:, None]
    return means


@dataclass(frozen=True)
class Score:
    """Dice of every image and class, and what follows from it."""

    name: str
    images: tuple[str, ...]
    classes: tuple[str, ...]
    dice: np.ndarray  # float64[I, C]
    present: np.ndarray  # bool[I, C]: the truth has this class
    patients: tuple[str, ...]  # of each image

    @property
    def mean(self) -> float:
        """Over all images and classes; both empty counts 1."""
        return float(self.dice.mean())

    @property
    def mean_present(self) -> float | None:
        """Over what the truth has; None where it has nothing."""
        return float(self.dice[self.present].mean()) if self.present.any() else None

    @property
    def per_class(self) -> np.ndarray:
        """float64[C]"""
        return self.dice.mean(axis=0)

    @property
    def per_image(self) -> np.ndarray:
        """float64[I]"""
        return self.dice.mean(axis=1)

    @property
    def per_patient(self) -> dict[str, float]:
        """Mean over each patient's images."""
        names, index = np.unique(self.patients, return_inverse=True)
        means = np.bincount(index, weights=self.per_image) / np.bincount(index)
        return dict(zip(names.tolist(), means.tolist(), strict=True))

    @property
    def interval(self) -> Interval:
        """95% interval of ``mean``; None for a single patient."""
        return self._intervals[0]

    @property
    def class_intervals(self) -> list[Interval]:
        """95% interval of each class's mean."""
        return self._intervals[1:]

    @cached_property
    def _intervals(self) -> list[Interval]:
        names, index = np.unique(self.patients, return_inverse=True)
        columns = np.column_stack([self.per_image, self.dice])
        if len(names) < 2:
            return [None] * columns.shape[1]
        low, high = np.percentile(bootstrap(columns, index), [2.5, 97.5], axis=0)
        return list(zip(low.tolist(), high.tolist(), strict=True))

    def to_json(self) -> dict[str, Any]:
        """Everything but the single values, as JSON types."""
        rows = zip(self.classes, self.per_class, self.class_intervals, self.present.T, self.dice.T, strict=True)
        return {
            "name": self.name,
            "dice": self.mean,
            "interval": self.interval,
            "dice_present": self.mean_present,
            "images": len(self.images),
            "patients": len(set(self.patients)),
            "resamples": RESAMPLES,
            "classes": {
                label: {
                    "dice": float(mean),
                    "interval": interval,
                    "present": int(there.sum()),
                    "dice_present": float(values[there].mean()) if there.any() else None,
                }
                for label, mean, interval, there, values in rows
            },
            "per_image": dict(zip(self.images, self.per_image.tolist(), strict=True)),
            "per_patient": self.per_patient,
        }

    def to_text(self, worst: int = 5) -> str:
        """A table for the terminal: classes, then the ``worst`` patients, then the means."""
        width = max(map(len, ("class", *self.classes)))
        lines = [f"{'class':<{width}}  present    dice  95% interval"]
        for label, there, mean, interval in zip(
            self.classes, self.present.sum(axis=0), self.per_class, self.class_intervals, strict=True
        ):
            lines.append(f"{label:<{width}}  {there:>7}  {mean:.4f}  {_span(interval)}")
        patients = sorted(self.per_patient.items(), key=lambda item: item[1])
        lines.append(f"\nworst of {_count(len(patients), 'patient')}")
        lines += [f"  {name}  {mean:.4f}" for name, mean in patients[:worst]]
        present = "-" if self.mean_present is None else f"{self.mean_present:.4f}"
        lines.append(
            f"\n{self.name}: Dice {self.mean:.4f}, 95% interval {_span(self.interval)} over patients; "
            f"{present} counting only what the truth has; {_count(len(self.images), 'image')}"
        )
        return "\n".join(lines)


def score(submission: Submission, truth: Submission, patients: Mapping[str, str] | None = None) -> Score:
    """Dice of every image and class of ``submission`` against ``truth``, an image at a time.

    Args:
        patients: image to patient; by default each image is a patient of its own, which makes intervals too
            narrow if it is not so.

    Raises:
        DataError: images, classes or known sizes differ, an image has no patient, or a row is wrong.
    """
    check_alike([submission, truth])
    without = [image for image in truth.images if patients is not None and image not in patients]
    if without:
        raise DataError(
            f"{len(without)} of {len(truth.images)} images have no patient, first {without[0]!r}; name the "
            "patient of every image, or none"
        )
    sizes = known_sizes([submission, truth])
    ordered = submission.reorder(truth.classes)
    dice = np.empty((len(truth.images), len(truth.classes)))
    present = np.empty(dice.shape, bool)
    for row, image in enumerate(truth.images):
        there = truth.stack(image, sizes.get(image))
        dice[row] = dice_per_class(ordered.stack(image, sizes.get(image)), there)
        present[row] = there.areas > 0
    of: Sequence[str] = truth.images if patients is None else [patients[image] for image in truth.images]
    return Score(submission.name, truth.images, truth.classes, dice, present, tuple(of))


def _span(interval: Interval) -> str:
    return "-" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
