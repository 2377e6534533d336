"""What a row's result depends on: the recipe of a training, or of a vote, and a short name for it."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from ..config import RUNTIME_KEYS, Config

Mode = Literal["soft", "hard"]


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
    return hashlib.sha256(json.dumps(recipe_of(recipe), sort_keys=True).encode()).hexdigest()[:12]


def run_name(recipe: Config) -> str:
    """Name of the run that trains a recipe, so that equal recipes share one."""
    return f"{digest(recipe)}-seed{recipe.seed}"
