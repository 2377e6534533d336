"""The result of a row's training, or vote: results/sweep/<scale>/<data>/<table>/<row>.seed<s>.fold<k>.json."""

import json
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..config import RUNTIME_KEYS, SegmentConfig, flatten, validate
from ..errors import ConfigError, DataError, one_line
from ..runtime.files import refuse_link, write_text
from ..runtime.metric import Metric
from ..runtime.reading import LIST, as_mapping, as_name, as_names, as_real, as_whole, fault, read_mapping
from .table import Ballot

RESULTS = Path("results/sweep")
REMEDY = "delete it and run the row again"


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

    @property
    def classes(self) -> list[str]:
        """In the order of ``patients``."""
        return self.recipe["data"]["classes"]

    def path(self, results: Path = RESULTS) -> Path:
        """Its file."""
        name = f"{self.row}.seed{self.seed}.fold{self.fold}.json"
        return results / self.scale / self.data / self.table / name

    def write(self, results: Path = RESULTS) -> None:
        """Writes the file whole, a line a value and a line a patient, so that it can be read."""
        lines = []
        for key, value in asdict(self).items():
            value = self.metric.to_json() if key == "metric" else value
            text = _lines(value) if key == "patients" else json.dumps(value, allow_nan=False)
            if key == "held_out" and value:
                text = f'{{"images": {json.dumps(value["images"])}, "patients": {_lines(value["patients"])}}}'
            lines.append(f" {json.dumps(key)}: {text}")
        path = self.path(results)
        for folder in path.parents[:3]:  # those below ``results``
            refuse_link(folder)
        write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def _lines(patients: dict[str, list[float]]) -> str:
    """JSON with one line per patient."""
    rows = [f"  {json.dumps(name)}: {json.dumps(values, allow_nan=False)}" for name, values in patients.items()]
    return "{\n" + ",\n".join(rows) + "\n }"


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
    _check_scores(values["patients"], values["images"], len(classes))
    if values.get("held_out") is not None:
        held_out = as_mapping(values["held_out"], "held_out")
        _check_scores(held_out.get("patients"), held_out.get("images"), len(classes))
    for points in _lists(values["curve"], "curve"):
        if [as_real(value) for value in points][2:] or len(points) != 2:
            raise ValueError("has a curve that is not of epochs and values")
    if not isinstance(values["overrides"], list) or not all(isinstance(word, str) for word in values["overrides"]):
        raise ValueError("has no list of overrides")
    return SweepResult(**values | {"metric": Metric.from_json(values["metric"])})


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


def recipe_of(recipe: SegmentConfig | Ballot) -> dict[str, Any]:
    """The part of a recipe that its result depends on: without its name and runtime options."""
    if isinstance(recipe, Ballot):
        members = [{"folds": list(folds), "recipe": recipe_of(member)} for member, folds in recipe.members]
        classes = next(recipe.configs()).data.classes
        return {"vote": recipe.mode, "members": members, "data": {"classes": classes}}
    hidden: dict[str, Any] = {"name": True}
    for key in RUNTIME_KEYS:
        section, _, last = key.partition(".")
        if last:
            hidden.setdefault(section, {})[last] = True
        else:
            hidden[section] = True
    return recipe.model_dump(mode="json", exclude=hidden)


def changed(result: SweepResult, recipe: SegmentConfig | Ballot) -> str | None:
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
