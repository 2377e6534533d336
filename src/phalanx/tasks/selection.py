"""The selection of training images that a recipe asks for, with the scores of the earlier run that it names."""

from collections.abc import Sequence

from ..config import SegmentConfig, nearest
from ..data.records import Record
from ..data.rules import select
from ..data.selection import Selection
from ..errors import ConfigError, DataError
from ..runs.reader import folds_of


def select_images(config: SegmentConfig, records: Sequence[Record]) -> Selection:
    """The selection of a whole data set; see :func:`phalanx.data.rules.select`.

    Args:
        records: the annotated images outside the quarantine.
    """
    rule = config.data.drop.dice if config.data.drop else None
    return select(records, config.data, earlier_scores(config, rule.run) if rule else None)


def earlier_scores(config: SegmentConfig, name: str) -> dict[str, float]:
    """Mean Dice over the classes of every image that a finished fold of the run ``name`` held out.

    Raises:
        ConfigError: no such run, none of its folds is finished, or it has another format.
        DataError: it was trained on other classes, or is damaged.
    """
    run = config.runs / name
    if not run.is_dir():
        others = {path.parents[1].name for path in config.runs.glob("*/fold*/oof_score.json")}
        close = nearest(name, others) if others else ""
        raise ConfigError(f"data.drop.dice.run={name}: no such run in {config.runs}/{close}")
    found: dict[str, float] = {}
    for fold in folds_of(run):
        if fold.number is None or fold.result is None:
            continue
        if fold.config.data.classes != config.data.classes:
            raise DataError(f"{fold.folder}: has other classes; name a run on this data set in data.drop.dice.run")
        found |= fold.per_image
    if not found:
        raise ConfigError(f"{run}: has no finished fold with held-out images; train it first (bash train.sh fold=0..4)")
    return found
