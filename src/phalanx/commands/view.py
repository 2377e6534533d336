"""The command that serves one local page about images and runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError, PhalanxError
from .args import split_places

if TYPE_CHECKING:
    from ..config import Config
    from ..view.options import ViewOptions

VIEW = """\
phalanx view [RUN|FILE.csv ...] [data=NAME data.root=DIR] [suspects=FILE.csv] [key=value ...]

Serves one page on this machine (127.0.0.1 only) until Ctrl-C, and opens it in the browser. Its three rooms:

  browse                 images with ground truth and what runs and CSVs predicted; filters by fold, patient, class,
                         score and attributes; two runs side by side with a swipe
  review                 annotations in doubt, by keyboard: accept (it is wrong), reject (it is right), undo, next
  try it                 drop an image (PNG, JPEG, TIFF, DICOM): overlay, areas, the CSV

  RUN, FILE.csv          runs, their folders, and CSVs of votes, all of one task; default: the runs below runs= that
                         have the data set of the one changed last
  data=NAME data.root=DIR  the data set, without runs; data.root=DIR alone: where that of the runs was moved to
  experiment=NAME        without runs: a recipe with the data set, of data with boxes or labels one of their task
  suspects=FILE.csv      a CSV of phalanx suspects or review, in any task; default: the worst images of the first run
  decisions=FILE.jsonl   decisions, appended as they are made (default: next to suspects=, else view.decisions.jsonl)
  quarantine=FILE        where the page writes accepted images, on request, for data.quarantine=FILE (default:
                         quarantine.txt)
  port=8765              0: any that is free
  open=true              false: do not open the browser
  threshold=0.5          boxes with lower scores do not count; default: as phalanx review
  runs=runs device=auto
"""


def view(words: Sequence[str]) -> None:
    """``phalanx view``."""
    names, pairs = split_places(words)
    recipe = {key: pairs.pop(key) for key in list(pairs) if key in ("data", "experiment") or key.startswith("data.")}
    if "data.root" in recipe:
        pairs["data.root"] = recipe["data.root"]

    from ..config.words import typed
    from ..view.options import ViewOptions

    options = typed(ViewOptions, pairs)
    names, config = _described(names, recipe, options)

    from ..data.root import resolve_root
    from ..runtime.sidecar import is_csv
    from ..view.server import serve
    from .task_of import task_of_members
    from .tasks import TASKS

    if names and (task := task_of_members(names, options.runs)) != config.task:
        kind = "CSVs" if all(map(is_csv, names)) else "runs"
        raise ConfigError(f"data=: is of task={config.task}, and the {kind} are of task={task}; name another data set")
    data = resolve_root(config.data)
    config = config.model_copy(update={"data": data})
    commands = TASKS[config.task]
    serve(names, config, commands.scenes(config), commands.evaluate, options)


def _described(names: list[str], recipe: dict[str, str], options: "ViewOptions") -> "tuple[list[str], Config]":
    """The runs and CSVs to show, and a recipe with their data set.

    Raises:
        ConfigError: nothing says which data set is meant, or two things do.
    """
    from ..runs.reader import FoldRun, fold_folders
    from ..runtime.sidecar import is_csv

    runs = [name for name in names if not is_csv(name)]
    others = sorted(key for key in recipe if key != "data.root")
    if runs and others:
        raise ConfigError(
            f"{others[0]}=: the runs name their data set; leave it out, or say data.root= if it was moved"
        )
    if not runs and recipe:
        from ..config.compose import compose

        return names, compose(recipe)
    if not runs:
        runs = _latest(options.runs)
        if not runs:
            raise ConfigError(
                f"runs={options.runs}: has no run; name a run, or a data set with data=NAME data.root=DIR"
            )
        names = [*runs, *names]
    found = FoldRun(fold_folders(runs[0], options.runs, "last")[0]).config
    if options.root is not None:
        found = found.model_copy(update={"data": found.data.model_copy(update={"root": options.root})})
    return names, found


def _latest(runs: Path) -> list[str]:
    """Scored runs below a folder that have the task and data set of the one changed last, by name."""
    from ..runs.reader import FoldRun

    found: dict[str, tuple[float, object]] = {}
    for recipe in sorted(runs.glob("*/fold*/config.yaml")):
        fold = FoldRun(recipe.parent)
        try:
            values = fold.recipe
            if fold.is_scored and values.get("task", "segment") != "restore":
                data = values.get("data") or {}
                same = values.get("task", "segment"), str(data.get("root")), str(data.get("classes"))
                found[fold.folder.parent.name] = recipe.stat().st_mtime, same
        except PhalanxError:  # damaged: `phalanx runs` lists it
            continue
    last = max(found.values(), default=None, key=lambda each: each[0])
    return [name for name, (_, same) in found.items() if last is not None and same == last[1]]
