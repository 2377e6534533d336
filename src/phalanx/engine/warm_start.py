"""Begins a run with the weights of a finished one: warm start, fine-tuning, transfer to other classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ..config import Config, flatten
from ..data.records import Record
from ..errors import ConfigError, TrainingError, one_line
from ..runs.checkpoint import load_weights
from ..runs.reader import RETRAIN, FoldRun
from ..runtime.reading import LIST, MissingFile, read_mapping
from ..runtime.terminal import say
from .task import Task

RECORD = "start.json"  # in a run's folder
DECIDES_SHAPES = ("arch", "encoder", "norm", "pointrend", "options")  # of what `model` says


def begin(
    task: Task, config: Config, folder: Path, fold: int | None, held_out: Sequence[Record]
) -> dict[str, Any] | None:
    """Gives a run's network the weights of ``model.init_from``, unless the run has a checkpoint of its own.

    Returns:
        what to save as start.json: the folder they came from, their SHA-256 and the tensors left out; or None.

    Raises:
        TrainingError: they are not those that this run began with, or were trained on what is held out here.
        ConfigError: no such run, or not a run of this network.
    """
    if config.model.init_from is None or any((folder / name).is_dir() for name in ("last", "last.before", "final")):
        return None
    begun = warm_start(task, config, fold, held_out)
    if read_record(folder) not in (None, begun):
        raise TrainingError(f"{folder}: began with other weights than {begun['start']} holds now; give another name=")
    return begun


def read_record(folder: Path) -> dict[str, Any] | None:
    """What :func:`begin` returned when the run began; None if it did not begin with weights.

    Raises:
        DataError: the file is damaged.
    """
    try:
        return read_mapping(folder / RECORD, LIST, f"restore it from a copy, or delete the folder and {RETRAIN}")
    except MissingFile:
        return None


def warm_start(task: Task, config: Config, fold: int | None, held_out: Sequence[Record]) -> dict[str, Any]:
    """Loads the final weights behind ``model.init_from`` into the network; returns what to record of it.

    A run's name means its fold of the same number, which has not seen this fold's held-out images.

    Raises:
        ConfigError: no such run, another network, or other classes and the heads are not reinitialised.
        TrainingError: the weights were trained on images that this fold holds out.
    """
    name = str(config.model.init_from)
    folder = start_folder(name, config.runs, fold)
    other = FoldRun(folder).config
    found = load_weights(folder / "final")
    if found is None:
        raise ConfigError(f"model.init_from={name}: {folder} has no final weights yet; finish its training first")
    refuse_leaks(folder, held_out)
    weights, new_parts = task.adapt_weights(found[0], other)
    mine = task.network.state_dict()
    old, new = other.data.classes, config.data.classes
    left: list[str] = []
    if config.model.reinit_head:
        counts = (len(old), len(new))
        heads = {key for key in mine if key.startswith(task.head_prefixes)}
        left = [k for k, value in mine.items() if k in heads or _of_classes(weights.get(k), value, counts)]
    elif old != new:
        raise ConfigError(
            f"model.init_from={name}: was trained on {len(old)} classes ({old[0]}, ...), this recipe has {len(new)} "
            f"({new[0]}, ...), so its heads do not fit; model.reinit_head=true initialises new ones"
        )
    left += [key for key in mine if key.startswith(new_parts) and key not in left]
    wanted = {key: value for key, value in mine.items() if key not in left}
    bad = [key for key, value in wanted.items() if key not in weights or not _alike(weights[key], value)]
    bad += [key for key in weights.keys() - mine.keys() if not key.startswith(task.head_prefixes)]
    if bad:
        a, b = (flatten(c.model.model_dump(mode="json", include=set(DECIDES_SHAPES))) for c in (other, config))
        differing = [f"model.{k}={a.get(k)} there, {b.get(k)} here" for k in {**a, **b} if a.get(k) != b.get(k)]
        raise ConfigError(
            f"model.init_from={name}: another network ({len(bad)} tensors do not fit, such as {one_line(bad[0], 99)}). "
            f"{'; '.join(differing) or 'Its code or its libraries differ'}"
        )
    task.network.load_state_dict({key: weights[key] for key in wanted}, strict=False)
    said = f", {len(left)} tensors of new heads" if left else ""
    say(f"begins with {folder / 'final'}{said}")
    return {"start": str(folder), "weights": found[1], "left_out": left}


def start_folder(name: str, runs: Path, fold: int | None) -> Path:
    """Folder of the fold to begin with: the named one, or of a run the fold of the same number, else ``all``."""
    if (Path(name) / "config.yaml").is_file():
        return Path(name)
    place = Path(name) if Path(name).is_dir() else runs / name
    wanted = place / ("all" if fold is None else f"fold{fold}")
    if (wanted / "config.yaml").is_file():
        return wanted
    known = ", ".join(str(path.parent) for path in sorted(place.glob("*/config.yaml")))
    if not known:
        raise ConfigError(f"model.init_from={name}: no run of that name in {runs}, and no folder of one")
    raise ConfigError(f"model.init_from={name}: has no {wanted.name}; name the folder of a fold, of {known}")


def refuse_leaks(folder: Path, held_out: Sequence[Record]) -> None:
    """Refuses weights that have seen what is held out here: the out-of-fold score would be that of known images."""
    number = folder.name.removeprefix("fold")
    other = FoldRun(folder)
    seen = {(image, other.patients[image]) for image, fold in other.folds.items() if str(fold) != number}
    shared = [record.name for record in held_out if (record.name, record.group) in seen]
    if shared:
        raise TrainingError(
            f"model.init_from: {folder} was trained on {len(shared)} images that this fold holds out, such as "
            f"{shared[0]}; begin with the fold of the same number and the same folds (data.folds_file), or train "
            "fold=all"
        )


def _alike(old: Tensor, new: Tensor) -> bool:
    return old.shape == new.shape and old.dtype == new.dtype


def _of_classes(old: Tensor | None, new: Tensor, counts: tuple[int, int]) -> bool:
    """Whether two tensors differ in one size alone, which counts the classes."""
    if old is None or old.ndim != new.ndim:
        return False
    return [pair for pair in zip(old.shape, new.shape, strict=True) if pair[0] != pair[1]] == [counts]
