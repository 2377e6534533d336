"""The result of a row's training, or vote: results/sweep/<scale>/<data>/<table>/<row>.seed<s>.fold<k>.json."""

import hashlib
import json
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..config import Config, flatten, validate
from ..errors import ConfigError, DataError, one_line
from ..runtime.files import refuse_link, write_text
from ..runtime.metric import Metric
from ..runtime.reading import LIST, as_mapping, as_name, as_names, as_real, as_whole, fault, read_mapping
from ..scoring.label_table import LabelTable, Predicted
from .recipe import Ballot
from .recipe import recipe_of as recipe_of

RESULTS = Path("results/sweep")
REMEDY = "delete it and run the row again"


LABELS = "labels.csv"  # of the test images of a data set, next to its tables
UNITS = 10_000  # stored probabilities are whole numbers of 1 / UNITS, which are shorter than decimals


@dataclass(frozen=True)
class Predictions:
    """Probabilities of the test images, by a classifier; their labels are in labels.csv of the data set's folder."""

    labels: str  # digest of that file
    columns: list[str]
    head: Literal["softmax", "sigmoid"]
    thresholds: list[float] | None  # of the classes of labels.csv; null: those of the head
    test: list[list[int]]  # of each image there, in 1 / UNITS
    twins: list[list[int]] | None  # of those that have a twin without marks, predicted from it

    @classmethod
    def of(cls, made: Predicted, table: LabelTable) -> "Predictions":
        """Predictions rounded as they are stored, so that whoever reads them scores the same."""
        twins, limits = made.twins, made.thresholds
        return cls(
            labels_digest(table.to_csv()), list(made.columns), made.head,
            None if limits is None else np.round(limits, 6).tolist(),
            _whole(made.values),
            None if twins is None else _whole(twins),
        )  # fmt: skip

    @property
    def arrays(self) -> Predicted:
        """As arrays."""
        twins, limits = self.twins, self.thresholds
        return Predicted(
            tuple(self.columns), self.head, np.array(self.test, float) / UNITS,
            None if twins is None else np.array(twins, float) / UNITS,
            None if limits is None else np.array(limits, float),
        )  # fmt: skip

    def to_text(self) -> str:
        """JSON with a line per image."""
        lines = []
        for key, value in asdict(self).items():
            text = json.dumps(value)
            if key in ("test", "twins") and value:
                text = "[\n" + ",\n".join("   " + json.dumps(row, separators=(",", ":")) for row in value) + "\n  ]"
            lines.append(f"  {json.dumps(key)}: {text}")
        return "{\n" + ",\n".join(lines) + "\n }"

    @classmethod
    def from_json(cls, values: Any) -> "Predictions":
        """Those of :meth:`to_text`. Raises ValueError if it is not one."""
        values = as_mapping(values, "predicted")
        if values.keys() != {field.name for field in fields(cls)} or values["head"] not in ("softmax", "sigmoid"):
            raise ValueError("has predictions with other fields")
        columns = as_names(values["columns"], "columns")
        for key in ("test", "twins"):
            for row in _lists(values[key], key) if values[key] is not None else []:
                if len([as_whole(value, 0, UNITS) for value in row]) != len(columns):
                    raise ValueError(f"has {len(row)} probabilities in {key} for {len(columns)} columns")
        if values["thresholds"] is not None:
            [as_real(value) for value in _lists([values["thresholds"]], "thresholds")[0]]
        as_name(values["labels"])
        return cls(**values)


def _whole(values: np.ndarray) -> list[list[int]]:
    """Probabilities in 1 / UNITS."""
    return np.rint(values * UNITS).astype(int).tolist()


def labels_digest(text: str) -> str:
    """Digest of a table of labels, by which a result knows its own."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class SweepResult:
    """One training, or vote, of one row and its metric on the images that the table is scored on."""

    table: str
    row: str
    scale: str
    data: str  # name of the data set's folder
    seed: int
    fold: int
    metric: Metric
    value: float  # of the metric: its mean over the scored images and classes
    seconds: float  # training and predicting held-out images; of a vote, those of its members and the vote
    curve: list[list[float]]  # [epoch, metric of the held-out images at the input size] while training
    patients: dict[str, list[float]]  # metric of each class in the recipe's order, mean over the patient's images
    images: dict[str, int]  # of each scored patient
    overrides: list[str]
    recipe: dict[str, Any]  # resolved, without runtime keys; of a vote, with those of its members
    command: str
    commit: str | None
    machine: str
    scored_on: str = "out_of_fold"
    held_out: dict[str, dict[str, Any]] | None = None  # `patients` and `images` out of fold, if scored on a test set
    folds: list[int] | None = None  # whose networks predicted together; null: `fold` alone
    figures: dict[str, float] | None = None  # of the scored images by name, if the table asks for some
    # of each scored patient, by class: pixels in both, and in the ground truth or the prediction; for claims about IoU
    pixels: dict[str, list[list[int]]] | None = None
    iou_curve: list[list[float]] | None = None  # [step, IoU of a class] of the held-out images, if a table asks for it
    predicted: "Predictions | None" = None  # of a classification, whose metrics are no means over patients

    @property
    def classes(self) -> list[str]:
        """In the order of ``patients``."""
        return self.recipe["data"]["classes"]

    def path(self, results: Path = RESULTS) -> Path:
        """Its file."""
        folds = "-".join(map(str, self.folds or [self.fold]))
        name = f"{self.row}.seed{self.seed}.fold{folds}.json"
        return results / self.scale / self.data / self.table / name

    def write(self, results: Path = RESULTS) -> None:
        """Writes the file whole, a line a value and a line a patient, so that it can be read."""
        lines = []
        for key, value in asdict(self).items():
            if value is None and key in ("folds", "pixels", "iou_curve", "predicted"):
                continue
            value = self.metric.to_json() if key == "metric" else value
            text = _lines(value) if key in ("patients", "pixels") else json.dumps(value, allow_nan=False)
            if key == "held_out" and value:
                text = f'{{"images": {json.dumps(value["images"])}, "patients": {_lines(value["patients"])}}}'
            text = self.predicted.to_text() if key == "predicted" and self.predicted else text
            lines.append(f" {json.dumps(key)}: {text}")
        path = self.path(results)
        for folder in path.parents[:3]:  # those below ``results``
            refuse_link(folder)
        write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def _lines(patients: dict[str, list[float]]) -> str:
    """JSON with one line per patient."""
    rows = [f"  {json.dumps(name)}: {json.dumps(values, allow_nan=False)}" for name, values in patients.items()]
    return "{\n" + ",\n".join(rows) + "\n }"


def read_labels(results: Path, scale: str, data: str) -> LabelTable | None:
    """The labels of a data set's test images, next to its tables; None if no classification was scored there.

    Raises:
        DataError: the file is damaged.
    """
    path = results / scale / data / LABELS
    return LabelTable.read(path) if path.is_file() else None


def label_fault(result: SweepResult, fitted: bool, labels: LabelTable | None) -> str | None:
    """Why the predictions of a result cannot be scored; None if they can.

    Args:
        fitted: whether the row's thresholds are fitted out of fold.
    """
    made = result.predicted
    if made is None or labels is None or made.labels != labels_digest(labels.to_csv()):
        return "was scored on other labels of the test images"
    if len(made.test) != len(labels.images) or (made.twins is not None and len(made.twins) != labels.has_twin.sum()):
        return "has predictions of other images"
    if (made.thresholds is not None) != fitted:
        return "has other thresholds than the row"
    return None


def read_results(results: Path = RESULTS, *, scale: str = "*", data: str = "*") -> list[SweepResult]:
    """All finished trainings of a scale and a data set, or of all.

    Raises:
        DataError: a file is not a result, or its path does not match its content.
    """
    found = []
    for path in sorted(results.glob(f"{scale}/{data}/*/*.json")):
        values = read_mapping(path, LIST, REMEDY)
        try:
            result = _result(values)
        except ValueError as error:
            raise fault(path, f"is not a result of a sweep: it {error}", REMEDY) from None
        if result.path(results) != path:
            raise DataError(f"{path}: its content belongs to {result.path(results)}; move it there, or delete it")
        found.append(result)
    return found


def _result(values: dict[str, Any]) -> SweepResult:
    """A result of its JSON. Raises ValueError if it is not one."""
    known = {field.name: field.default for field in fields(SweepResult)}
    if unknown := values.keys() - known.keys():
        raise ValueError(f"has the unknown field {one_line(min(unknown), 40)}")
    if lacking := [name for name, default in known.items() if default is MISSING and name not in values]:
        raise ValueError(f"lacks the field {lacking[0]}")
    for key in ("table", "row", "scale", "data", "machine", "scored_on"):
        as_name(values.get(key, "out_of_fold"))
    if not isinstance(values["command"], str) or (values["commit"] is not None and not as_name(values["commit"])):
        raise ValueError("has no command")
    as_whole(values["seed"]), as_whole(values["fold"]), as_real(values["value"]), as_real(values["seconds"], 0)
    data = as_mapping(as_mapping(values["recipe"], "recipe").get("data"), "data of the recipe")
    classes = as_names(data.get("classes"), "classes")
    predicted = values.get("predicted")
    if predicted is None:
        _check_scores(values["patients"], values["images"], len(classes))
    elif values["patients"] or values["images"]:
        raise ValueError("has both predictions and values by patient")
    if values.get("folds") is not None and not [as_whole(fold) for fold in _lists([values["folds"]], "folds")[0]]:
        raise ValueError("has no folds")
    if values.get("held_out") is not None:
        held_out = as_mapping(values["held_out"], "held_out")
        _check_scores(held_out.get("patients"), held_out.get("images"), len(classes))
    for points in _lists(values["curve"], "curve") + _lists(values.get("iou_curve") or [], "iou_curve"):
        if [as_real(value) for value in points][2:] or len(points) != 2:
            raise ValueError("has a curve that is not of epochs, or steps, and values")
    if values.get("pixels") is not None:
        _check_pixels(values["pixels"], values["images"], len(classes))
    for name, value in as_mapping(values.get("figures") or {}, "figures").items():
        as_name(name), as_real(value)
    if not isinstance(values["overrides"], list) or not all(isinstance(word, str) for word in values["overrides"]):
        raise ValueError("has no list of overrides")
    made = {} if predicted is None else {"predicted": Predictions.from_json(predicted)}
    return SweepResult(**values | {"metric": Metric.from_json(values["metric"])} | made)


def _check_pixels(pixels: Any, images: Any, classes: int) -> None:
    """Raises ValueError unless the scored patients have two counts per class, the first at most the second."""
    if as_mapping(pixels, "pixels").keys() != as_mapping(images, "images").keys():
        raise ValueError("has pixels of other patients than images")
    for name, sides in pixels.items():
        rows = [[as_whole(value) for value in row] for row in _lists(sides, f"pixels of {one_line(name, 40)}")]
        if [len(row) for row in rows] != [classes, classes] or any(one > two for one, two in zip(*rows, strict=True)):
            raise ValueError(f"has pixels of {one_line(name, 40)} that are not two counts per class")


def _check_scores(patients: Any, images: Any, classes: int) -> None:
    """Raises ValueError unless both are of the same patients, with a number per class and a count of images."""
    if as_mapping(patients, "patients").keys() != as_mapping(images, "images").keys() or not patients:
        raise ValueError("has other patients in patients than in images")
    for name, values in zip(patients, _lists([*patients.values()], "patients"), strict=True):
        if len([as_real(value) for value in values]) != classes or not as_whole(images[name], 1):
            raise ValueError(f"has {len(values)} values of {one_line(name, 40)} for {classes} classes")


def _lists(values: Any, what: str) -> list[list[Any]]:
    if not isinstance(values, list) or not all(isinstance(value, list) for value in values):
        raise ValueError(f"has no lists as {what}")
    return values


def changed(result: SweepResult, recipe: Config | Ballot) -> str | None:
    """How the present recipe differs from the one of a result; None if it does not. Options that came later have the
    values that change nothing."""
    try:
        was = _flat(_complete(result.recipe, result.row))
    except (ConfigError, KeyError, TypeError, AttributeError) as error:
        return one_line(str(error).splitlines()[0])
    now = _flat(recipe_of(recipe))
    for key in {**was, **now}:
        if was.get(key) != now.get(key):
            return f"{key} was {was.get(key)}, now it is {now.get(key)}"
    return None


def _complete(recipe: dict[str, Any], name: str) -> dict[str, Any]:
    """A stored recipe with the options that came later."""
    if "vote" in recipe:
        members = [member | {"recipe": _complete(member["recipe"], name)} for member in recipe["members"]]
        return recipe | {"members": members}
    data = recipe.get("data", {}) | {"root": "."}  # wherever it lay
    return recipe_of(validate(recipe | {"name": name, "data": data}))


def _flat(recipe: dict[str, Any]) -> dict[str, Any]:
    """Flat, with the members of a vote by number."""
    members = {str(number): _flat(member) for number, member in enumerate(recipe.get("members", []))}
    return flatten(recipe | ({"members": members} if members else {}))
