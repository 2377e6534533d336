"""The logger of a training: an event becomes one JSON line, and its numbers go to trackers under the same keys."""

import re
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ..config import Config, flatten
from ..runtime.files import write_json
from ..runtime.reading import MissingFile, fault, read_mapping
from ..runtime.terminal import say
from .curves import CurvesFile
from .json_lines import Event, JsonLines
from .tracker import Run, Status, Tracker, check_trackers

UNDONE = ("held_out",)  # events that come after training, and again if it continues for what follows them


class Logger:
    """Writes ``log.jsonl`` and ``curves.csv`` in a run's folder, and to each tracker of ``config.tracking``.

    A tracker that fails is reported once and is off from then on; training continues. Used as a context manager, it
    closes the trackers at the end.

    Args:
        config: the recipe.
        folder: the run's, of one fold.
        silent: nothing is written. Of several processes that train together, all but the first are silent.

    Raises:
        ConfigError: the library of a tracker is not installed.
        OutputError: a link or a file is at a place where a tracker writes.
    """

    def __init__(self, config: Config, folder: Path, silent: bool = False):
        check_trackers(config, folder)
        self.config, self.folder, self.silent = config, folder, silent
        self.lines, self.curves = JsonLines(folder / "log.jsonl"), CurvesFile(folder)
        self.trackers: dict[str, Tracker] = {}
        self.sent: dict[str, tuple[int, float]] = {}  # step and value of each key's last point

    def start(self, step: int) -> None:
        """Continues after ``step``: what was recorded after it, by work that a kill undid, is dropped or replaced."""
        if self.silent:
            return
        events = self.lines.rewind(step, UNDONE)
        self.curves.start(events)
        history = [self._fresh(event) for event in events]
        if not self.config.tracking:
            return
        run = Run(
            folder=self.folder,
            runs=self.config.runs,
            name=self.config.name,
            fold=self.folder.name,
            id=run_id(self.folder / "tracking.json"),
            step=step,
            recipe=flatten(self.config.model_dump(mode="json")),
            history=history,
        )
        for name in self.config.tracking:
            tracker = self._guard(name, step, partial(_open, name, run))
            if tracker is not None:
                self.trackers[name] = tracker

    def __call__(self, event: str, step: int, **values: Any) -> None:
        """Records an event at a step. Finite numbers among the values are plotted by the trackers."""
        if self.silent:
            return
        line = Event(event, step, round(time.time(), 1), values)
        self.lines.append(line)
        self.curves.write(line)
        fresh = self._fresh(line)
        for name, tracker in list(self.trackers.items()):
            self._guard(name, step, partial(tracker.write, fresh))

    def _fresh(self, event: Event) -> Event:
        """The event without the numbers that an earlier event of the same step has."""
        values = {key: value for key, value in event.values.items() if self.sent.get(key) != (event.step, value)}
        self.sent |= {key: (event.step, value) for key, value in event.numbers().items()}
        return event._replace(values=values)

    def picture(self, key: str, step: int, pixels: np.ndarray) -> None:
        """Gives the trackers a picture RGB uint8[H, W, 3]; the run's folder has its own."""
        for name, tracker in list(self.trackers.items()):
            self._guard(name, step, partial(tracker.picture, key, step, pixels))

    def say(self, text: str) -> None:
        """Prints one line above any progress bar."""
        if not self.silent:
            say(text)

    def close(self, status: Status = "finished") -> None:
        """Closes the trackers. Later events go to the JSON lines only."""
        for name, tracker in list(self.trackers.items()):
            step = max((step for step, _ in self.sent.values()), default=0)
            self._guard(name, step, partial(tracker.close, status))
        self.trackers.clear()

    def __enter__(self) -> "Logger":
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        self.close("finished" if kind is None else "failed")

    def _guard(self, name: str, step: int, call: Callable[[], Any]) -> Any:
        """Returns what the call of a tracker returns; if it fails, reports that and switches the tracker off."""
        try:
            return call()
        except Exception as error:
            self.trackers.pop(name, None)
            cause = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            text = f"{name} failed and is off until training is continued: {cause}"
            self.lines.append(Event("tracking", step, round(time.time(), 1), {"tracker": name, "text": text}))
            say(f"{self.folder}: {text}")
            return None


def run_id(path: Path) -> str:
    """The run's random name, which the file retains.

    Raises:
        DataError: the file is damaged.
    """
    remedy = "restore it from a copy, or delete it to record the rest as another run"
    try:
        found = read_mapping(path, remedy=remedy).get("id")
    except MissingFile:
        made = uuid.uuid4().hex[:16]
        write_json(path, {"id": made})
        return made
    if not isinstance(found, str) or not re.fullmatch("[0-9A-Za-z]{1,64}", found):
        raise fault(path, "has no id of letters and digits", remedy)
    return found


def _open(name: str, run: Run) -> Tracker:
    """Starts the tracker of that name, or continues it. May raise anything."""
    if name == "tensorboard":
        from .tensorboard import TensorBoard

        return TensorBoard(run)
    if name == "wandb":
        from .wandb import WeightsAndBiases

        return WeightsAndBiases(run)
    from .mlflow import MLflow

    return MLflow(run)
