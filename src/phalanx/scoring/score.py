"""Dice of a submission against the truth: per image and class, with intervals that respect patients.

Both empty counts 1, as in the competition. Images of a patient are alike, so intervals resample patients, not
images: a mean over images is a ratio of two sums over patients, and every image weighs the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError
from ..masks.dice import dice_from_counts
from ..masks.stack import shared_areas
from ..runtime.metric import Metric
from ..submission.matching import check_matching, known_sizes
from ..submission.table import Submission
from .class_figures import ClassTable, class_rows, count, figure
from .confusion import BinaryCounts
from .folded import lowest
from .resampling import RESAMPLES, Interval, bootstrap, over
from .surface import surface_scores

if TYPE_CHECKING:
    from .f1_iou import F1IoU

DICE = Metric("dice")


@dataclass(frozen=True)
class Surface:
    """What surface scores are measured with."""

    tolerance: float  # pixels within which surfaces count as together
    spacing: float | None = None  # mm per pixel, if known


@dataclass(frozen=True)
class Score:
    """Dice of every image and class, and what follows from it."""

    name: str
    images: tuple[str, ...]
    classes: tuple[str, ...]
    dice: np.ndarray  # float64[I, C]
    present: np.ndarray  # bool[I, C]: the truth has this class
    patients: tuple[str, ...]  # of each image; the image itself if they are not known
    pixels: BinaryCounts  # float64[C] over all images; pixels that neither has are not counted, NaN
    grouped: bool = True  # patients are known
    surface: Surface | None = None
    surfaces: np.ndarray | None = None  # float64[I, C, 2]: surface Dice and 95% Hausdorff distance, as `surface_scores`
    f1: "tuple[F1IoU, ...]" = ()  # at an IoU, of each disease that was asked for

    @property
    def mean(self) -> float:
        """Over all images and classes; both empty counts 1."""
        return float(self.dice.mean())

    @property
    def mean_present(self) -> float | None:
        """Over what the truth has; None if it has nothing."""
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
    def class_table(self) -> ClassTable:
        """Dice, false positives and false negatives of each class."""
        rows = class_rows(self.classes, self.per_class, self.present.sum(axis=0), self.pixels)
        return ClassTable(self.name, DICE.name, "pixels", rows)

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
        rows = zip(self.class_table.rows, self.class_intervals, self.present.T, self.dice.T, strict=True)
        return {
            "name": self.name,
            "metric": DICE.to_json(),
            "dice": self.mean,
            "interval": self.interval,
            "dice_present": self.mean_present,
            "images": len(self.images),
            "patients": len(set(self.patients)) if self.grouped else None,
            "resamples": RESAMPLES,
            "classes": {
                row.label: {
                    "dice": row.value,
                    "interval": interval,
                    "present": row.present,
                    "dice_present": float(values[there].mean()) if there.any() else None,
                    **{name: int(getattr(row, name)) for name in ("tp", "fp", "fn")},
                    **{name: _defined(getattr(row, name)) for name in ("precision", "recall")},
                }
                for row, interval, there, values in rows
            },
            "per_image": dict(zip(self.images, self.per_image.tolist(), strict=True)),
            "per_patient": self.per_patient,
            **({"surface": self._surface_json()} if self.surface else {}),
            **({"f1_iou": [one.to_json() for one in self.f1]} if self.f1 else {}),
        }

    def _surface_json(self) -> dict[str, Any]:
        assert self.surface is not None
        found = {
            name: {"surface_dice": near, "hausdorff95": far, "without": without}
            for name, (near, far, without) in zip((*self.classes, ""), self._surface_rows(), strict=True)
        }
        return {"tolerance": self.surface.tolerance, "spacing": self.surface.spacing, **found.pop(""), "classes": found}

    def _surface_rows(self) -> list[tuple[float, float | None, int]]:
        """Of each class, and of all: mean surface Dice, mean 95% Hausdorff distance, masks without a distance."""
        assert self.surfaces is not None
        rows = []
        for values in (*np.moveaxis(self.surfaces, 1, 0), self.surfaces.reshape(-1, 2)):
            far = values[~np.isnan(values[:, 1]), 1]
            rows.append((float(values[:, 0].mean()), float(far.mean()) if len(far) else None, len(values) - len(far)))
        return rows

    def _surface_text(self) -> list[str]:
        assert self.surface is not None
        width, spacing = max(map(len, ("class", *self.classes))), self.surface.spacing
        unit = "px" if spacing is None else "px (mm)"
        tolerance = f"{self.surface.tolerance:g} px" + (
            f" ({self.surface.tolerance * spacing:g} mm)" if spacing else ""
        )
        lines = [f"\n{'class':<{width}}  surface Dice at {tolerance}  95% Hausdorff, {unit}  without"]
        for name, (near, far, without) in zip((*self.classes, "mean"), self._surface_rows(), strict=True):
            text = "-" if far is None else f"{far:.2f}" + (f" ({far * spacing:.2f})" if spacing else "")
            lines.append(f"{name:<{width}}  {near:.4f}  {text:>8}  {without}")
        return lines

    def to_text(
        self, worst: int = 5, classes: int | None = None, file: str = "", order: Sequence[int] | None = None
    ) -> str:
        """A table for the terminal: classes, then the ``worst`` patients, then the means.

        Args:
            classes: so many of the classes, those with the lowest Dice; None: all, in their order.
            file: that has the others.
            order: numbers of the classes, if all are shown in another order.
        """
        width = max(map(len, ("class", *self.classes)))
        lines = [f"{'class':<{width}}  present    dice  95% interval           FP px     FN px  precision  recall"]
        rows, spans = self.class_table.rows, self.class_intervals
        shown, rest = lowest(self.per_class, classes, file)
        for c in shown if order is None else order:
            row = rows[c]
            errors = f"{count(row.fp):>8}  {count(row.fn):>8}"
            shares = f"{figure(row.precision) or '-':>9}  {figure(row.recall) or '-':>6}"
            span = f"{_span(spans[c]):<16}"
            lines.append(f"{row.label:<{width}}  {row.present:>7}  {row.value:.4f}  {span}  {errors}  {shares}")
        lines += rest
        lines += self._surface_text() if self.surface else []
        lines += [line for one in self.f1 for line in ("", one.to_text())]
        patients = sorted(self.per_patient.items(), key=lambda item: item[1])
        lines.append(f"\nworst of {_count(len(patients), 'patient' if self.grouped else 'image')}")
        lines += [f"  {name}  {mean:.4f}" for name, mean in patients[:worst]]
        present = "-" if self.mean_present is None else f"{self.mean_present:.4f}"
        lines.append(
            f"\n{self.name}: Dice {self.mean:.4f}, 95% interval {_span(self.interval)} {over(self.grouped)}; "
            f"{present} counting only what the truth has; {_count(len(self.images), 'image')}"
        )
        return "\n".join(lines)


def score(
    submission: Submission,
    truth: Submission,
    patients: Mapping[str, str] | None = None,
    surface: Surface | None = None,
) -> Score:
    """Dice of every image and class of ``submission`` against ``truth``, an image at a time.

    Args:
        patients: image to patient; by default each image is a patient of its own, which makes intervals too
            narrow if it is not so.
        surface: also score the distance of outlines, which needs pixels and takes far longer.

    Raises:
        DataError: images, classes or known sizes differ, an image has no patient, or a row is wrong; with ``surface``
            an image whose size is not known.
    """
    check_matching([submission, truth])
    without = [image for image in truth.images if patients is not None and image not in patients]
    if without:
        raise DataError(
            f"{len(without)} of {len(truth.images)} images have no patient, first {without[0]!r}; name the "
            "patient of every image, or none"
        )
    sizes = known_sizes([submission, truth])
    ordered = submission.reorder(truth.classes)
    unsized = [image for image in truth.images if image not in sizes]
    if surface and unsized:
        raise DataError(f"{submission.name}: the size of {unsized[0]} is not known, which surfaces need; give size=HxW")
    dice = np.empty((len(truth.images), len(truth.classes)))
    present, pixels = np.empty(dice.shape, bool), np.zeros((3, len(truth.classes)))
    surfaces = np.empty((*dice.shape, 2)) if surface else None
    for row, image in enumerate(truth.images):
        there, guess = truth.stack(image, sizes.get(image)), ordered.stack(image, sizes.get(image))
        shared, made, true = shared_areas(guess, there), guess.areas, there.areas
        dice[row] = dice_from_counts(shared, made + true)
        present[row] = true > 0
        pixels += shared, made - shared, true - shared
        if surface and surfaces is not None:
            surfaces[row] = surface_scores(guess, there, sizes[image], surface.tolerance)
    of: Sequence[str] = truth.images if patients is None else [patients[image] for image in truth.images]
    known = patients is not None
    tp, fp, fn = pixels
    counts = BinaryCounts(tp, fp, fn, np.full_like(tp, np.nan))
    return Score(
        submission.name, truth.images, truth.classes, dice, present, tuple(of), counts, known, surface, surfaces
    )


def _span(interval: Interval) -> str:
    return "-" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else value


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
