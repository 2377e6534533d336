"""Training images left out by a rule (``data.drop``): unusually bright ones, and those an earlier run disagrees with.

A rule takes images out of training alone. They stay in their folds and are predicted and scored where they are held
out, so that a run with a rule and one without are compared on the same images.
"""

import csv
import io
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from ..config import Data, DropDice, nearest, read_plain
from ..errors import ConfigError, DataError, TrainingError
from .brightness import BRIGHT, brightness, fence
from .images import read_grey
from .layouts import train_names
from .records import Record


class Dropped(NamedTuple):
    """An image, the rule that drops it, and the value that crossed the limit."""

    name: str
    rule: str
    value: float
    limit: float

    @property
    def reason(self) -> str:
        """In words, for the screen and for a quarantine."""
        if self.rule == "bright":
            return f"{self.value:.3%} of the pixels are {BRIGHT} or brighter; the limit is {self.limit:.3%}"
        return f"out-of-fold Dice {self.value:.4f}"


def find(records: Sequence[Record], data: Data, runs: Path) -> list[Dropped]:
    """What the rules of ``data.drop`` drop of the annotated images ``records``, an entry an image and rule.

    Args:
        runs: folder of the runs, where the Dice of an earlier one is looked up.

    Raises:
        ConfigError: a rule drops nothing, so that the recipe would not be what it says; or its run is not there.
        DataError: an unreadable image, or a run on other images or classes.
    """
    found: list[Dropped] = []
    if data.drop is None:
        return found
    if data.drop.bright is not None:
        with ThreadPoolExecutor() as pool:
            shares = list(pool.map(lambda record: brightness(read_grey(record.image)).share, records))
        limit = fence(shares, data.drop.bright)
        rows = [Dropped(r.name, "bright", s, limit) for r, s in zip(records, shares, strict=True) if s > limit]
        if not rows:
            raise ConfigError(
                f"data.drop.bright={data.drop.bright:g}: no training image is brighter than that (the most: "
                f"{max(shares):.3%} of the pixels); give a smaller number, or leave the rule out"
            )
        found += rows
    if data.drop.dice is not None:
        found += _by_dice(records, data, data.drop.dice, runs / data.drop.dice.run)
    return found


def reasons_of(dropped: Sequence[Dropped]) -> dict[str, str]:
    """Reasons by image name."""
    reasons: dict[str, str] = {}
    for one in dropped:
        reasons[one.name] = f"{reasons[one.name]}; {one.reason}" if one.name in reasons else one.reason
    return reasons


def kept(train: Sequence[Record], dropped: Sequence[Dropped]) -> list[Record]:
    """Training images of a fold without those dropped, which are printed.

    Raises:
        ConfigError: none is left.
    """
    reasons = reasons_of(dropped)
    left = [record for record in train if record.name not in reasons]
    if dropped:
        print(f"data.drop: {len(train) - len(left)} of {len(train)} training images left out", flush=True)
    for record in train:
        if record.name in reasons:
            print(f"  {record.name} ({reasons[record.name]})", flush=True)
    if not left:
        raise ConfigError("data.drop: leaves no training image; choose a limit that fewer images cross")
    return left


def agreed(folder: Path, records: Sequence[Record], data: Data, runs: Path) -> list[Dropped]:
    """As :func:`find`, for the run of which ``folder`` is a fold: all its folds drop the same, however often begun.

    Raises:
        TrainingError: a fold began with other images left out.
    """
    dropped = find(records, data, runs)
    for other in sorted(folder.parent.glob("*/dropped.csv")):
        if other.read_text(encoding="utf-8") != to_csv(dropped):
            raise TrainingError(
                f"{other}: this run began with other images left out, so data.drop, the images or the run it asks "
                "changed since. Restore them, or give another name="
            )
    return dropped


def to_csv(dropped: Sequence[Dropped]) -> str:
    """``image_name,rule,value,limit``, what a run keeps."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image_name", "rule", "value", "limit"])
    table.writerows((one.name, one.rule, repr(one.value), repr(one.limit)) for one in dropped)
    return text.getvalue()


def _by_dice(records: Sequence[Record], data: Data, rule: DropDice, run: Path) -> list[Dropped]:
    """The images whose mean Dice in the run's out-of-fold predictions is low."""
    dice = _out_of_fold(run, data)
    strange = sorted(dice.keys() - train_names(data))
    if strange:
        raise DataError(
            f"{run}: was scored on {strange[0]}, which is no training image of {data.root} ({len(strange)} such "
            "image(s)); name a run on this data set in data.drop.dice.run"
        )
    unknown = [record.name for record in records if record.name not in dice]
    if unknown:
        raise ConfigError(
            f"{run}: has no out-of-fold Dice of {unknown[0]} ({len(unknown)} such image(s)); train all its folds "
            f"first (bash train.sh fold=0..4 name={run.name} ...), on all the images of this run"
        )
    order = sorted(records, key=lambda record: (dice[record.name], record.name))
    limit = dice[order[min(rule.worst, len(order)) - 1].name] if rule.worst else rule.below
    assert limit is not None  # the configuration asks for one of the two
    low = order[: rule.worst] if rule.worst else [record for record in order if dice[record.name] < limit]
    if not low:
        worst = dice[order[0].name]
        raise ConfigError(
            f"data.drop.dice.below={limit:g}: no training image is below that in {run} (the lowest: {worst:.4f}); "
            "give a larger number, or leave the rule out"
        )
    return [Dropped(record.name, "dice", dice[record.name], limit) for record in low]


def _out_of_fold(run: Path, data: Data) -> dict[str, float]:
    """Mean Dice over the classes of every image that a finished fold of the run held out."""
    if not run.is_dir():
        others = {path.parents[1].name for path in run.parent.glob("*/fold*/oof_score.json")}
        close = nearest(run.name, others) if others else ""
        raise ConfigError(f"data.drop.dice.run={run.name}: no such run in {run.parent}/{close}")
    found: dict[str, float] = {}
    for path in sorted(run.glob("fold*/oof_score.json")):
        fold = path.parent
        try:
            recipe = read_plain(fold / "config.yaml")
            classes, dice = recipe["data"]["classes"], json.loads(path.read_text(encoding="utf-8"))["per_image"]
            found |= {name: float(value) for name, value in dice.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{fold}: no readable run ({type(error).__name__}: {error}); train it anew") from None
        if classes != data.classes:
            raise DataError(f"{fold}: has other classes; name a run on this data set in data.drop.dice.run")
    if not found:
        raise ConfigError(f"{run}: has no finished fold with held-out images; train it first (bash train.sh fold=0..4)")
    return found
