"""The command that draws the curves of trainings."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError, DataError
from .args import split_places

if TYPE_CHECKING:
    from ..visualize.curves import Named

CURVES = """\
phalanx curves RUN [OTHER ...] [out=FILE.png] [classes=A,B]

Curves of trainings from their log.jsonl, of runs that train, have ended or were killed, and of earlier versions: loss
and its terms, learning rate, metric of training steps and of held-out images, figures by class and by pose.

Of one run, writes curves.csv and curves.png again into the folder of each fold, where a training writes them as well.
Of several, draws them over each other into out=, with all numbers in a CSV of the same name.

  RUN, OTHER             runs, their folders, or the folders of single folds (runs/NAME/fold0)
  out=FILE.png           the picture, also of one run: the mean over its folds (default of several: curves.png)
  classes=A,B            also a panel for each of these classes
  runs=runs              folder of the runs
"""


def curves(words: Sequence[str]) -> None:
    """``phalanx curves``."""
    places, pairs = split_places(words)
    if not places:
        raise ConfigError("expected RUN, got nothing; see phalanx curves --help")

    from ..config import nearest

    runs, classes = Path(pairs.pop("runs", "runs")), [one for one in pairs.pop("classes", "").split(",") if one]
    out = Path(pairs.pop("out")) if "out" in pairs else None
    if pairs:
        key = next(iter(pairs))
        raise ConfigError(f"{key}: no such option{nearest(key, ['out', 'classes', 'runs'])}")
    if out is not None and out.suffix != ".png":
        raise ConfigError(f"out={out}: expected the name of a picture, as in out=curves.png")
    if len(places) > 1 or classes:
        out = out or Path("curves.png")
    folders = {name: _folders(name, runs) for name in dict.fromkeys(places)}
    found = [_named(name, folders[name]) for name in folders]
    if out is None:
        for name, run in zip(folders, found, strict=True):
            _write_own(name, folders[name], run)
        return
    _write_overlay(found, out, classes)


def _folders(name: str, runs: Path) -> list[Path]:
    from ..runs.reader import fold_folders

    return fold_folders(name, runs, weights="last")  # whether or not they have ended


def _named(name: str, folders: Sequence[Path]) -> "Named":
    """The curves of a run's folds.

    Raises:
        DataError: no epoch of one of them has ended, or its log is missing or damaged.
    """
    from ..tracking.curves import curves_of
    from ..tracking.json_lines import JsonLines
    from ..visualize.curves import Named

    folds = [curves_of(JsonLines(folder / "log.jsonl").read()) for folder in folders]
    for folder, one in zip(folders, folds, strict=True):
        if not one.rows:
            raise DataError(f"{folder}: no epoch of it has ended yet, so that there is nothing to draw")
    return Named(name, folds)


def _write_own(name: str, folders: Sequence[Path], run: "Named") -> None:
    from ..runtime.files import write_text
    from ..tracking.curves import NAME
    from ..visualize.curves import draw_run

    for folder, one in zip(folders, run.folds, strict=True):
        write_text(folder / NAME, one.to_csv())
        draw_run(one, f"{name}, {folder.name}" if folder.name not in name else name, folder / "curves.png")
        print(folder / "curves.png", flush=True)


def _write_overlay(found: Sequence["Named"], out: Path, classes: Sequence[str]) -> None:
    """Writes the picture of several runs, and the CSV beside it.

    Raises:
        DataError: their metrics differ, or the logs lack a class.
        OutputError: a file of this name was not written by this command.
    """
    from ..config import nearest
    from ..runtime.files import refuse_foreign, write_text
    from ..tracking.curves import joined_csv
    from ..visualize.curves import class_names, draw_overlay

    metrics = {one.metric.name: run.name for run in found for one in run.folds if one.metric}
    if len(metrics) > 1:
        each = ", ".join(f"{run} has {metric}" for metric, run in metrics.items())
        raise DataError(f"runs of different metrics cannot be drawn over each other: {each}")
    known = class_names(found)
    for label in classes:
        if label not in known:
            why = nearest(label, known) if known else "; no validation has figures by class"
            raise DataError(f"classes={label}: not in the logs{why}")
    table = out.with_suffix(".csv")
    refuse_foreign(table, "run,fold,step")
    draw_overlay(found, out, classes)
    write_text(table, joined_csv([(run.name, run.folds) for run in found]))
    print(f"{out}, {table}", flush=True)
