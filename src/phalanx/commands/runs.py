"""Commands that list runs and compare their recipes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .args import report_path, split_places, switch

if TYPE_CHECKING:
    from ..config import Config

OWN = ("task", "data", "metric", "state", "kind", "name")  # filters that are not keys of a recipe
OPTIONS = ("runs", "submissions", "sort", "folds", "keys", "json", "csv")

RUNS = """\
phalanx runs [NAME ...] [runs=DIR] [sort=score] [key=value ...]

Lists every run below a folder, with votes and CSVs: state, epochs, metric out of fold with 95% interval over patients,
folds, time, machine, and the keys in which the recipes differ. Each task, data set and metric has its own table, whose
best is marked with *. A run with damaged files is a row that says so.

  NAME ...               only these runs, * for any text, as in brain_*
  runs=DIR               folder of the runs, however deep (default: runs)
  submissions=DIR        folder of votes and CSVs (default: submissions, or that within runs=DIR)
  sort=score             or name, date, state, epoch, seconds, or a key such as optim.lr; sort=-name the other way round
  optim.lr=3e-4 model.arch=fpn ...   only runs with these values in their recipe, * for any text
  task=segment data=hand metric=dice state=finished|training|stopped|damaged kind=run|vote|file   only those
  folds=true             a row for each fold, too, and the standard deviation over folds
  keys=optim.lr,batch    these columns of the recipe; all: every key that differs; none
  json=FILE  csv=FILE    write the table: all numbers with every digit, every fold (JSON), every key that differs

The metric is over all images that finished folds held out: of what is not a mean over images, such as AUC, the mean of
the folds, whose interval is made of those of the folds.
"""


def runs(words: Sequence[str]) -> None:
    """``phalanx runs``."""
    places, pairs = split_places(words)
    folds = switch(pairs, "folds")

    from ..runtime.files import write_report, write_text
    from ..standings.export import to_csv, to_json
    from ..standings.recipes import check_filters
    from ..standings.table import arrange, list_runs, only, to_text

    report, table = report_path(pairs, "runs"), _table_path(pairs)
    root = Path(pairs.pop("runs", "runs"))
    submissions = Path(pairs.pop("submissions", "submissions" if root == Path("runs") else root / "submissions"))
    sort, keys = pairs.pop("sort", "score"), pairs.pop("keys", "")
    own = {key: pairs.pop(key) for key in OWN if key in pairs}
    for key, known in (("state", ("finished", "training", "stopped", "damaged")), ("kind", ("run", "vote", "file"))):
        if key in own and own[key] not in known:
            raise ConfigError(f"{key}={own[key]}: expected one of {', '.join(known)}")
    found = list_runs(root, submissions)
    check_filters(pairs, [one.recipe for one in found], [*OPTIONS, *OWN])
    found = only(found, pairs, own)
    if places:
        found = [one for one in found if any(_is_named(one.name, one.path, place) for place in places)]
    if not found:
        chosen = " ".join([*places, *(f"{key}={value}" for key, value in (own | pairs).items())])
        raise ConfigError(f"{root}: has no run{f' that fits {chosen}' if chosen else ''}")
    listing = arrange(found, sort)
    shown = _columns(keys, listing.recipes, [key for some in listing.keys.values() for key in some])
    print(to_text(listing, folds=folds, keys=shown))
    if report is not None:
        write_report(report, "runs", to_json(listing))
    if table is not None:
        write_text(table, to_csv(listing))


def _table_path(pairs: dict[str, str]) -> Path | None:
    """The file of ``csv=``, taken out of the pairs. Raises OutputError if another file is in its place."""
    if "csv" not in pairs:
        return None

    from ..runtime.files import refuse_foreign
    from ..standings.export import COLUMNS

    path = Path(pairs.pop("csv"))
    refuse_foreign(path, ",".join(COLUMNS))
    return path


def _is_named(name: str, path: Path, wanted: str) -> bool:
    """Whether a word names a run: its name below the folder of runs, its last part, or its path."""
    from fnmatch import fnmatchcase

    wanted = wanted.rstrip("/")
    return fnmatchcase(name, wanted) or fnmatchcase(path.name, wanted) or Path(wanted).resolve() == path.resolve()


def _columns(text: str, recipes: Sequence[dict[str, object]], differ: list[str]) -> list[str] | None:
    """The keys of ``keys=``; None for those that are shown by default."""
    if not text:
        return None
    if text in ("all", "none"):
        return list(dict.fromkeys(differ)) if text == "all" else []

    from ..config import nearest_key

    known = dict.fromkeys(key for recipe in recipes for key in recipe)
    keys = [key.strip() for key in text.strip("[]").split(",")]
    for key in keys:
        if key not in known:
            raise ConfigError(f"keys={text}: no listed recipe has {key or 'an empty key'}{nearest_key(key, known)}")
    return keys


DIFF = """\
phalanx diff A B [runs=DIR] [all=true] [json=FILE]

Prints the keys in which two recipes differ, and the commit, packages and machines that runs were trained with.

  A, B                   a run's name or folder, the folder of a fold, a config.yaml, or an experiment by its name or
                         file in configs/experiment/. A name that is both is the run; experiment/NAME is the experiment
  runs=DIR               folder of the runs (default: runs)
  all=true               also the keys that do not change a result, such as device and progress
  json=FILE              write the differences
"""


def diff(words: Sequence[str]) -> None:
    """``phalanx diff``."""
    places, pairs = split_places(words)
    everything = switch(pairs, "all")
    if len(places) != 2:
        raise ConfigError(f"expected A B, got {' '.join(places) or 'nothing'}; see phalanx diff --help")

    from ..config import nearest
    from ..config.compose import compose, config_folder
    from ..runtime.files import write_report
    from ..standings.diff import Experiments, compare, resolve

    report, root = report_path(pairs, "diff"), Path(pairs.pop("runs", "runs"))
    for key in pairs:
        raise ConfigError(f"{key}: no such option{nearest(key, ('runs', 'all', 'json'))}")

    def composed(name: str) -> "Config":
        try:
            return compose({"experiment": name})
        except ConfigError as error:
            if not str(error).startswith("data.root:"):
                raise
            return compose({"experiment": name, "data.root": "DIR"})  # which it needs to be trained, not compared

    experiments = Experiments(config_folder() / "experiment", composed)
    found = compare(*(resolve(place, root, experiments) for place in places), everything=everything)
    print(found.to_text())
    if report is not None:
        write_report(report, "diff", found.to_json())
