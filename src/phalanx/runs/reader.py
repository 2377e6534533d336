"""The one reader of run folders: recipe, folds, log, result, scores. Loads neither torch nor an image library."""

import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ..config import Config, nearest, read_plain, validate
from ..errors import ConfigError, DataError, one_line
from ..runtime.metric import Metric
from ..runtime.reading import (
    LIST,
    SMALL,
    as_hash,
    as_mapping,
    as_name,
    as_real,
    as_whole,
    fault,
    listed,
    read_json_lines,
    read_mapping,
    read_rows,
)

FORMAT = 2  # of a run's folder, the first line of its config.yaml
RETRAIN = "train it again"
REMEDY = f"restore it from a copy, or {RETRAIN}"
TRAINED = ("final", "best", "last", "done.json")  # what the folder of a fold has
MAX_FOLDS = 1 << 20
Found = TypeVar("Found")
Recipe = TypeVar("Recipe", bound=Config)


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
            ValueError: the values are not those of a result.
        """
        if values.keys() != set(cls._fields):
            raise ValueError(f"does not have the fields {', '.join(cls._fields)}")
        metric, value = Metric.from_json(values["metric"]), values["value"]
        images = as_whole(values["images"])
        if (value is None) != (images == 0):
            raise ValueError("has a value without images, or images without a value")
        times = as_real(values["seconds_train"], 0), as_real(values["seconds_held_out"], 0)
        return cls(metric, value if value is None else as_real(value), images, *times)


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
        found = re.fullmatch("fold([0-9]+)", self.name)
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
            raise ConfigError(f"{self.folder}: not a run folder; {error}; {REMEDY}") from None
        found = values.pop("format", 1)
        if found != FORMAT:
            age = "an earlier" if isinstance(found, int) and found < FORMAT else "another"
            found = one_line(str(found), 40)
            raise ConfigError(
                f"{self.folder}: has run format {found}, written by {age} version of Phalanx; this one reads format "
                f"{FORMAT}. Use the version in its environment.json, or {RETRAIN} under another name="
            )
        return values

    @cached_property
    def config(self) -> Config:
        """The configuration it was trained with. Raises as :attr:`recipe`."""
        values = self.recipe
        try:
            return validate(values)
        except ConfigError as error:
            first, *others = str(error).splitlines()
            more = f" (and {len(others)} more)" if others else ""
            raise ConfigError(
                f"{self.folder / 'config.yaml'}: {one_line(first)}{more}; use the version in its environment.json, or "
                f"{RETRAIN} under another name="
            ) from None

    def config_of(self, kind: type[Recipe]) -> Recipe:
        """The configuration, of a task's class. Raises as :attr:`config`, and ConfigError if it is of another task."""
        found = self.config
        if not isinstance(found, kind):
            wanted = kind.model_fields["task"].default
            raise ConfigError(f"{self.folder}: is a run of task={found.task}; this needs one of task={wanted}")
        return found

    @cached_property
    def result(self) -> FoldResult | None:
        """What the finished fold was worth; None while it is not finished.

        Raises:
            DataError: done.json is damaged.
        """
        path = self.folder / "done.json"
        if not (path.exists() or path.is_symlink()):
            return None
        return self._parsed("done.json", FoldResult.from_json)

    @property
    def is_scored(self) -> bool:
        """Whether there are scores of held-out images, or there must be, as the fold is finished. Raises as
        :attr:`result`."""
        path = self.folder / "oof_score.json"
        return path.exists() or path.is_symlink() or (self.result is not None and self.result.value is not None)

    @cached_property
    def per_image(self) -> dict[str, float]:
        """The metric of each held-out image, of oof_score.json.

        Raises:
            DataError: it is missing or damaged.
        """

        def read(values: dict[str, Any]) -> dict[str, float]:
            return {
                as_name(image): as_real(value)
                for image, value in as_mapping(values.get("per_image"), "per_image").items()
            }

        return self._parsed("oof_score.json", read, LIST)

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Versions, commit, threads and machine.

        Raises:
            DataError: environment.json is missing or damaged.
        """

        def read(values: dict[str, Any]) -> dict[str, Any]:
            as_whole(values.get("threads"), 1)
            for key in ("commit", "gpu"):
                if values.get(key) is not None:
                    as_name(values[key])
            if (found := values.get("pretrained")) is not None:
                texts = as_mapping(found, "pretrained")
                if sorted(texts) != ["licence", "name", "source"]:
                    raise ValueError("pretrained is not the name, source and licence of weights")
                values = {**values, "pretrained": {key: as_name(text) for key, text in texts.items()}}
            return {"commit": None, "gpu": None, "pretrained": None, **values}

        return self._parsed("environment.json", read)

    @property
    def pretrained(self) -> dict[str, str] | None:
        """Name, source and licence of the pretrained weights; None in runs of earlier versions. Raises as
        :attr:`environment`."""
        return self.environment["pretrained"]

    @cached_property
    def snapshot(self) -> dict[str, Any] | None:
        """The version of the data set it was trained on, see `data.versions.named`; None if it has no snapshot.json.

        Raises:
            DataError: it is damaged.
        """

        def read(values: dict[str, Any]) -> dict[str, Any]:
            return {**values, "name": as_name(values.get("name")), "digest": as_hash(values.get("digest"))}

        return self._parsed("snapshot.json", read) if (self.folder / "snapshot.json").exists() else None

    @cached_property
    def _rows(self) -> list[tuple[str, str, int]]:
        path = self.folder / "folds.csv"
        header, *rows = read_rows(path, LIST, REMEDY) or [[]]
        if header != ["image_name", "group", "fold"] or not rows:
            raise fault(path, "has not the header image_name,group,fold and a row per image", REMEDY)
        for number, row in enumerate(rows, 1):
            if len(row) != 3 or not row[0] or not re.fullmatch("[0-9]{1,7}", row[2]) or int(row[2]) >= MAX_FOLDS:
                raise fault(path, f"row {number} is not an image, its patient and the number of its fold", REMEDY)
        if len({row[0] for row in rows}) < len(rows):
            raise fault(path, "lists an image twice", REMEDY)
        return [(image, patient, int(fold)) for image, patient, fold in rows]

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
        path = self.folder / "log.jsonl"
        lines = read_json_lines(path, LIST, REMEDY)
        for number, line in enumerate(lines, 1):
            if not isinstance(line, dict) or not isinstance(line.get("event"), str):
                raise fault(path, f"line {number} is not an event", REMEDY)
        return [line for line in lines if event in (None, line["event"])]

    def logged(self, event: str, *keys: str, partial: bool = False) -> list[list[float]]:
        """Numbers of each line of an event, by key. Raises as :meth:`log`.

        Args:
            partial: leaves out lines without one of the keys, instead of calling them damaged.
        """
        lines = [line for line in self.log(event) if not partial or line.keys() >= set(keys)]
        try:
            return [[as_real(line.get(key)) for key in keys] for line in lines]
        except ValueError as error:
            raise fault(self.folder / "log.jsonl", f"as {' or '.join(keys)} of {event} {error}", REMEDY) from None

    def weights_digest(self, kind: str = "final") -> str | None:
        """SHA-256 of the averaged weights of a checkpoint, as its manifest records it; None without that checkpoint.

        Args:
            kind: final, best or last.

        Raises:
            DataError: the manifest is damaged.
        """
        file = f"{kind}/state.json"
        if not (self.folder / kind).exists():
            return None

        def read(values: dict[str, Any]) -> str:
            return as_hash(as_mapping(values.get("files"), "files").get("weights.safetensors"))

        return self._parsed(file, read)

    def _parsed(self, file: str, parse: Callable[[dict[str, Any]], Found], limit: int = SMALL) -> Found:
        """What ``parse``, which may raise ValueError, makes of the mapping in a JSON file."""
        path = self.folder / file
        values = read_mapping(path, limit, REMEDY)
        try:
            return parse(values)
        except ValueError as error:
            raise fault(path, str(error), REMEDY) from None


def scored_folds_of(run: Path, others: str) -> "list[FoldRun]":
    """The finished folds of a run that have out-of-fold predictions.

    Args:
        others: what could be named instead of the run, for the message.

    Raises:
        DataError: there is none.
    """
    found = [fold for fold in folds_of(run) if fold.is_scored]
    if not found:
        raise DataError(f"{run}: has no finished fold (fold<k>/oof.csv); name runs, or {others}")
    return found


def folds_of(run: Path) -> list[FoldRun]:
    """The folds that were begun in a run's folder, by number, then ``all``. Raises as :func:`_begun`."""
    found = [FoldRun(folder) for folder in _begun(run)]
    return sorted(found, key=lambda fold: (fold.number is None, fold.number or 0, fold.name))


def _begun(run: Path) -> list[Path]:
    """The folders of the folds that were begun in a run's folder, sorted.

    Raises:
        DataError: one of them has lost its config.yaml.
    """
    found = {path.parent for path in listed(run, "*/config.yaml")}
    for folder in sorted(set(listed(run)) - found):
        if re.fullmatch("fold[0-9]+|all", folder.name) and any((folder / part).exists() for part in TRAINED):
            raise fault(folder / "config.yaml", "no such file, though the fold was trained", REMEDY)
    return sorted(found)


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
    folders = _begun(place)
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
