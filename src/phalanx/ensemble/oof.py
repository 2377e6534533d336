"""The out-of-fold maps of runs, as members that an ensemble is tuned on; all share their folds."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..config import SegmentConfig
from ..data import folds as folding
from ..data.quarantine import kept_records
from ..data.root import resolve_root
from ..errors import ConfigError, DataError
from ..predict.stored import MapsFolder
from ..runs.reader import FoldRun, fold_folders
from .candidates import OutOfFold

REMAKE_HINT = "run its phalanx train command again with predict.oof_prob=true; finished folds are not trained again"


def open_out_of_fold(
    names: Sequence[str], *, runs: Path, root: Path | None = None, progress: bool = True
) -> tuple[OutOfFold, float]:
    """The out-of-fold maps of runs with the images and truth of the first one's data set, and its threshold.

    Args:
        names: runs in ``runs``, or their folders.
        root: the data set they were trained on, if it was moved.

    Raises:
        ConfigError: runs that are unfinished, have no maps, hold out different images, or have the same weights.
        DataError: members of other classes, or maps or data sets that are not those of the runs.
    """
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"members={','.join(names)}: name one run or more, each once, as in members=base,unetpp")
    members = {name: folds_with_maps(name, runs) for name in names}
    first = names[0]
    folds = held_out(members[first])
    maps = _matching_maps(members, folds)
    _refuse_copies(names, maps)
    config = members[first][min(folds.values())].config_of(SegmentConfig)
    data = resolve_root(config.data.model_copy(update={"root": root or config.data.root}))
    records = [record for record in kept_records(data) if record.name in folds]
    lacking = sorted(folds.keys() - {record.name for record in records})
    if lacking:
        raise DataError(
            f"{data.root}: has no annotated image {lacking[0]}, which {first} held out ({len(lacking)} such); name the "
            "data set it was trained on with data.root="
        )
    folding.check(records, folds, 0)  # a patient in two folds would be fitted and scored on
    records.sort()
    fold_of = np.array([folds[record.name] for record in records])
    return OutOfFold(tuple(names), data, records, fold_of, maps, progress), config.predict.threshold


def _matching_maps(
    members: Mapping[str, Mapping[int, FoldRun]], folds: Mapping[str, int]
) -> dict[int, list[MapsFolder]]:
    """By fold, the maps of each member.

    Raises:
        ConfigError: a member holds out other images than ``folds``.
        DataError: a member of other classes, or whose maps are not of its fold's images.
    """
    first, *_ = members
    maps: dict[int, list[MapsFolder]] = {fold: [] for fold in members[first]}
    for name, runs in members.items():
        if held_out(runs) != folds:
            raise ConfigError(
                f"{name}: its folds hold out other images than those of {first}, so no image is new to both; train the "
                "same folds of both with one data.folds_file=FILE (phalanx folds makes it)"
            )
        for fold, run in runs.items():
            stored = MapsFolder(run.folder / "oof_prob")
            if stored.sizes.keys() != {image for image, of in folds.items() if of == fold}:
                raise DataError(f"{stored.name}: does not have the maps of its fold's images; {REMAKE_HINT}")
            maps[fold].append(stored)
            if stored.options != (before := maps[min(runs)][-1]).options:
                raise DataError(
                    f"{stored.name}: its maps were made with other options of prediction, or another precision, than "
                    f"{before.name}; {REMAKE_HINT}"
                )
            if stored.classes != maps[fold][0].classes:
                raise DataError(
                    f"{stored.name}: has other classes than {maps[fold][0].name}; they cannot vote together"
                )
    return maps


def _refuse_copies(names: Sequence[str], maps: Mapping[int, Sequence[MapsFolder]]) -> None:
    """Raises ConfigError if two members have the same weights."""
    seen: dict[frozenset[str], str] = {}
    for m, name in enumerate(names):
        weights = frozenset(value for of_fold in maps.values() for value in of_fold[m].hashes.values())
        if (twin := seen.setdefault(weights, name)) != name:
            raise ConfigError(
                f"{name}: has the same weights as {twin}, so that a vote cannot tell them apart; leave it out"
            )


def folds_with_maps(name: str, runs: Path) -> dict[int, FoldRun]:
    """The finished folds of a run by number.

    Raises:
        ConfigError: fewer than two, of another task, or without out-of-fold maps.
    """
    found = {}
    for run in map(FoldRun, fold_folders(name, runs)):
        if run.config_of(SegmentConfig).model.head == "softmax":
            raise ConfigError(
                f"{run.folder}: has a softmax, which predicts the likeliest class: there are no thresholds to tune; "
                "vote its runs with phalanx ensemble"
            )
        if run.number is not None:
            found[run.number] = run
            if not (run.folder / "oof_prob" / "maps.json").is_file():
                raise ConfigError(f"{run.folder}: has no out-of-fold probability maps; {REMAKE_HINT}")
    if len(found) < 2:
        raise ConfigError(
            f"{name}: has {len(found)} fold(s) that held images out, and two are needed; train more folds"
        )
    return found


def held_out(runs: Mapping[int, FoldRun]) -> dict[str, int]:
    """The fold that held each image out, of the folds in ``runs``.

    Raises:
        DataError: folds of one run that were drawn differently, or cannot be read.
    """
    (first, *others) = runs.values()
    for other in others:
        if other.folds != first.folds:
            raise DataError(f"{other.folder}: has other folds than {first.folder}; train one of them again")
    return {image: fold for image, fold in first.folds.items() if fold in runs}
