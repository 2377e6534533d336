"""Two predictions of the same images, compared in pairs: what a patient adds to both cancels."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError
from .resampling import SEED, Interval, bootstrap, over
from .score import Score

if TYPE_CHECKING:
    from .classify_compare import ClassifyComparison

FLIPS = 10_000  # random signs of the patients' differences


@dataclass(frozen=True)
class Comparison:
    """Dice of two predictions for the same images."""

    names: tuple[str, str]
    images: tuple[str, ...]
    patients: tuple[str, ...]  # of each image
    classes: tuple[str, ...]  # empty if only means over classes are known
    dice: np.ndarray  # float64[2, I, C], or [2, I, 1] without classes
    grouped: bool = True  # patients are known; else each image counts as one
    f1: "tuple[ClassifyComparison, ...]" = ()  # F1 at an IoU, of each disease that was asked for

    @property
    def means(self) -> tuple[float, float]:
        """Mean Dice of each."""
        return float(self.dice[0].mean()), float(self.dice[1].mean())

    @property
    def difference(self) -> float:
        """Mean Dice of the second less that of the first."""
        return self.means[1] - self.means[0]

    @property
    def per_patient(self) -> dict[str, float]:
        """Mean difference over each patient's images."""
        means = np.bincount(self._patient, weights=self._gaps.mean(axis=1)) / np.bincount(self._patient)
        return dict(zip(sorted(set(self.patients)), means.tolist(), strict=True))

    @property
    def interval(self) -> Interval:
        """95% interval of ``difference`` over draws of patients; None for a single patient."""
        return self._intervals[0]

    @cached_property
    def p_value(self) -> float:
        """Two-sided p under the null hypothesis: random signs of the patients' differences give as large a sum."""
        sums = np.bincount(self._patient, weights=self._gaps.mean(axis=1))
        rng = np.random.default_rng(SEED)
        limit = abs(sums.sum()) * (1 - 1e-12)  # sums of the same numbers may round differently
        draws = (rng.choice([-1.0, 1.0], (100, len(sums))) @ sums for _ in range(FLIPS // 100))
        return (1 + sum(int((abs(drawn) >= limit).sum()) for drawn in draws)) / (FLIPS + 1)

    @property
    def _gaps(self) -> np.ndarray:
        return self.dice[1] - self.dice[0]

    @cached_property
    def _patient(self) -> np.ndarray:
        return np.unique(self.patients, return_inverse=True)[1]

    @cached_property
    def _intervals(self) -> list[Interval]:
        columns = np.column_stack([self._gaps.mean(axis=1), self._gaps])
        if len(set(self.patients)) < 2:
            return [None] * columns.shape[1]
        low, high = np.percentile(bootstrap(columns, self._patient), [2.5, 97.5], axis=0)
        return list(zip(low.tolist(), high.tolist(), strict=True))

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON types; differences are the second less the first."""
        per_class = zip(self.classes, self._gaps.mean(axis=0).tolist(), self._intervals[1:], strict=False)
        return {
            "names": list(self.names),
            "dice": list(self.means),
            "difference": self.difference,
            "interval": self.interval,
            "p_value": self.p_value,
            "images": len(self.images),
            "patients": len(set(self.patients)) if self.grouped else None,
            "classes": {name: {"difference": gap, "interval": span} for name, gap, span in per_class},
            "per_patient": self.per_patient,
            **({"f1_iou": [one.to_json() for one in self.f1]} if self.f1 else {}),
        }

    def to_text(self) -> str:
        """A table for the terminal."""
        lines = []
        if self.classes:
            width = max(map(len, ("class", *self.classes)))
            lines.append(f"{'class':<{width}}    first   second  difference  95% interval")
            rows = zip(self.classes, *self.dice.mean(axis=1), self._intervals[1:], strict=True)
            lines += [f"{name:<{width}}   {a:.4f}   {b:.4f}     {b - a:+.4f}  {_span(i)}" for name, a, b, i in rows]
            lines.append("")
        gaps = sorted(self.per_patient.values())
        whose = f"patients ({len(self.images)} images)" if self.grouped else "images"
        better, worse = sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps)
        return "\n".join([
            *lines,
            f"first   {self.names[0]}: Dice {self.means[0]:.4f}",
            f"second  {self.names[1]}: Dice {self.means[1]:.4f}",
            f"second less first: {self.difference:+.4f}, 95% interval {_span(self.interval)} {over(self.grouped)}, "
            f"p {self.p_value:.4f}",
            f"{len(gaps)} {whose}: {better} better with the second, {worse} worse, "
            f"{len(gaps) - better - worse} equal",
            *(one.to_text() for one in self.f1),
        ])  # fmt: skip


def compare(first: Score, second: Score) -> Comparison:
    """Two scores against the same truth, image by image; classes in the order of the first.

    Raises:
        DataError: they are of other images, classes or patients.
    """
    alike = {
        "images": first.images == second.images,
        "classes": set(first.classes) == set(second.classes),
        "patients": (first.patients, first.grouped) == (second.patients, second.grouped),
    }
    for what, same in alike.items():
        if not same:
            raise DataError(f"{first.name} and {second.name} differ in {what}; compare what the same truth scored")
    dice = second.dice[:, [second.classes.index(name) for name in first.classes]]
    return Comparison(
        (first.name, second.name), first.images, first.patients, first.classes, np.stack([first.dice, dice]),
        first.grouped, _compared_f1(first, second),
    )  # fmt: skip


def _compared_f1(first: Score, second: Score) -> "tuple[ClassifyComparison, ...]":
    if not first.f1 and not second.f1:
        return ()
    from .f1_iou import compare_f1

    return tuple(compare_f1(*both) for both in zip(first.f1, second.f1, strict=True))


def compare_means(
    names: tuple[str, str], first: dict[str, float], second: dict[str, float], patients: dict[str, str]
) -> Comparison:
    """Mean Dice by image of two predictions. ``patients``: of each image.

    Raises:
        DataError: they are of other images.
    """
    if first.keys() != second.keys():
        only: Sequence[str] = sorted(first.keys() ^ second.keys())
        raise DataError(
            f"{' and '.join(names)} differ in {len(only)} images, such as {only[0]!r}; compare like with like"
        )
    images = tuple(sorted(first))
    dice = np.array([[of[image] for image in images] for of in (first, second)])[:, :, None]
    return Comparison(names, images, tuple(patients[image] for image in images), (), dice)


def _span(interval: Interval) -> str:
    return "-" if interval is None else f"{interval[0]:+.4f} to {interval[1]:+.4f}"
