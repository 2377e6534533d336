"""The command that makes the page of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError, PhalanxError, one_line
from .args import split_places

if TYPE_CHECKING:
    from ..config import Config

REPORT = """\
phalanx report RUN|FILE.csv [OTHER ...] [out=FILE.html] [key=value ...]

Makes one HTML file of a run, or of several beside each other, by what finished folds predicted of the images that they
held out. It contains the metric with its interval, folds, paired differences of runs, classes, the worst and best
images, a list of all images to filter and zoom, groups such as sex and rotation, charts over thresholds, calibration,
curves of training, time and memory, configuration, versions, digests of data and licences of pretrained weights. The
file needs nothing but itself: no network, no other file. phalanx train makes it too, unless report=false.

  RUN, OTHER             runs, their folders, or the folders of single folds (runs/NAME/fold0)
  FILE.csv               a vote, scored by the out-of-fold predictions of its members; or another CSV with truth=
  out=FILE.html          the file (default: report.html in the folder of the first run, or beside the CSV)
  truth=PATH             ground truth of the images of FILE.csv, as phalanx score reads it
  folder=DIR             the images of FILE.csv; default: the test images of the data set of its run
  worst=12 best=6        images with large pictures, beside those of the other runs
  images=400             images that the list shows at all, the worst first
  data.root=DIR          the data set, if it was moved
  threshold=0.5          boxes with lower scores do not count; default: those of phalanx tune, else the best one out
                         of fold
  runs=runs device=auto workers=-1 progress=true
"""


def report(words: Sequence[str]) -> None:
    """``phalanx report``."""
    places, pairs = split_places(words)
    if not places:
        raise ConfigError("expected RUN, got nothing; see phalanx report --help")

    from ..config.words import typed
    from ..report.options import ReportOptions
    from ..report.run import NAME, check_alike, write_report_page
    from ..report.write import check_page
    from .evaluations import evaluation_of
    from .task_of import task_of_members

    options = typed(ReportOptions, pairs)
    if options.out is not None and options.out.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"out={options.out}: is not an HTML file; name one, as in out=report.html")
    task = task_of_members(places, options.runs)
    if options.out is not None:
        check_page(options.out, "report")
    evaluations = [evaluation_of(name, task, options, options.truth, options.folder) for name in places]
    check_alike(evaluations)
    path = options.out or default_path(places[0], options.runs) / NAME
    check_page(path, "report")
    print(write_report_page(evaluations, path, options))


def default_path(name: str, runs: Path) -> Path:
    """The folder of a run by its name; of a CSV that in which it lies."""
    from ..runs.reader import fold_folders
    from ..runtime.sidecar import is_csv

    if is_csv(name):
        return Path(name).parent
    folders = fold_folders(name, runs, "last")
    single = len(folders) == 1 and folders[0].name == Path(name).name
    return folders[0] if single else folders[0].parent


def report_of_training(config: "Config") -> None:
    """Makes the page of a run whose folds were trained, if some held images out and it has none of them yet.

    The run is finished with or without it: whatever goes wrong is a note.
    """
    from ..runs.reader import folds_of
    from .tasks import TASKS

    commands, run = TASKS[config.task], config.runs / config.name
    try:
        done = [fold.folder / "done.json" for fold in folds_of(run) if fold.number is not None and fold.is_scored]
        if not done or not commands.has_pages or _is_newer(run, done):
            return
        from ..report.options import ReportOptions
        from ..report.run import NAME, write_report_page
        from ..report.write import check_page

        workers = -1 if config.workers else 1
        options = ReportOptions(
            runs=config.runs, root=config.data.root, device=config.device, workers=workers, progress=False
        )
        check_page(run / NAME, "report")
        evaluated = commands.evaluate(str(run), options)
        print(write_report_page([evaluated], run / NAME, options), flush=True)
    except PhalanxError as error:
        print(f"note: {run}: has no report: {one_line(str(error))}", flush=True)
    except Exception as error:  # the run is whole, whatever a page stumbles on
        text = one_line(f"{type(error).__name__}: {error}")
        print(
            f"note: {run}: has no report, by an unexpected error ({text}); phalanx report {run} shows more", flush=True
        )


def _is_newer(run: Path, done: Sequence[Path]) -> bool:
    """Whether the page was made after all of these files."""
    from ..report.run import NAME

    page = run / NAME
    return page.is_file() and all(file.exists() and page.stat().st_mtime > file.stat().st_mtime for file in done)
