"""Thresholds of scores for boxes, one for all classes or one for each, chosen on images that the networks did not see.

A threshold has the highest F1 at the IoU of the score. What it is worth is cross-fitted: chosen on all parts of the
images but one, and scored on that one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from .boxes import BoxScore, Threshold, best_of
from .classify_report import number, text
from .confusion import BinaryCounts, mean_defined
from .resampling import Interval, draws, interval, over

By = Literal["auto", "class", "one"]
MIN_OBJECTS = 10  # of a class, or its own threshold would be chance: it takes the one for all
PARTS = 5  # into which the patients are divided, if the images are not of several folds


class Fitted(NamedTuple):
    """Thresholds chosen on some images: ``one`` for all classes, and ``own`` float64[C]."""

    one: float
    own: np.ndarray


@dataclass(frozen=True)
class ChosenThresholds:
    """Thresholds, and what they are worth on images that they were not chosen on. Made by :func:`choose_thresholds`.

    Attributes:
        f1: float64[C] of each class by ``one`` and ``class``, cross-fitted; NaN without objects and boxes. Empty if all
            images are of one patient.
        mean: over the classes, of the same.
        gain: of ``class`` over ``one`` in the mean, with its interval over patients.
        used: what ``thresholds`` are.
    """

    classes: tuple[str, ...]
    objects: np.ndarray
    fitted: Fitted
    f1: dict[str, np.ndarray]
    mean: dict[str, float]
    gain: tuple[float, Interval]
    used: Literal["class", "one"]
    grouped: bool

    @property
    def thresholds(self) -> dict[str, float]:
        """The threshold of each class."""
        values = self.fitted.own if self.used == "class" else np.full(len(self.classes), self.fitted.one)
        return dict(zip(self.classes, values.tolist(), strict=True))

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON types."""
        return {
            "one": self.fitted.one,
            "class": dict(zip(self.classes, self.fitted.own.tolist(), strict=True)),
            "used": self.used,
            "objects": dict(zip(self.classes, self.objects.tolist(), strict=True)),
            "f1": {
                name: dict(zip(self.classes, map(number, each.tolist()), strict=True)) for name, each in self.f1.items()
            },
            "mean_f1": {name: number(value) for name, value in self.mean.items()},
            "gain": number(self.gain[0]),
            "interval": self.gain[1],
        }

    def to_text(self) -> str:
        """Lines for the terminal."""
        width = max(map(len, ("class", *self.classes)))
        lines = [f"{'class':<{width}}  objects  threshold  F1 by it  F1 by one for all"]
        for c, name in enumerate(self.classes):
            values = [text(self.f1[key][c]) if self.f1 else "-" for key in ("class", "one")]
            own = self.fitted.own[c]
            lines.append(f"{name:<{width}}  {self.objects[c]:>7}  {own:>9.4f}  {values[0]:>8}  {values[1]:>17}")
        lines.append(f"one for all: {self.fitted.one:.4f}")
        if few := [name for c, name in enumerate(self.classes) if self.objects[c] < MIN_OBJECTS]:
            lines.append(f"note: fewer than {MIN_OBJECTS} objects of {', '.join(few)}: the threshold is that for all")
        if self.f1:
            span = self.gain[1]
            shown = "-" if span is None else f"{span[0]:+.4f} to {span[1]:+.4f}"
            lines.append(
                f"mean F1 of the classes, on images that a threshold was not chosen on: by class "
                f"{text(self.mean['class'])}, one for all {text(self.mean['one'])}; gain {text(self.gain[0])}, 95% "
                f"interval {shown} {over(self.grouped)}"
            )
        else:
            lines.append("note: all images are of one patient, so it is not known what the thresholds are worth")
        lines.append("used: " + ("one for each class" if self.used == "class" else "one for all classes"))
        return "\n".join(lines)


def choose_thresholds(score: BoxScore, folds: Sequence[int], by: By = "auto") -> ChosenThresholds:
    """Thresholds of the scores of out-of-fold boxes.

    Args:
        folds: of each image; of a single fold, its patients are divided into ``PARTS``.
        by: one threshold for each ``class``, ``one`` for all, or ``auto``, whichever has the higher mean F1 on images
            that it was not chosen on, and of equals one for all.
    """
    objects = np.array([int(one.objects.sum()) for one in score.matches])
    everything = fit_thresholds(score, np.ones(len(score.images), bool))
    patients = np.unique(score.patients, return_inverse=True)[1]
    parts = np.asarray(folds) if len(set(folds)) > 1 else patients % PARTS
    mean, f1 = dict[str, float](), dict[str, np.ndarray]()
    gain: tuple[float, Interval] = (float("nan"), None)
    if len(np.unique(parts)) > 1:
        limits = {name: np.empty((len(score.images), len(score.classes))) for name in ("one", "class")}
        for part in np.unique(parts).tolist():
            found = fit_thresholds(score, parts != part)
            limits["one"][parts == part], limits["class"][parts == part] = found.one, found.own
        counts = {name: counts_by_image(score, each) for name, each in limits.items()}
        f1 = {name: _f1(each.sum(axis=0)) for name, each in counts.items()}
        mean = {name: float(mean_defined(each)) for name, each in f1.items()}
        gain = (mean["class"] - mean["one"], _interval_of_gain(counts, patients))
    better = bool(mean) and gain[0] > 0
    used: Literal["class", "one"] = "class" if by == "class" or (by == "auto" and better) else "one"
    return ChosenThresholds(score.classes, objects, everything, f1, mean, gain, used, score.grouped)


def fit_thresholds(score: BoxScore, images: np.ndarray) -> Fitted:
    """The thresholds that are best on some images bool[I]; of classes with few objects there, that for all."""
    t = score.matched_at
    parts = [one.of_images(images) for one in score.matches]
    one = best_of(parts, t).score
    own = [
        best_of([part], t) if part.objects.sum() >= MIN_OBJECTS else Threshold(one, 0.0) for part in parts
    ]  # a class that no box finds keeps the threshold for all: 1 would hide it for good
    return Fitted(one, np.array([each.score if each.f1 > 0 else one for each in own]))


def counts_by_image(score: BoxScore, limits: np.ndarray) -> np.ndarray:
    """float64[I, C, 3]: true positives, false positives and misses of each image and class.

    Args:
        limits: float64[I, C], a box counts if its score is at least that.
    """
    made, t = np.zeros((len(score.images), len(score.classes), 3)), score.matched_at
    for c, one in enumerate(score.matches):
        counted = (one.scores >= limits[one.image, c]) & ~one.ignored[t]
        right = counted & one.found[t]
        np.add.at(made[:, c, 0], one.image[right], 1)
        np.add.at(made[:, c, 1], one.image[counted & ~right], 1)
        made[:, c, 2] = one.objects - made[:, c, 0]
    return made


def f1_by_image(score: BoxScore, limits: np.ndarray | float) -> np.ndarray:
    """float64[I]: F1 over all classes of each image; 1 if there is neither an object nor a box that counts.

    Args:
        limits: scores from which a box counts, float or float64[C].
    """
    shape = (len(score.images), len(score.classes))
    tp, fp, fn = counts_by_image(score, np.broadcast_to(limits, shape)).sum(axis=1).T
    found = BinaryCounts(tp, fp, fn, np.zeros_like(tp)).f1
    return np.where(np.isnan(found), 1.0, found)


def _f1(counts: np.ndarray) -> np.ndarray:
    """F1 float64[..., C] of counts float64[..., C, 3]."""
    tp, fp, fn = np.moveaxis(counts, -1, 0)
    return BinaryCounts(tp, fp, fn, np.zeros_like(tp)).f1


def _interval_of_gain(counts: dict[str, np.ndarray], patients: np.ndarray) -> Interval:
    """95% interval over patients of the mean F1 by class less that of one for all."""
    people = int(patients.max()) + 1
    if people < 2:
        return None
    columns = {}
    for name, each in counts.items():
        sums = np.zeros((people, *each.shape[1:]))
        np.add.at(sums, patients, each)
        flat = sums.reshape(people, -1)
        columns[name] = np.concatenate(
            [mean_defined(_f1((drawn @ flat).reshape(-1, *each.shape[1:]))) for drawn in draws(people)]
        )
    return interval(columns["class"] - columns["one"])
