"""What a row's result depends on: the recipe of a training, or of a vote, and a short name for it."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from ..config import RUNTIME_KEYS, Config

Mode = Literal["soft", "hard"]

# Options that are younger than results in results/sweep, with the value that changes nothing. A recipe with that value
# keeps the name that it had before, by which later rows of a table begin with its run.
LATER: dict[str, Any] = {
    "augment.copies_only": False, "augment.transpose": 0.0, "augment.vflip": 0.0, "data.balance": None,
    "data.balance_epoch": None, "data.contrast": "keep", "data.overlap": "allow", "loss.beta": None, "loss.count": None,
    "image_f1": None, "model.head": "sigmoid", "validate_steps": None,
}  # fmt: skip
# of these, those that a task has had from the start
OLDER: dict[str, tuple[str, ...]] = {"classify": ("data.balance", "loss.beta", "model.head")}


@dataclass(frozen=True)
class Ballot:
    """The recipe of a vote: the recipes of its members, each with the folds whose networks vote."""

    mode: Mode
    members: tuple[tuple["Config | Ballot", tuple[int, ...]], ...]

    def configs(self) -> Iterator[Config]:
        """The recipes of all networks in the vote."""
        for recipe, _ in self.members:
            yield from (recipe,) if isinstance(recipe, Config) else recipe.configs()


def recipe_of(recipe: Config | Ballot) -> dict[str, Any]:
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


def digest(recipe: Config | Ballot) -> str:
    """Short name of a recipe, seed included."""
    return hashlib.sha256(json.dumps(_as_before(recipe_of(recipe)), sort_keys=True).encode()).hexdigest()[:12]


def _as_before(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe as :func:`recipe_of`, without options of ``LATER`` that change nothing."""
    if "vote" in recipe:
        return recipe | {"members": [one | {"recipe": _as_before(one["recipe"])} for one in recipe["members"]]}
    found: dict[str, Any] = {key: dict(value) if isinstance(value, dict) else value for key, value in recipe.items()}
    for key, usual in LATER.items():
        section, _, name = key.rpartition(".")
        values = found.get(section) if section else found
        if key not in OLDER.get(found["task"], ()) and isinstance(values, dict) and values.get(name, usual) == usual:
            values.pop(name, None)
    return found


def run_name(recipe: Config) -> str:
    """Name of the run that trains a recipe, so that equal recipes share one."""
    return f"{digest(recipe)}-seed{recipe.seed}"
