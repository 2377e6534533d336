"""Where a run stands: its folds together, with the metric over all held-out images and an interval over patients."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ..runtime.metric import Metric
from ..scoring.resampling import Interval, mean_interval
from .fold import FoldStanding, Recipes, State, read_fold

Kind = Literal["run", "vote", "file"]
CLOSE = 1e-6  # a mean over images that differs by less from the metric is the metric


class Group(NamedTuple):
    """What may be ranked together: results of one task, metric and data set."""

    task: str
    metric: str
    higher_is_better: bool
    data: str

    @property
    def title(self) -> str:
        """In words."""
        better = "" if self.higher_is_better else ", lower is better"
        return f"{self.task} of {self.data or 'unknown data'}, {self.metric or 'not validated yet'}{better}"


@dataclass
class Standing:
    """A run, vote or CSV.

    Attributes:
        name: of a run relative to the folder that was listed; of others the path of the CSV.
        value: the metric over all images that finished folds held out.
        spread: standard deviation of the metric over folds; None of fewer than two.
        seconds: of all folds.
        members: of a vote or CSV.
        best: whether it is the best of its group.
    """

    kind: Kind
    name: str
    path: Path
    group: Group
    state: State
    fault: str = ""
    folds: list[FoldStanding] = field(default_factory=list)
    drawn: int = 0
    value: float | None = None
    interval: Interval = None
    spread: float | None = None
    images: int = 0
    patients: int = 0
    metric: Metric | None = None
    seconds: float | None = None
    machine: str = ""
    changed: float = 0.0
    recipe: dict[str, Any] = field(default_factory=dict)
    members: tuple[str, ...] = ()
    how: str = ""
    best: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether all folds that were drawn are finished."""
        scored = sum(fold.value is not None and fold.state != "damaged" for fold in self.folds)
        return self.kind != "run" or (0 < self.drawn <= scored and self.state == "finished")

    @property
    def epoch_text(self) -> str:
        """Epochs trained and of the recipe; of several folds the fewest."""
        if not self.folds:
            return "-"
        fewest = min(self.folds, key=lambda fold: fold.epoch)
        return f"{fewest.epoch}/{fewest.epochs if fewest.epochs is not None else '?'}"


def stand(run: Path, folders: Sequence[Path], root: Path, recipes: Recipes) -> Standing:
    """Where the run in a folder stands, of the folders of its folds."""
    folds = [read_fold(folder, recipes) for folder in folders]
    scored = [fold for fold in folds if fold.value is not None and fold.state != "damaged"]
    metric = next((fold.metric for fold in [*scored, *folds] if fold.metric is not None), None)
    recipe = next((fold.recipe for fold in folds if fold.recipe), {})
    data = recipe.get("data.name")
    group = Group(
        str(recipe.get("task", "segment")) if recipe else "unknown", metric.name if metric else "",
        metric is None or metric.higher_is_better, str(data) if data is not None else "",
    )  # fmt: skip
    states = [fold.state for fold in folds]
    order: tuple[State, ...] = ("damaged", "training", "stopped", "finished")
    numbers = frozenset[int]().union(*(fold.folds for fold in folds))
    times = [fold.seconds for fold in folds if fold.seconds is not None]
    machines = list(dict.fromkeys(fold.machine for fold in folds if fold.machine))
    name = str(run.relative_to(root)) if run != root else run.name or str(run)
    found = Standing(
        "run", name, run, group, next(state for state in order if state in states),
        next((fold.fault for fold in folds if fold.fault), ""), folds,
        drawn=len(numbers), metric=metric, seconds=sum(times) if times else None, machine=", ".join(machines),
        changed=max(fold.changed for fold in folds), recipe=recipe,
    )  # fmt: skip
    _score(found, [fold for fold in scored if metric is not None and fold.metric == metric])
    return found


def _score(found: Standing, scored: Sequence[FoldStanding]) -> None:
    """The metric over all images that folds held out, each image of a fold counting alike."""
    if not scored:
        return
    results = [fold.result for fold in scored if fold.result is not None]
    found.images = sum(result.images for result in results)
    found.value = sum((result.value or 0.0) * result.images for result in results) / found.images
    if len(results) > 1:
        found.spread = float(np.std([result.value or 0.0 for result in results], ddof=1))
    patients = {image: patient for fold in scored for image, patient in fold.patients.items()}
    values = {image: value for fold in scored for image, value in fold.per_image.items()}
    found.patients = len({patients[image] for image in values if image in patients})
    is_mean = all(
        fold.per_image and math.isclose(float(np.mean([*fold.per_image.values()])), fold.value or 0.0, abs_tol=CLOSE)
        for fold in scored
    )
    if is_mean and values.keys() <= patients.keys():
        found.interval = mean_interval(values, patients)
    else:  # a figure of all images together, whose interval each fold recorded
        found.interval = joint_interval([(fold.value or 0.0, result.images, fold.interval)
                                         for fold, result in zip(scored, results, strict=True)])  # fmt: skip


def joint_interval(parts: Sequence[tuple[float, int, Interval]]) -> Interval:
    """95% interval of a mean over parts with different patients, of the interval of each; None if one has none.

    Zou and Donner, Construction of confidence limits about effect measures: a general approach (2008): the distances
    of the limits from their values add up like standard deviations, each side for itself.

    Args:
        parts: value, weight and interval of each.

    >>> joint_interval([(0.8, 1, (0.6, 0.9)), (0.8, 1, (0.6, 0.9))])[0].__round__(4)
    0.6586
    >>> joint_interval([(0.8, 1, (0.6, 0.9)), (0.7, 1, None)])
    """
    whole, low, high, mean = sum(weight for _, weight, _ in parts), 0.0, 0.0, 0.0
    for value, weight, span in parts:
        if span is None:
            return None
        mean += weight / whole * value
        low += (weight / whole * (value - span[0])) ** 2
        high += (weight / whole * (span[1] - value)) ** 2
    return mean - math.sqrt(low), mean + math.sqrt(high)
