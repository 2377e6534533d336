"""Runs as members that are decided about: the maps of all held-out images, with the folds that all share."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..data import folds as folding
from ..data.quarantine import kept_records
from ..data.root import resolve_root
from ..errors import ConfigError, DataError
from ..predict.stored import MapsFolder
from ..runs.reader import FoldRun, fold_folders, read_config
from .candidates import OutOfFold

AGAIN = "give its command of phalanx train once more, with predict.oof_prob=true: no finished fold is trained anew"


def open_out_of_fold(
    names: Sequence[str], *, runs: Path, root: Path | None = None, progress: bool = True
) -> tuple[OutOfFold, float]:
    """The out-of-fold maps of runs with the images and truth of the first one's data set, and its threshold.

    Args:
        names: runs in ``runs``, or their folders.
        root: the data set they were trained on, where it lies elsewhere now.

    Raises:
        ConfigError: unfinished runs, or without maps, or that hold out different images, or have the same weights.
        DataError: members of other classes, maps or data sets that are not those of the runs.
    """
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"members={','.join(names)}: name one run or more, each once, as in members=base,unetpp")
    folders = {name: by_fold(name, runs) for name in names}
    first = names[0]
    folds = held_out(folders[first])
    maps: dict[int, list[MapsFolder]] = {fold: [] for fold in folders[first]}
    for name in names:
        if held_out(folders[name]) != folds:
            raise ConfigError(
                f"{name}: its folds hold out other images than those of {first}, so no image is new to both; train the "
                "same folds of both with one data.folds_file=FILE (phalanx folds makes it)"
            )
        for fold, folder in folders[name].items():
            stored = MapsFolder(folder / "oof_prob")
            if stored.sizes.keys() != {image for image, of in folds.items() if of == fold}:
                raise DataError(f"{stored.name}: does not hold the maps of its fold's images; {AGAIN}")
            maps[fold].append(stored)
            if stored.classes != maps[fold][0].classes:
                raise DataError(
                    f"{stored.name}: has other classes than {maps[fold][0].name}; they cannot vote together"
                )
    weights: dict[frozenset[str], str] = {}
    for m, name in enumerate(names):
        told = frozenset(value for of_fold in maps.values() for value in of_fold[m].hashes.values())
        if (twin := weights.setdefault(told, name)) != name:
            raise ConfigError(
                f"{name}: has the very weights of {twin}, so that a vote cannot tell them apart; leave it out"
            )
    config = read_config(folders[first][min(folds.values())])
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
    where = np.array([folds[record.name] for record in records])
    return OutOfFold(tuple(names), data, records, where, maps, progress), config.predict.threshold


def by_fold(name: str, runs: Path) -> dict[int, Path]:
    """The finished folds of a run by number.

    Raises:
        ConfigError: fewer than two, or without out-of-fold maps.
    """
    found = {}
    for folder in fold_folders(name, runs):
        if number := re.fullmatch(r"fold(\d+)", folder.name):
            found[int(number[1])] = folder
            if not (folder / "oof_prob" / "maps.json").is_file():
                raise ConfigError(f"{folder}: keeps no out-of-fold probability maps; {AGAIN}")
    if len(found) < 2:
        raise ConfigError(
            f"{name}: has {len(found)} fold(s) that held images out, and two are needed; train more folds"
        )
    return found


def held_out(folders: dict[int, Path]) -> dict[str, int]:
    """The fold that held each image out, of the folds that are there.

    Raises:
        DataError: folds of one run that were drawn differently, or cannot be read.
    """
    texts = {folder: FoldRun(folder).folds for folder in folders.values()}
    (first, drawn), *others = texts.items()
    for folder, other in others:
        if other != drawn:
            raise DataError(f"{folder}: has other folds than {first}; train one of them anew")
    return {image: fold for image, fold in drawn.items() if fold in folders}
