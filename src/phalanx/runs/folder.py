"""A run's folder: its lock, its recipe, its folds and what it was made with."""

import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from ..config import RUNTIME_KEYS, Config, flatten, validate
from ..data import folds as folding
from ..data.digests import NAME as DIGESTS
from ..data.digests import Digests
from ..data.records import Record
from ..data.selection import Selection
from ..errors import ConfigError, OutputError, TrainingError
from ..runtime.files import refuse_links_in, write_json, write_text
from ..runtime.leftovers import LEFTOVER, clear
from ..runtime.locks import LockHeld, hold, is_lock_file, remove_hold
from ..runtime.provenance import commit
from ..runtime.reading import fresh, listed
from ..runtime.terminal import say
from .pretrained import beginning
from .reader import FORMAT, FoldRun

PACKAGES = (
    "torch",
    "segmentation-models-pytorch",
    "timm",
    "albumentations",
    "numpy",
    "opencv-python-headless",
)


FILES = re.compile(
    r"config\.yaml|environment\.json|(folds|digests|selection|monitored|attributes|labels|restored|oof)\.csv|"
    r"(start|oof|oof_score|done|snapshot)\.json|curves\.(csv|png)|"
    r"log\.jsonl|(last|best|final)((\.\d+)?\.new|\.before)?|top|oof_prob|panels|\.oof\.csv\.part|"
    r"tracking\.json|tensorboard|wandb"
)  # what a training writes into its folder
NESTED = ("panels", "oof_prob", ".oof.csv.part", ".oof.csv.part/maps")  # folders with files written aside


def fold_folder(config: Config, fold: int | None) -> Path:
    """``runs/<name>/fold<k>``, or ``runs/<name>/all`` for a fit on everything."""
    return config.runs / config.name / ("all" if fold is None else f"fold{fold}")


def is_ours(name: str) -> bool:
    """Whether training writes a file or folder of that name into its folder."""
    return FILES.fullmatch(name) is not None or is_lock_file(name)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder for this process; a kill releases it. A new folder that stayed empty is removed again.

    The folder may be a link; below it nothing that training writes may be one.

    Raises:
        TrainingError: another process holds it.
        OutputError: a link at one of our names, or a folder that holds something else than a run.
    """
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    refuse_links_in(folder, is_ours)
    names = fresh(lambda: os.listdir(folder))
    only_begun = any(map(is_lock_file, names))  # by a process that was killed
    foreign = [name for name in names if not is_lock_file(name) and not LEFTOVER.fullmatch(name)]
    if foreign and not (folder / "config.yaml").exists():
        raise OutputError(
            f"{folder}: holds {min(foreign)} and no config.yaml, so it is not a run to continue; give another name="
        )
    try:
        with hold(folder):
            clear(folder, is_ours, held=True)
            for name in NESTED:
                if not (folder / name).is_symlink():
                    clear(folder / name, lambda name: True, held=True)
            try:
                yield
            finally:
                _remove_unused(folder, new or ([folder] if only_begun else []))
    except LockHeld as error:
        by = f" ({error.holder})" if error.holder else ""
        remedy = f", or {error.remedy}" if error.remedy else ""
        raise TrainingError(
            f"{folder}: another process is training here{by}; wait for it, or give another name={remedy}"
        ) from None


def _remove_unused(folder: Path, new: Sequence[Path]) -> None:
    """Removes the folders that this process made if nothing was written into them; while the lock is held."""
    if new and all(map(is_lock_file, os.listdir(folder))):
        remove_hold(folder)
        with suppress(OSError):  # up to the first that another process uses meanwhile
            for place in new:
                place.rmdir()


def check_recipe(folder: Path, config: Config, longer: Sequence[str] = ()) -> None:
    """Checks that the folder, if it holds a run, was started with the same recipe.

    Args:
        longer: words of a command that a task needs to go on where a finished training ended.

    Raises:
        TrainingError: the recipe differs in a key that changes the result; if it only wants more epochs of a finished
            run, the text has the words that train them.
    """
    new = config.model_dump(mode="json")
    if (folder / "config.yaml").is_file():
        old = read_recipe(folder)
        differing = changed_keys(old, new)
        if differing:
            key = differing[0]
            was, now = flatten(old).get(key), flatten(new).get(key)
            had = old.get("epochs")
            if differing == ["epochs"] and isinstance(had, int) and had < config.epochs and (folder / "final").is_dir():
                raise TrainingError(more_epochs(folder, config, had, longer))
            more = f" (and {len(differing) - 1} more: {', '.join(differing[1:6])})" if len(differing) > 1 else ""
            raise TrainingError(
                f"{folder}: was started with {key}={was}, now it is {now}{more}. Give the new recipe another "
                "name=, or delete the folder"
            )


def more_epochs(folder: Path, config: Config, had: int, longer: Sequence[str]) -> str:
    """How a finished run is trained for more epochs: as a run of its own, which begins with these weights.

    Args:
        had: epochs that it was trained for.
        longer: words that the task needs for that.
    """
    name = _free_name(config, had)
    words = [f"name={name}", f"model.init_from={config.name}", f"epochs={config.epochs - had}", *longer]
    return (
        f"{folder}: is trained to the end of its {had} epochs, and its learning rate has come down with them, so they "
        f"cannot become {config.epochs}. To train {config.epochs - had} more epochs from its weights, with the "
        f"schedule restarted, give the same command with these words, instead of its own of these keys: "
        f"{' '.join(words)}"
    )


def _free_name(config: Config, had: int) -> str:
    """A name of the run with more epochs: taken by none, or by one that was begun with these words."""
    base = f"{config.name[:150]}_{config.epochs}"
    for number in range(1, 1000):
        name = base if number == 1 else f"{base}_{number}"
        others = listed(config.runs / name, "*/config.yaml")
        if not others or all(
            FoldRun(other.parent).recipe.get("epochs") == config.epochs - had
            and (FoldRun(other.parent).recipe.get("model") or {}).get("init_from") == config.name
            for other in others
        ):
            return name
    return f"{base}_more"


def read_recipe(folder: Path) -> dict[str, Any]:
    """The recipe a run began with; options that came later have the values that change nothing."""
    values = FoldRun(folder).recipe
    try:
        return validate(values).model_dump(mode="json")
    except ConfigError:  # an option that is no more, which the comparison will name
        return values


def agreed_folds(folder: Path, config: Config, records: Sequence[Record]) -> folding.Folds:
    """The fold of each image. Each fold's folder has its own copy, and all of a run must agree.

    Raises:
        TrainingError: the data set's images changed since the run began, or another fold was drawn otherwise.
    """
    shared, count = config.data.folds_file, config.folds
    if FoldRun(folder).number is None:  # nothing is held out, so that few patients, or one, are enough
        count = min(count, len({record.group for record in records}))
    folds = folding.read(shared, records, config.folds) if shared else folding.draw(records, count, config.seed)
    for other in listed(folder.parent, "*/folds.csv"):
        if FoldRun(other.parent).folds != folds:
            raise TrainingError(
                f"{other}: this run began with other images or folds; a mix would validate on images it trained "
                "on. Restore the data set, or give another name="
            )
    return folds


def agreed_selection(folder: Path, selection: Selection) -> Selection:
    """The selection of training images, once it is that of all folds of the run, however often begun.

    Raises:
        TrainingError: a fold began with other images or weights.
    """
    for other in listed(folder.parent, "*/selection.csv"):
        if changed := Selection.read(other).difference(selection):
            raise TrainingError(
                f"{other}: this run began with another selection of training images ({changed}), so the rules of data, "
                "the images or the metadata changed since. Restore them, or give another name="
            )
    return selection


def agreed_digests(folder: Path, files: Mapping[str, Sequence[Path]]) -> Digests:
    """Digests of all images and annotations, once they are those of all folds of the run, however often begun.

    A fold that began before there were digests is continued, and has those of now from here on.

    Args:
        files: of each image by name, the image itself first.

    Raises:
        TrainingError: a fold began with another content.
        DataError: a file cannot be read, or a fold's table is damaged.
    """
    digests = Digests.of(files)
    for other in listed(folder.parent, f"*/{DIGESTS}"):
        if changed := Digests.read(other).changed(digests):
            name, part = changed[0]
            paths = files[name][:1] if part == "image" else files[name][1:]
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            raise TrainingError(
                f"{paths[0] if paths else name}: changed{more} since this run began ({other}), so the run would be "
                "made of two versions. Restore what changed, or give another name="
            )
    if (folder / "config.yaml").is_file() and not (folder / DIGESTS).is_file():
        say(f"{folder}: began without {DIGESTS}; from now on the images and annotations must remain as they are")
    return digests


def claim(folder: Path, config: Config, start: Path | None = None) -> None:
    """Writes the recipe and what it is run with into the folder; runtime keys become those of this call.

    Args:
        start: the fold whose weights it begins with, if it is a warm start.
    """
    recipe = {"format": FORMAT, **config.model_dump(mode="json")}
    write_text(folder / "config.yaml", yaml.safe_dump(recipe, sort_keys=False))
    if not (folder / "environment.json").is_file():
        pretrained = beginning(config, start)
        write_json(folder / "environment.json", environment() | {"pretrained": pretrained._asdict()})


def changed_keys(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Dotted keys that differ and change the result."""
    a, b = flatten(old), flatten(new)
    keys = [key for key in {**a, **b} if key not in RUNTIME_KEYS and a.get(key) != b.get(key)]
    return [key for key in keys if not key.startswith("data.phantom.")]  # it only matters through data.root


def environment() -> dict[str, Any]:
    """Versions, commit, threads and machine of this process."""
    import torch  # only here: the rest of a folder is read without it

    return {
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "commit": commit(),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
