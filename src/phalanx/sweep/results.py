"""What a finished training of a row leaves: results/sweep/<scale>/<data>/<table>/<row>.seed<s>.fold<k>.json."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..config import RUNTIME_KEYS, Config, validate
from ..engine.folder import flatten
from ..errors import ConfigError, DataError
from ..files import refuse_link, write_text

RESULTS = Path("results/sweep")


@dataclass(frozen=True)
class Result:
    """One training of one row and its out-of-fold Dice."""

    table: str
    row: str
    scale: str
    data: str  # name of the data set's folder
    seed: int
    fold: int
    dice: float  # mean over the held-out images and classes
    seconds: float  # training and predicting
    curve: list[list[float]]  # [epoch, held-out Dice on the working grid] while training
    patients: dict[str, list[float]]  # Dice of each class in the recipe's order, mean over the patient's images
    images: dict[str, int]  # of each held-out patient
    overrides: list[str]
    recipe: dict[str, Any]  # resolved, without runtime keys
    command: str
    commit: str | None
    machine: str

    @property
    def classes(self) -> list[str]:
        """In the order of ``patients``."""
        return self.recipe["data"]["classes"]

    def path(self, results: Path = RESULTS) -> Path:
        """Where it lies."""
        name = f"{self.row}.seed{self.seed}.fold{self.fold}.json"
        return results / self.scale / self.data / self.table / name

    def write(self, results: Path = RESULTS) -> None:
        """Writes the file whole, a line a value and a line a patient, so that it can be read."""
        lines = []
        for key, value in asdict(self).items():
            text = json.dumps(value, allow_nan=False)
            if key == "patients":
                rows = [f"  {json.dumps(name)}: {json.dumps(dice, allow_nan=False)}" for name, dice in value.items()]
                text = "{\n" + ",\n".join(rows) + "\n }"
            lines.append(f" {json.dumps(key)}: {text}")
        path = self.path(results)
        for folder in path.parents[:3]:  # those below ``results``
            refuse_link(folder)
        write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def read_results(results: Path = RESULTS, *, scale: str = "*", data: str = "*") -> list[Result]:
    """All finished trainings of a scale and a data set, or of all.

    Raises:
        DataError: a file is no such result, or lies elsewhere than it says.
    """
    found = []
    for path in sorted(results.glob(f"{scale}/{data}/*/*.json")):
        try:
            result = Result(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise DataError(f"{path}: no result of a sweep ({error}); delete it and run the row again") from None
        if result.path(results) != path:
            raise DataError(f"{path}: says that it is {result.path(results)}; move it there, or delete it")
        found.append(result)
    return found


def recipe_of(config: Config) -> dict[str, Any]:
    """What decides the result of a recipe: neither its name nor where and how fast it is computed."""
    hidden: dict[str, Any] = {"name": True}
    for key in RUNTIME_KEYS:
        section, _, last = key.partition(".")
        if last:
            hidden.setdefault(section, {})[last] = True
        else:
            hidden[section] = True
    return config.model_dump(mode="json", exclude=hidden)


def changed(result: Result, config: Config) -> str | None:
    """How the present recipe differs from the one a result was trained by; None where it does not. Options that came
    later have the values that change nothing."""
    try:
        data = result.recipe.get("data", {}) | {"root": "."}  # wherever it lay
        was = flatten(recipe_of(validate(result.recipe | {"name": result.row, "data": data})))
    except ConfigError as error:
        return str(error).splitlines()[0]
    now = flatten(recipe_of(config))
    for key in {**was, **now}:
        if was.get(key) != now.get(key):
            return f"{key} was {was.get(key)}, now it is {now.get(key)}"
    return None
