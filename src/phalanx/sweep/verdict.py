"""Whether a difference between two recipes is more than chance, and whether it agrees with a published claim."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
from scipy.special import stdtrit

from ..runtime.metric import Metric
from .results import SweepResult
from .table import Outcome

PRIOR = 4  # degrees of freedom that the other comparisons lend to a row's variance over seeds
Verdict = Literal["agrees", "disagrees", "undecided", "not run", "open: better", "open: worse"]


@dataclass(frozen=True)
class Paired:
    """Differences in the metric of two recipes on the same patients, by seed."""

    patients: tuple[tuple[str, ...], ...]  # of each seed
    images: tuple[np.ndarray, ...]  # int64[P]
    values: tuple[np.ndarray, ...]  # float64[P, C], first recipe minus second, mean over a patient's images
    held_out: "Paired | None" = None  # out of fold, by the same seeds: the claim is about the values less these

    @classmethod
    def of(cls, ours: Sequence[SweepResult], baseline: Sequence[SweepResult], *, gap: bool = False) -> "Paired":
        """Pairs the seeds and folds that both recipes have; a seed's folds are joined.

        Args:
            gap: the difference is between test and out of fold, so results that lack the latter are left out.
        """
        others = {(result.seed, result.fold): result for result in baseline}
        pairs = [(result, other) for result in ours if (other := others.get((result.seed, result.fold)))]
        pairs = [(one, other) for one, other in pairs if (one.metric, one.images) == (other.metric, other.images)]
        if not gap:
            return cls._joined([(one.seed, _scored(one), _scored(other)) for one, other in pairs])
        test, held_out = [], []
        for one, other in pairs:
            if one.held_out and other.held_out and one.held_out["images"] == other.held_out["images"]:
                test.append((one.seed, _scored(one), _scored(other)))
                held_out.append((one.seed, one.held_out, other.held_out))
        return replace(cls._joined(test), held_out=cls._joined(held_out))

    @classmethod
    def _joined(cls, pairs: Sequence[tuple[int, dict[str, dict], dict[str, dict]]]) -> "Paired":
        seeds: dict[int, list[tuple[str, int, np.ndarray]]] = {}
        for seed, one, other in pairs:
            seeds.setdefault(seed, []).extend(
                (name, images, np.subtract(one["patients"][name], other["patients"][name]))
                for name, images in one["images"].items()
            )
        return cls(
            tuple(tuple(name for name, _, _ in rows) for rows in seeds.values()),
            tuple(np.array([images for _, images, _ in rows]) for rows in seeds.values()),
            tuple(np.stack([value for _, _, value in rows]) for rows in seeds.values()),
        )

    def by_seed(self, classes: Sequence[int]) -> np.ndarray:
        """float64[S]: mean over each seed's images and the given classes."""
        means = self._means(classes)
        return means if self.held_out is None else means - self.held_out.by_seed(classes)

    def _means(self, classes: Sequence[int]) -> np.ndarray:
        pairs = zip(self.values, self.images, strict=True)
        return np.array([np.average(value[:, classes].mean(1), weights=images) for value, images in pairs])

    def patient_variance(self, classes: Sequence[int]) -> float:
        """Variance of the mean over seeds that comes from which patients were drawn. A patient held out under several
        seeds counts as one draw (cluster-robust variance). Patients of the test set and held-out ones are different
        people, so their variances add up."""
        if self.held_out is not None:
            return replace(self, held_out=None).patient_variance(classes) + self.held_out.patient_variance(classes)
        parts: dict[str, float] = {}
        means = self._means(classes)
        for names, images, value, mean in zip(self.patients, self.images, self.values, means, strict=True):
            shares = images / images.sum() / len(means) * (value[:, classes].mean(1) - mean)
            for name, share in zip(names, shares, strict=True):
                parts[name] = parts.get(name, 0.0) + float(share)
        count = len(parts)
        return sum(part**2 for part in parts.values()) * count / (count - 1) if count > 1 else float("inf")


def _scored(result: SweepResult) -> dict[str, dict]:
    return {"patients": result.patients, "images": result.images}


@dataclass(frozen=True)
class Gain:
    """A mean difference over seeds with its 95% interval; no interval if the spread over seeds is unknown."""

    mean: float
    by_seed: tuple[float, ...]
    interval: tuple[float, float] | None

    @property
    def sign(self) -> int:
        """1 if the interval lies above zero, -1 if below, 0 if it holds zero or is unknown."""
        if self.interval is None:
            return 0
        return int(self.interval[0] > 0) - int(self.interval[1] < 0)


class Comparison(Protocol):
    """Differences of two recipes on the same patients, of which a claim is about a part: classes, or a column."""

    def by_seed(self, part: Any, /) -> np.ndarray:
        """float64[S]: mean difference of each seed."""

    def patient_variance(self, part: Any, /) -> float:
        """Variance of the mean over seeds that comes from which patients were drawn."""


def gain_of(pair: Comparison, others: Sequence[Comparison], part: Any) -> Gain:
    """The gain of one comparison, by seeds and by patients.

    Its variance is that over seeds, divided by their number, plus that over patients. Two seeds tell little of their
    spread, so the variance over seeds is moderated (Smyth, 2004): the mean of the row's own and that of all other
    comparisons at this scale, weighted by their degrees of freedom, of which the others have at most ``PRIOR``. Where
    seeds draw folds of their own, the first part holds some of the second, and the interval is rather too wide.

    Args:
        others: the other comparisons at this scale, for the spread over seeds.
        part: what the claim is about: numbers of classes of masks, a column of labels.
    """
    own = pair.by_seed(part)
    freedom, squares = len(own) - 1, float(((own - own.mean()) ** 2).sum())
    spreads = [other.by_seed(part) for other in others]
    lent = sum(len(values) - 1 for values in spreads)
    if lent:
        pooled = sum(float(((values - values.mean()) ** 2).sum()) for values in spreads) / lent
        freedom, squares = freedom + min(PRIOR, lent), squares + min(PRIOR, lent) * pooled
    if freedom == 0:
        return Gain(float(own.mean()), tuple(own.tolist()), None)
    variance = squares / freedom / len(own) + pair.patient_variance(part)
    reach = float(stdtrit(freedom, 0.975)) * variance**0.5
    return Gain(float(own.mean()), tuple(own.tolist()), (float(own.mean()) - reach, float(own.mean()) + reach))


def verdict(outcome: Outcome, gain: Gain | None, metric: Metric) -> Verdict:
    """What our gain says about a published outcome.

    >>> verdict("worked", Gain(0.02, (0.01, 0.03), (0.005, 0.035)), Metric("auc"))
    'agrees'
    >>> verdict("worked", Gain(0.02, (0.01, 0.03), (0.005, 0.035)), Metric("loss", higher_is_better=False))
    'disagrees'
    >>> verdict("did not help", Gain(0.02, (0.01, 0.03), (-0.005, 0.045)), Metric("auc"))
    'undecided'
    """
    if gain is None:
        return "not run"
    sign = metric.sign * gain.sign
    if sign == 0:
        return "undecided"
    if outcome == "open":
        return "open: better" if sign > 0 else "open: worse"
    return "agrees" if (sign > 0) == (outcome == "worked") else "disagrees"
