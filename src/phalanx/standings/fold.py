"""Where one fold of a run stands, of whatever is in its folder; what cannot be read is damage, and no error."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from ..config import flatten, validate
from ..errors import ConfigError, PhalanxError
from ..runs.reader import FoldResult, FoldRun
from ..runtime.locks import is_held
from ..runtime.metric import Metric
from ..runtime.reading import LIST, as_real, read_mapping

State = Literal["finished", "training", "stopped", "damaged"]
STATES: tuple[State, ...] = ("finished", "training", "stopped", "damaged")
Found = TypeVar("Found")


@dataclass
class FoldStanding:
    """What is known of one fold.

    Attributes:
        state: stopped: neither finished nor trained by any process now.
        fault: what is damaged, and what to do about it.
        recipe: values by dotted key; options that came later have the values that change nothing.
        epoch, epochs: trained, and of the recipe.
        result: of a finished fold.
        validated: of one that is not: the metric of its last validation, on its own held-out images.
        per_image: the metric of each held-out image.
        interval: 95%, as the fold recorded it for its metric.
        seconds: of training, and of predicting the held-out images.
        changed: when its log was last written to, in seconds since 1970.
    """

    folder: Path
    number: int | None
    state: State = "damaged"
    fault: str = ""
    recipe: dict[str, Any] = field(default_factory=dict)
    epoch: int = 0
    epochs: int | None = None
    result: FoldResult | None = None
    validated: float | None = None
    metric: Metric | None = None
    per_image: dict[str, float] = field(default_factory=dict)
    patients: dict[str, str] = field(default_factory=dict)
    folds: frozenset[int] = frozenset()
    interval: tuple[float, float] | None = None
    seconds: float | None = None
    machine: str = ""
    commit: str = ""
    changed: float = 0.0

    @property
    def name(self) -> str:
        """``fold0``, or ``all``."""
        return self.folder.name

    @property
    def value(self) -> float | None:
        """The metric over the held-out images of a finished fold."""
        return self.result.value if self.result is not None else None


class Recipes:
    """Reads recipes of folds; those of one text are read once, as those of a run's folds nearly always are."""

    def __init__(self) -> None:
        self._known: dict[bytes, dict[str, Any]] = {}

    def of(self, run: FoldRun) -> dict[str, Any]:
        """The values of a fold's recipe by dotted key. Raises as `FoldRun.recipe`."""
        try:
            content = (run.folder / "config.yaml").read_bytes()
        except OSError:
            content = b""
        if content not in self._known:
            values = run.recipe
            with suppress(ConfigError):  # an option that is no more: the values as they were written
                values = validate(values).model_dump(mode="json")
            self._known[content] = flatten(values)
        return self._known[content]


def read_fold(folder: Path, recipes: Recipes) -> FoldStanding:
    """Where the fold in a folder stands."""
    run = FoldRun(folder)
    found = FoldStanding(folder, run.number)
    faults = list[str]()

    def attempt(read: Callable[[], Found]) -> Found | None:
        try:
            return read()
        except (PhalanxError, OSError) as error:
            faults.append(str(error))
            return None

    found.recipe = attempt(lambda: recipes.of(run)) or {}
    epochs = found.recipe.get("epochs")
    found.epochs = epochs if isinstance(epochs, int) else None
    found.result = attempt(lambda: run.result)
    held = is_held(folder)
    begun = held or found.result is not None or (folder / "log.jsonl").exists()
    lines = (attempt(run.log) or []) if begun and (folder / "log.jsonl").exists() else []
    _from_log(found, lines)
    if found.result is not None:
        found.metric = found.result.metric
        found.seconds = found.result.seconds_train + found.result.seconds_held_out
        if found.result.value is not None:
            found.per_image = attempt(lambda: run.per_image) or {}
            found.patients = attempt(lambda: run.patients) or {}
            found.folds = frozenset((attempt(lambda: run.folds) or {}).values())
            found.interval = attempt(lambda: _interval(folder, run.result))
        for lost in ("final", "oof.csv") if found.result.value is not None else ("final",):
            if not (folder / lost).exists():
                faults.append(f"{folder / lost}: no such file, though the fold is finished; train it again")
    elif (folder / "folds.csv").exists():
        found.folds = frozenset((attempt(lambda: run.folds) or {}).values())
    if (folder / "environment.json").exists() or found.result is not None:
        about = attempt(lambda: run.environment) or {}
        found.machine = machine_of(about)
        found.commit = about.get("commit") or ""
    found.state = "damaged" if faults else "training" if held else "finished" if found.result is not None else "stopped"
    found.fault = faults[0] if faults else ""
    return found


def machine_of(environment: dict[str, Any]) -> str:
    """The device that a fold was trained on, as far as its environment.json names it."""
    gpu, machine, threads = (environment.get(key) for key in ("gpu", "machine", "threads"))
    return str(gpu) if gpu else f"CPU {machine or ''} x{threads}".replace("  ", " ") if threads else ""


def _from_log(found: FoldStanding, lines: list[dict[str, Any]]) -> None:
    """Epochs, time and the last validation, of the lines of a log. Numbers of epochs are only compared: earlier logs
    count from zero."""
    found.epoch = len({line.get("epoch") for line in lines if line["event"] == "epoch"})
    seconds, since = 0.0, None
    for line in lines:
        time = line.get("time")
        if not isinstance(time, int | float):
            continue
        if since is not None and line["event"] != "start":  # between two calls nothing is trained
            seconds += max(0.0, time - since)
        since = found.changed = time
    found.seconds = seconds if lines else None
    for line in lines:
        if line["event"] == "start" and isinstance(line.get("metric"), dict):
            try:
                found.metric = Metric.from_json(line["metric"])
            except ValueError:
                continue
        value = line.get(f"held_out/{found.metric.name}") if found.metric else None
        if line["event"] == "validate" and isinstance(value, int | float):
            found.validated = float(value)


def _interval(folder: Path, result: FoldResult | None) -> tuple[float, float] | None:
    """The interval that a fold's scores record for its metric; None if they have none.

    Raises:
        DataError: oof_score.json is missing or damaged.
    """
    values = read_mapping(folder / "oof_score.json", LIST)
    name = result.metric.name if result is not None else ""
    metrics = values.get("metrics")
    tables = [one for one in metrics.values() if isinstance(one, dict)] if isinstance(metrics, dict) else []
    named = [metrics[name]] if isinstance(metrics, dict) and isinstance(metrics.get(name), dict) else []
    about = values.get("metric")
    own = [values] if isinstance(about, dict) and about.get("name") == name else []
    # one under another name, as f1 is in a detector's scores of f1_iou, if it is the same number
    same = [one for one in tables if result is not None and one.get("value") == result.value]
    for table in (*named, *own, *same):
        span = table.get("interval")
        if isinstance(span, list) and len(span) == 2:
            return as_real(span[0]), as_real(span[1])
    return None
