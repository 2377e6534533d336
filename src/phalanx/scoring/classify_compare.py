"""Classifications of the same images compared in pairs, and ranked with ties where the difference is within noise."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import DataError
from .classify import ClassifyScore
from .classify_report import number, text
from .resampling import Interval, interval, over


@dataclass(frozen=True)
class ClassifyComparison:
    """A figure of two predictions for the same images.

    Attributes:
        difference: of the second less the first; NaN if either is not defined.
        interval: of the difference, 95%, over draws of patients; what a patient adds to both cancels.
    """

    metric: str
    names: tuple[str, str]
    values: tuple[float, float]
    difference: float
    interval: Interval
    grouped: bool

    @property
    def tied(self) -> bool:
        """The interval contains 0, or there is none: the difference is within noise."""
        return self.interval is None or self.interval[0] <= 0 <= self.interval[1]

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON types."""
        return {
            "metric": self.metric,
            "names": list(self.names),
            "values": [number(value) for value in self.values],
            "difference": number(self.difference),
            "interval": self.interval,
            "tied": self.tied,
        }

    def to_text(self) -> str:
        """One line for the terminal."""
        span = "-" if self.interval is None else f"{self.interval[0]:+.4f} to {self.interval[1]:+.4f}"
        gap = "-" if np.isnan(self.difference) else f"{self.difference:+.4f}"
        return (
            f"{self.metric}: {self.names[0]} {text(self.values[0])}, {self.names[1]} {text(self.values[1])}; "
            f"second less first {gap}, 95% interval {span} {over(self.grouped)}"
        )


@dataclass(frozen=True)
class Rank:
    """A place in a ranking. ``tied``: not distinguishable from the first, which is tied with itself."""

    name: str
    value: float
    tied: bool


def compare_classes(first: ClassifyScore, second: ClassifyScore, metric: str) -> ClassifyComparison:
    """A figure of two scores against the same labels.

    Raises:
        DataError: they are of other images, classes, labels or patients, or have no such figure.
    """
    alike = {
        "images": first.images == second.images,
        "classes": first.classes == second.classes,
        "patients": (first.patients, first.grouped) == (second.patients, second.grouped),
        "labels": np.array_equal(first.labels, second.labels, equal_nan=True),
        "labelled images, as their heads count them": np.array_equal(first.labelled, second.labelled),
    }
    for what, same in alike.items():
        if not same:
            raise DataError(f"{first.name} and {second.name} differ in {what}; compare what the same labels scored")
    values = first.value(metric), second.value(metric)
    alone = len(set(np.array(first.patients, str)[first.labelled])) < 2
    return ClassifyComparison(
        metric, (first.name, second.name), values, values[1] - values[0],
        None if alone else interval(second.resampled(metric) - first.resampled(metric)), first.grouped,
    )  # fmt: skip


def rank_classes(scores: Sequence[ClassifyScore], metric: str) -> list[Rank]:
    """The best first; those within noise of it are tied with it. What is not defined comes last.

    Raises:
        DataError: as :func:`compare_classes`.
    """
    values = [score.value(metric) for score in scores]
    order = sorted(range(len(scores)), key=lambda i: (np.isnan(values[i]), -values[i]))
    best = scores[order[0]]
    return [
        Rank(
            scores[i].name,
            values[i],
            scores[i] is best or (not np.isnan(values[i]) and compare_classes(best, scores[i], metric).tied),
        )
        for i in order
    ]
