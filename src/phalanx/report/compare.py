"""Differences of evaluations, paired by patient, and the metric of some images with its interval."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ..review.evaluated import Evaluated
from ..scoring.resampling import Interval, draws, interval


class Common:
    """Images that several evaluations have, and their metric in draws of patients that all of them share.

    Attributes:
        names: of the images, sorted.
        labels: classes that all have, in the order of the first.
    """

    def __init__(self, evaluations: Sequence[Evaluated]):
        self.evaluations = evaluations
        self.names = sorted(set.intersection(*(set(one.names) for one in evaluations)))
        first = evaluations[0]
        self.labels = [label for label in first.classes if all(label in one.classes for one in evaluations)]
        people = [first.images[first.number[name]].patient for name in self.names]
        self._patient = np.unique(people, return_inverse=True)[1] if people else np.zeros(0, int)

    @cached_property
    def drawn(self) -> list[np.ndarray]:
        """Of each evaluation, the metric in draws float64[RESAMPLES, 1 + L]: of the whole, then of each label."""
        found: list[list[np.ndarray]] = [[] for _ in self.evaluations]
        for times in draws(self.patients):
            weights = times[:, self._patient]
            for k, one in enumerate(self.evaluations):
                found[k].append(self._figures(one, weights))
        return [np.concatenate(each) for each in found]

    @cached_property
    def values(self) -> list[np.ndarray]:
        """The same of all common images once, float64[1 + L]."""
        return [self._figures(one, np.ones((1, len(self.names))))[0] for one in self.evaluations]

    @property
    def patients(self) -> int:
        """How many the common images are of."""
        return int(self._patient.max()) + 1 if len(self._patient) else 0

    def _figures(self, one: Evaluated, weights: np.ndarray) -> np.ndarray:
        everything = np.zeros((len(weights), len(one.images)))
        everything[:, [one.number[name] for name in self.names]] = weights
        columns = [0, *(1 + one.classes.index(label) for label in self.labels)]
        return one.figures(everything)[:, columns]


class Difference(NamedTuple):
    """A figure of one evaluation less that of another."""

    value: float
    interval: Interval


def differences(common: Common, other: int, base: int = 0) -> list[Difference]:
    """What an evaluation has more than another, of the whole and of each label; 95% intervals over patients."""
    gaps = common.values[other] - common.values[base]
    if common.patients < 2:
        return [Difference(float(gap), None) for gap in gaps]
    drawn = common.drawn[other] - common.drawn[base]
    return [Difference(float(gap), interval(column)) for gap, column in zip(gaps, drawn.T, strict=True)]


class Subset(NamedTuple):
    """Images with a value of an attribute."""

    attribute: str
    name: str
    images: int
    patients: int
    value: float
    interval: Interval


MAX_VALUES = 12  # of an attribute; more are no groups


def subsets(one: Evaluated, attributes: Mapping[str, Sequence[str]]) -> list[Subset]:
    """The metric of the images of each value of each attribute, with 95% intervals over the patients of these."""
    found = []
    for attribute, values in attributes.items():
        names = sorted(set(values), key=_from_low)
        if not 1 < len(names) <= MAX_VALUES:
            continue
        found += [_subset(one, attribute, name, np.array([value == name for value in values])) for name in names]
    return found


def _from_low(value: str) -> tuple[str, int, str]:
    """The order of values: of thirds of a number from low to high, what is not known last; of others by name.

    >>> sorted(["age high", "age missing", "age low", "age middle"], key=_from_low)
    ['age low', 'age middle', 'age high', 'age missing']
    """
    before, _, last = value.rpartition(" ")
    place = ("low", "middle", "high", "missing").index(last) if last in ("low", "middle", "high", "missing") else 4
    return (before, place, "") if place < 4 else (value, place, value)


def _subset(one: Evaluated, attribute: str, name: str, chosen: np.ndarray) -> Subset:
    patient = np.unique(one.patient_of[chosen], return_inverse=True)[1]
    people = int(patient.max()) + 1
    span: Interval = None
    if people > 1:
        columns = []
        for times in draws(people):
            weights = np.zeros((len(times), len(one.images)))
            weights[:, chosen] = times[:, patient]
            columns.append(one.figures(weights)[:, 0])
        span = interval(np.concatenate(columns))
    return Subset(attribute, name, int(chosen.sum()), people, one.value_of(chosen), span)
