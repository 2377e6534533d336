"""Two recipes side by side: the keys that differ, and what runs were trained with."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..config import Config, flatten, nearest
from ..errors import ConfigError, PhalanxError, one_line
from ..runs.reader import FoldRun, folds_of
from .fold import Recipes, machine_of
from .recipes import NOT_RESULTS, text_of


class Resolved(NamedTuple):
    """A recipe by dotted key, where it is from, and of a run its environment, empty of others."""

    name: str
    what: str
    recipe: Mapping[str, Any]
    environment: Mapping[str, str]


class Experiments(NamedTuple):
    """Recipes that have no run: their ``folder``, and what composes one of them by its name."""

    folder: Path
    compose: Callable[[str], Config]

    @property
    def names(self) -> list[str]:
        """All of them."""
        return sorted(path.stem for path in self.folder.glob("*.yaml"))

    def resolve(self, name: str) -> Resolved:
        """One of them. Raises ConfigError if there is none of that name."""
        if name not in self.names:
            raise ConfigError(f"{name}: no configs/experiment/{name}.yaml{nearest(name, self.names)}")
        return Resolved(name, "experiment", flatten(self.compose(name).model_dump(mode="json")), {})


def resolve(name: str, runs: Path, experiments: Experiments) -> Resolved:
    """The recipe that a word names: a run, a fold, a file, or an experiment.

    Raises:
        ConfigError: nothing of that name, or a recipe that cannot be read.
    """
    path = Path(name)
    if path.suffix == ".yaml" and path.is_file():
        if path.resolve().parent == experiments.folder.resolve():
            return experiments.resolve(path.stem)
        if path.name == "config.yaml" and not (path.parent / "experiment").is_dir():
            return _fold(FoldRun(path.parent), name)
        raise ConfigError(f"{name}: is neither an experiment of configs/experiment/ nor the config.yaml of a run")
    before, _, experiment = name.rpartition("/")
    if before == "experiment":
        return experiments.resolve(experiment)
    for place in (path, runs / name):
        if (place / "config.yaml").is_file() and not (place / "experiment").is_dir():
            return _fold(FoldRun(place), name)
        if any(place.glob("*/config.yaml")):
            return _fold(folds_of(place)[0], name)
    if name in experiments.names:
        return experiments.resolve(name)
    names = {place.parent.parent.name for place in runs.glob("*/*/config.yaml")} if runs.is_dir() else set()
    raise ConfigError(
        f"{name}: no run of that name in {runs}, and no experiment{nearest(name, {*experiments.names, *names})}"
    )


def _fold(run: FoldRun, name: str) -> Resolved:
    recipe = Recipes().of(run)
    try:
        about = run.environment
    except PhalanxError:
        return Resolved(name, f"run {run.folder}", recipe, {})
    packages = about.get("packages")
    environment = {
        "commit": about.get("commit") or "",
        "python": str(about.get("python", "")),
        "machine": machine_of(about),
        **({name: str(version) for name, version in packages.items()} if isinstance(packages, dict) else {}),
    }
    return Resolved(name, f"run {run.folder}", recipe, environment)


class Difference(NamedTuple):
    """What differs: of recipes and of environments, by key the values of both; None without that key."""

    names: tuple[str, str]
    whats: tuple[str, str]
    recipe: dict[str, tuple[Any, Any]]
    environment: dict[str, tuple[str | None, str | None]]
    compared: bool  # whether both have an environment

    def to_text(self) -> str:
        """Both as tables for the terminal."""
        lines = [f"A  {self.names[0]} ({self.whats[0]})", f"B  {self.names[1]} ({self.whats[1]})", ""]
        if self.recipe:
            lines += _columns({key: (_shown(a), _shown(b)) for key, (a, b) in self.recipe.items()})
        else:
            lines.append("The recipes are the same.")
        if self.environment:
            lines += [
                "",
                *_columns({key: (a or "-", b or "-") for key, (a, b) in self.environment.items()}, "trained with"),
            ]
        elif self.compared:
            lines += ["", "Both were trained with the same commit, packages and machine."]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON types."""
        return {
            "names": list(self.names),
            "recipe": {
                key: [None if value is _Missing else value for value in pair] for key, pair in self.recipe.items()
            },
            "environment": {key: list(pair) for key, pair in self.environment.items()},
        }


class _Missing:
    """Stands for a key that a recipe does not have."""


def compare(one: Resolved, other: Resolved, *, everything: bool = False) -> Difference:
    """The differences of two recipes. ``everything``: also of keys that do not change a result."""
    keys = dict.fromkeys([*one.recipe, *other.recipe])
    recipe = {
        key: (one.recipe.get(key, _Missing), other.recipe.get(key, _Missing))
        for key in keys
        if (everything or key not in NOT_RESULTS) and one.recipe.get(key, _Missing) != other.recipe.get(key, _Missing)
    }
    both = bool(one.environment and other.environment)
    environment = {
        key: (one.environment.get(key), other.environment.get(key))
        for key in dict.fromkeys([*one.environment, *other.environment])
        if both and one.environment.get(key) != other.environment.get(key)
    }
    return Difference((one.name, other.name), (one.what, other.what), recipe, environment, both)


def _shown(value: Any) -> str:
    return "-" if value is _Missing else one_line(text_of(value), 60)


def _columns(rows: Mapping[str, tuple[str, str]], title: str = "key") -> list[str]:
    cells = [(title, "A", "B"), *((key, a, b) for key, (a, b) in rows.items())]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]
