"""The selection of training images with labels, with the failures of the earlier run that the recipe names."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..config import ClassifyConfig
from ..data.hard import Mined, hard_rows
from ..data.layouts import train_names
from ..data.records import Record
from ..data.rules import select_labelled
from ..data.selection import Selection
from ..ensemble.classify_oof import read_out_of_fold
from ..errors import ConfigError, DataError
from ..runs.reader import folds_of


def select_with_failures(config: ClassifyConfig, records: Sequence[Record]) -> Selection:
    """The selection of a whole data set by all rules, ``data.hard`` among them.

    Args:
        records: the labelled images outside the quarantine.

    Raises:
        ConfigError: no such run, one whose folds are not all finished, or no failure in it.
        DataError: a run on other classes or another data set, or a damaged one.
    """
    found, rule = select_labelled(records, config.data), config.data.hard
    if rule is None:
        return found
    mined = mined_run(config, rule.run)
    names = set(mined.images)
    if foreign := sorted(names - train_names(config.data)):
        raise DataError(
            f"data.hard.run={rule.run}: predicted {foreign[0]}, which is not a training image of {config.data.root} "
            f"({len(foreign)} such image(s)); name a run on this data set"
        )
    if unknown := [record.name for record in records if record.name not in names]:
        raise ConfigError(
            f"data.hard.run={rule.run}: has no out-of-fold prediction of {unknown[0]} ({len(unknown)} such image(s)); "
            f"finish all its folds first (bash train.sh fold=0..{config.folds - 1} name={rule.run} ...), on all the "
            "images of this run"
        )
    rows = dict(found.by_image) | hard_rows(records, rule, mined, config.seed)
    return Selection(tuple(rows[name] for name in sorted(rows)))


def mined_run(config: ClassifyConfig, name: str) -> Mined:
    """The out-of-fold predictions of all finished folds of a run on the classes of ``config``.

    Raises:
        ConfigError: no such run. DataError: it has no finished fold, has other classes, or is damaged.
    """
    try:
        found = read_out_of_fold(name, config.runs)
    except (ConfigError, DataError) as error:
        raise type(error)(f"data.hard.run={name}: {error}") from None
    if list(found.classes) != config.data.classes:
        raise DataError(
            f"data.hard.run={name}: has the classes {', '.join(found.classes)}, this recipe has "
            f"{', '.join(config.data.classes)}; name a run on the same classes"
        )
    if found.head == "softmax":
        predicted = np.arange(len(found.classes)) == found.probabilities.argmax(axis=1)[:, None]
    else:
        limit = folds_of(Path(found.run))[0].config_of(ClassifyConfig).predict.threshold
        predicted = found.probabilities >= limit
    return Mined(name, found.classes, found.images, found.probabilities, predicted, found.labels)
