"""The one reader of run folders: recipe, folds, log, result, scores. Loads neither torch nor an image library."""

import csv
import json
import re
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from ..config import Config, nearest, read_plain, validate
from ..errors import ConfigError, DataError
from ..runtime.metric import Metric

FORMAT = 2  # of a run's folder, the first line of its config.yaml
RETRAIN = "train it again"


class FoldResult(NamedTuple):
    """What a finished fold was worth: done.json.

    Attributes:
        value: the metric over all held-out images, by the path of a submission; None if nothing was held out.
        images: number of held-out images.
        seconds_train, seconds_held_out: time of training, over all calls, and of predicting and scoring.
    """

    metric: Metric
    value: float | None
    images: int
    seconds_train: float
    seconds_held_out: float

    @property
    def text(self) -> str:
        """The value with the metric's decimals, or '-'."""
        return self.metric.text(self.value)

    def to_json(self) -> dict[str, Any]:
        """All fields by name."""
        return self._asdict() | {"metric": self.metric.to_json()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "FoldResult":
        """The result of :meth:`to_json`.

        Raises:
            KeyError, TypeError: the values are not those of a result.
        """
        value = values["value"]
        if not (value is None or isinstance(value, int | float)):
            raise TypeError("the value is not a number")
        times = float(values["seconds_train"]), float(values["seconds_held_out"])
        return cls(Metric.from_json(values["metric"]), value, int(values["images"]), *times)


class FoldRun:
    """One fold's folder of a run, read only and when asked."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    @property
    def name(self) -> str:
        """``fold0``, or ``all`` if nothing was held out."""
        return self.folder.name

    @property
    def number(self) -> int | None:
        """Number of the fold; None for ``all``."""
        found = re.fullmatch(r"fold(\d+)", self.name)
        return int(found[1]) if found else None

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """The values of config.yaml.

        Raises:
            ConfigError: no such file, not a recipe, or the folder has another format.
        """
        try:
            values = read_plain(self.folder / "config.yaml")
        except ConfigError as error:
            raise ConfigError(f"{self.folder}: not a run folder; {error}") from None
        found = values.pop("format", 1)
        if found != FORMAT:
            age = "an earlier" if isinstance(found, int) and found < FORMAT else "another"
            raise ConfigError(
                f"{self.folder}: has run format {found}, written by {age} version of Phalanx; this one reads format "
                f"{FORMAT}. Use the version in its environment.json, or {RETRAIN} under another name="
            )
        return values

    @cached_property
    def config(self) -> Config:
        """The configuration it was trained with. Raises as :attr:`recipe`."""
        return validate(self.recipe)

    @cached_property
    def result(self) -> FoldResult | None:
        """What the finished fold was worth; None while it is not finished.

        Raises:
            DataError: done.json is damaged.
        """
        try:
            text = (self.folder / "done.json").read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise self._damaged("done.json", error) from None
        try:
            return FoldResult.from_json(json.loads(text))
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged("done.json", error) from None

    @cached_property
    def score(self) -> dict[str, Any]:
        """The scores of the held-out images: oof_score.json.

        Raises:
            DataError: it is missing or damaged.
        """
        return self._json("oof_score.json")

    @cached_property
    def per_image(self) -> dict[str, float]:
        """The metric of each held-out image. Raises as :attr:`score`."""
        try:
            return {str(name): float(value) for name, value in self.score["per_image"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._damaged("oof_score.json", error) from None

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Versions, commit and machine. Raises DataError if environment.json is missing or damaged."""
        return self._json("environment.json")

    @cached_property
    def _rows(self) -> list[tuple[str, str, int]]:
        try:
            with (self.folder / "folds.csv").open(newline="", encoding="utf-8") as file:
                rows = [(row["image_name"], row["group"], int(row["fold"])) for row in csv.DictReader(file)]
            if not rows:
                raise ValueError("no images")
            return rows
        except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
            raise self._damaged("folds.csv", error) from None

    @property
    def folds(self) -> dict[str, int]:
        """Fold of each image of the run. Raises DataError if folds.csv is missing or damaged."""
        return {image: fold for image, _, fold in self._rows}

    @property
    def patients(self) -> dict[str, str]:
        """Patient of each image of the run. Raises as :attr:`folds`."""
        return {image: patient for image, patient, _ in self._rows}

    def log(self, event: str | None = None) -> list[dict[str, Any]]:
        """Lines of log.jsonl, or those of one event. The last may have been cut off by a kill and is left out then.

        Raises:
            DataError: it is missing or damaged.
        """
        try:
            lines = (self.folder / "log.jsonl").read_text(encoding="utf-8").split("\n")
            found = [json.loads(line) for line in lines[:-1] if line]
            return [line for line in found if event in (None, line["event"])]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged("log.jsonl", error) from None

    def weights_digest(self, kind: str = "final") -> str | None:
        """SHA-256 of the averaged weights of a checkpoint, as its manifest records it; None without that checkpoint.

        Args:
            kind: final, best or last.

        Raises:
            DataError: the manifest is damaged.
        """
        name = f"{kind}/state.json"
        if not (self.folder / name).is_file():
            return None
        try:
            return str(self._json(name)["files"]["weights.safetensors"])
        except (KeyError, TypeError) as error:
            raise self._damaged(name, error) from None

    def _json(self, name: str) -> dict[str, Any]:
        try:
            values = json.loads((self.folder / name).read_text(encoding="utf-8"))
            if not isinstance(values, dict):
                raise ValueError("not a mapping")
            return values
        except (OSError, ValueError) as error:
            raise self._damaged(name, error) from None

    def _damaged(self, name: str, error: Exception) -> DataError:
        reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        return DataError(f"{self.folder}: not a readable run ({name}: {reason}); {RETRAIN}")


def folds_of(run: Path) -> list[FoldRun]:
    """The folds that were begun in a run's folder, by number, then ``all``."""
    found = [FoldRun(path.parent) for path in run.glob("*/config.yaml")]
    return sorted(found, key=lambda fold: (fold.number is None, fold.number or 0, fold.name))


def _holds_runs(place: Path) -> bool:
    return (place / "config.yaml").is_file() or any(place.glob("*/config.yaml"))


def fold_folders(name: str, runs: Path, weights: str = "final") -> list[Path]:
    """Folders of the trained folds that a member's name stands for: a run name or one fold's folder.

    Raises:
        ConfigError: nothing of that name, or folds that were begun and not finished, unless ``weights`` are the last.
    """
    place = next((p for p in (Path(name), runs / name) if _holds_runs(p)), runs / name)
    if (place / "config.yaml").is_file():
        return [place]
    folders = sorted(path.parent for path in place.glob("*/config.yaml"))
    if not folders:
        known = sorted(path.name for path in runs.glob("*") if any(path.glob("*/config.yaml"))) if runs.is_dir() else []
        raise ConfigError(f"{name}: no trained run of that name in {runs}{nearest(name, known) if known else ''}")
    unfinished = [folder for folder in folders if not (folder / "final").is_dir()]
    if unfinished and weights != "last":
        raise ConfigError(
            f"{unfinished[0]}: not finished; continue it by the command it was started with, or name the finished "
            f"folds one by one ({', '.join(str(f) for f in folders if f not in unfinished) or 'there are none'}), or "
            "use the weights so far with weights=last"
        )
    return folders
