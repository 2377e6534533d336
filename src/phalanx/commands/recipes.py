"""The recipes of one call of ``phalanx train``."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..errors import ConfigError

if TYPE_CHECKING:
    from ..config import Config


def one_by_one(pairs: dict[str, str]) -> list[dict[str, str]]:
    """The options of each recipe of ``experiment=a,b,c``.

    Raises:
        ConfigError: one is named twice, or all would be trained in the same folder.
    """
    names = [name.strip() for name in pairs.get("experiment", "").strip("[]").split(",")]
    if len(names) < 2:
        return [pairs]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"experiment={pairs['experiment']}: {repeated or 'an empty name'} is named twice")
    if "name" in pairs:
        raise ConfigError(f"name={pairs['name']}: is the folder of one run, and experiment= names {len(names)}; leave "
                          "name= out, and each run is named after its recipe")  # fmt: skip
    return [pairs | {"experiment": name} for name in names]


class Recipe(NamedTuple):
    """A recipe to train.

    Attributes:
        pairs: options of ``phalanx train``, without ``fold``.
        config: made of them.
        folds: to train; None: on all images.
    """

    pairs: dict[str, str]
    config: "Config"
    folds: list[int | None]


def say_mean(config: "Config", folds: Sequence[int | None]) -> None:
    """Prints the metric over all images that several folds held out, once all of these are finished."""
    if len(folds) < 2:
        return

    from ..standings.fold import Recipes
    from ..standings.standing import stand
    from ..standings.table import mean_text

    run = config.runs / config.name
    folders = [run / f"fold{fold}" for fold in folds]
    found = stand(run, [folder for folder in folders if folder.is_dir()], config.runs, Recipes())
    if text := mean_text(found):
        print(text, flush=True)
