"""The curves of a training: every number that its log has over epochs, as a table of one row per step."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from ..runtime.files import write_text
from ..runtime.metric import Metric
from .json_lines import Event

NAME = "curves.csv"  # in a run's folder
PLOTTED = ("epoch", "validate", "monitor", "held_out")  # events with numbers over time
HELD_OUT, MONITORED, FINAL = "held_out/", "monitored/", "out_of_fold/"  # beginnings of keys


class Curves(NamedTuple):
    """The numbers of one fold's training.

    Attributes:
        rows: numbers by key of each step that has some, in order; ``step`` and ``epoch`` are among them.
        metric: by which weights are ranked; None of a log that has not begun.
        trained_by: key of the metric of training steps; None if the log has none.
        plan: step and learning rate, as they were planned when training began.
        steps_per_epoch: 0 if nothing shows how many there are.
        changes: epoch and text of what changed on the way, such as loss stages.
    """

    rows: Sequence[dict[str, float]]
    metric: Metric | None = None
    trained_by: str | None = None
    plan: Sequence[tuple[float, float]] = ()
    steps_per_epoch: float = 0
    changes: Sequence[tuple[float, str]] = ()

    @property
    def keys(self) -> list[str]:
        """All keys, in the order in which they first appeared."""
        return list(dict.fromkeys(key for row in self.rows for key in row))

    def points(self, key: str) -> list[tuple[float, float]]:
        """Epochs done, of which the last may be a part, and value of a key wherever it has one."""
        return [(self.place(row["step"]), row[key]) for row in self.rows if key in row]

    def place(self, step: float) -> float:
        """Epochs done after a step; steps if it is not known how many an epoch has."""
        return step / (self.steps_per_epoch or 1)

    def by_class(self, part: str = HELD_OUT) -> dict[str, dict[str, str]]:
        """Keys of classes: by figure, and then by class."""
        return self._details(part, "class")

    def by_group(self, part: str = HELD_OUT) -> dict[str, dict[str, str]]:
        """Keys of images with something in common: by figure, and then by what it is."""
        return self._details(part, "group")

    def _details(self, part: str, wanted: str) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for key in self.keys:
            if key.startswith(part):
                figure, kind, name = [*key.removeprefix(part).split("/", 2), "", ""][:3]
                if kind == wanted and name:
                    found.setdefault(figure, {})[name] = key
        return found

    def to_csv(self) -> str:
        """A row per step; empty where a step has no number of that key."""
        keys, text = self.keys, io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(keys)
        table.writerows([_cell(row[key]) if key in row else "" for key in keys] for row in self.rows)
        return text.getvalue()


def curves_of(events: Iterable[Event]) -> Curves:
    """The curves in the events of a log, of this version or an earlier one."""
    rows: dict[int, dict[str, float]] = {}
    found, begun, changes = Curves([]), dict[str, Any](), list[tuple[float, str]]()
    events = list(events)
    for event in events:
        if event.name == "start":
            begun = event.values
        elif event.name in PLOTTED:
            numbers = event.numbers()
            rows.setdefault(event.step, {}).update({key: numbers[key] for key in numbers if key != "epoch"})
    each = _steps_per_epoch(events, begun)
    for event in events:
        if event.name in ("stage", "plateau", "stop", "weights"):
            text = {"stage": "loss stage", "plateau": "LR reduced", "stop": "stopped", "weights": "re-weighted"}
            number = event.values.get("stage")
            label = text[event.name] + (f" {number}" if isinstance(number, int) and "text" in event.values else "")
            changes.append((event.step / (each or 1), label))
    ordered = [{"step": step, **_epoch(step, each), **rows[step]} for step in sorted(rows)]
    found = found._replace(rows=ordered, steps_per_epoch=each, changes=changes)
    try:
        found = found._replace(metric=Metric.from_json(begun.get("metric")))
    except (ValueError, TypeError, AttributeError):
        found = found._replace(metric=_guessed(found.keys))
    trained = begun.get("trained_by")
    if not isinstance(trained, str):  # an earlier version's: by the metric itself, if steps have it
        trained = found.metric.name if found.metric and found.metric.name in found.keys else None
    plan = begun.get("lr_plan")
    pairs = [pair for pair in plan if _is_pair(pair)] if isinstance(plan, list) else []
    return found._replace(trained_by=trained, plan=[(float(step), float(rate)) for step, rate in pairs])


def joined_csv(runs: Sequence[tuple[str, Sequence[Curves]]]) -> str:
    """The rows of several runs under each other: run, number of the fold in its order from 1, and all keys."""
    keys = list(dict.fromkeys(key for _, folds in runs for one in folds for key in one.keys))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["run", "fold", *keys])
    for name, folds in runs:
        for number, one in enumerate(folds, 1):
            table.writerows(
                [name, number, *(_cell(row[key]) if key in row else "" for key in keys)] for row in one.rows
            )
    return text.getvalue()


class CurvesFile:
    """``curves.csv`` of a run's folder, rewritten whenever an epoch or a validation is over."""

    def __init__(self, folder: Path):
        self.path, self.events = folder / NAME, list[Event]()

    def start(self, history: Iterable[Event]) -> None:
        """Takes up the events so far."""
        self.events = list(history)
        if any(event.name in PLOTTED for event in self.events):
            write_text(self.path, self.curves.to_csv())

    def write(self, event: Event) -> None:
        """Takes in an event."""
        self.events.append(event)
        if event.name in PLOTTED:
            write_text(self.path, self.curves.to_csv())

    @property
    def curves(self) -> Curves:
        return curves_of(self.events)


def _epoch(step: int, each: float) -> dict[str, float]:
    """The epoch that a step belongs to, from 1, if that is known."""
    return {"epoch": math.ceil(step / each - 1e-9)} if each else {}


def _steps_per_epoch(events: Sequence[Event], begun: dict[str, Any]) -> float:
    """By what the log says of the whole training, else by the steps at which epochs ended."""
    steps, epochs = begun.get("steps"), begun.get("epochs")
    if isinstance(steps, int) and isinstance(epochs, int) and epochs > 0 and steps > 0:
        return steps / epochs
    ends = [0, *sorted({event.step for event in events if event.name == "epoch"})]
    return min((after - before for before, after in pairwise(ends)), default=0)


def _guessed(keys: Sequence[str]) -> Metric | None:
    """The metric of a log that does not name it: the first figure of held-out images."""
    return next((Metric(key.removeprefix(HELD_OUT)) for key in keys if key.startswith(HELD_OUT)), None)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(one) in (int, float) for one in value)


def _cell(value: float) -> str:
    """A number with at most ten digits."""
    return f"{value:.10g}"
