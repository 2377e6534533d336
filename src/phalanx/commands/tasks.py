"""What each command does for each task: the only place that knows all tasks."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ConfigError, DataError

if TYPE_CHECKING:
    from ..config import Config
    from ..engine.task import Task
    from ..review.case import Reviewed
    from ..review.options import ReviewOptions


class TaskCommands(NamedTuple):
    """The parts of commands that depend on the task. Each loads its modules when it is called.

    Attributes:
        task: the class that trains.
        infer: predicts with runs, from their names and the options of the command line.
        vote: votes members, from the options of the command line; returns the CSV.
        check: lists the problems of a data set.
        score: scores a CSV by a ground truth and options, perhaps of some images only; as text and as JSON types.
        compare: the same of two CSVs.
        tune: chooses out of fold what is done to a prediction, from the options of the command line; as text.
        eda: explores a data set into a folder, perhaps with a CSV of predictions; returns the summary.
        review: a run by its name with its images, to look at its failures.
    """

    task: "Callable[[], type[Task]]"
    infer: Callable[[list[str], dict[str, str]], None]
    vote: Callable[[dict[str, str]], Path]
    check: "Callable[[Config], Any]"
    score: Callable[[Path, Path | None, dict[str, str], bool], tuple[str, dict[str, Any]]]
    compare: Callable[[Path, Path, Path | None, dict[str, str], bool], tuple[str, dict[str, Any]]]
    tune: Callable[[dict[str, str]], str]
    eda: "Callable[[Config, Path, Path | None], str]"
    review: "Callable[[str, ReviewOptions], Reviewed]"


def task_of_run(name: str, runs: Path) -> str:
    """The task of a member by its name: that of the run; of what is not a run, as an export, ``segment``.

    Raises:
        ConfigError: the run's configuration cannot be read.
    """
    from ..runs.reader import FoldRun

    for place in (Path(name), runs / name):
        if recipes := sorted([*place.glob("config.yaml"), *place.glob("*/config.yaml")]):
            return str(FoldRun(recipes[0].parent).recipe.get("task", "segment"))
    return "segment"


def task_of_members(names: Sequence[str], runs: Path) -> str:
    """The task of all members of a prediction or vote: runs by their recipe, CSVs by their header.

    Raises:
        ConfigError: they are of several tasks. DataError: a CSV that does not exist.
    """
    from ..runtime.sidecar import is_csv

    found: dict[str, str] = {}
    for name in names:
        if is_csv(name) and not Path(name).exists():
            raise DataError(f"{name}: no such submission file")
        found.setdefault(task_of_csv(Path(name)) if is_csv(name) else task_of_run(name, runs), name)
    if len(found) > 1:
        (one, first), (other, second) = list(found.items())[:2]
        raise ConfigError(f"members: {first} is of task={one} and {second} of task={other}; they cannot be combined")
    return next(iter(found), "segment")


def task_of_csv(path: Path) -> str:
    """By the header of a CSV: boxes have corners, probabilities a column per class, masks are anything else."""
    from ..runtime.reading import open_regular
    from ..submission.box_rows import is_box_header
    from ..submission.rows import HEADER

    try:
        with open_regular(path) as file:
            line = file.readline(1 << 16).decode("utf-8-sig", "replace").strip()
    except OSError:
        return "segment"  # whose reader says what is wrong
    if any(is_box_header([cell.strip(' "') for cell in line.split(mark)]) for mark in ",;\t|"):
        return "detect"
    first = [cell.strip('"') for cell in line.split(",")]
    return "classify" if first[0] == "image_name" and tuple(first) != HEADER else "segment"


def _segment() -> "type[Task]":
    from ..tasks.segment import Segment

    return Segment


def _classify() -> "type[Task]":
    from ..tasks.classify import Classify

    return Classify


def _detect() -> "type[Task]":
    from ..tasks.detect import Detect

    return Detect


def _restore() -> "type[Task]":
    from ..tasks.restore import Restore

    return Restore


def _not_restored(*words: Any) -> Any:
    raise ConfigError(
        "a run of task=restore restores images with phalanx restore RUN out=DIR; it predicts no labels to vote or score"
    )


def _infer_masks(names: list[str], pairs: dict[str, str]) -> None:
    from ..config.words import typed
    from ..ensemble.options import InferOptions
    from ..ensemble.run import check_members, infer_run

    options = typed(InferOptions, pairs)
    check_outputs(names, options.out)
    check_members(names, options.runs, options.weights)
    for name in names:
        print(infer_run(name, options), flush=True)


def _infer_labels(names: list[str], pairs: dict[str, str]) -> None:
    from ..config.words import typed
    from ..ensemble.classify import InferLabels, infer_run

    options = typed(InferLabels, pairs)
    check_outputs(names, options.out)
    for name in names:
        print(infer_run(name, options), flush=True)


def _infer_boxes(names: list[str], pairs: dict[str, str]) -> None:
    from ..config.words import typed
    from ..ensemble.detect import InferBoxes, infer_run

    options = typed(InferBoxes, pairs)
    check_outputs(names, options.out)
    for name in names:
        print(infer_run(name, options), flush=True)


def check_outputs(names: Sequence[str], out: Path | None) -> None:
    """Raises ConfigError if several predictions would be written to one file."""
    if out is not None and len(names) > 1:
        raise ConfigError("out=: fits one run; several runs are written to submissions/<run>.csv each")
    files = [Path(name).name for name in names]
    if repeated := next((file for file in files if files.count(file) > 1), None):
        raise ConfigError(
            f"experiment=: two of them are written to submissions/{repeated}.csv; predict one at a time, with out="
        )


def _vote_masks(pairs: dict[str, str]) -> Path:
    from ..config.words import typed
    from ..ensemble.options import EnsembleOptions
    from ..ensemble.run import vote

    return vote(typed(EnsembleOptions, pairs))


def _vote_labels(pairs: dict[str, str]) -> Path:
    from ..config.words import typed
    from ..ensemble.classify import VoteLabels, vote

    return vote(typed(VoteLabels, pairs))


def _fuse_boxes(pairs: dict[str, str]) -> Path:
    from ..config.words import typed
    from ..ensemble.boxes import FuseBoxes, fuse_csvs

    return fuse_csvs(typed(FuseBoxes, pairs))


def _check_masks(config: "Config") -> Any:
    from ..checks.run import check
    from ..config import SegmentData

    assert isinstance(config.data, SegmentData)  # of a recipe of this task
    return check(config.data, workers=config.workers, progress=config.progress)


def _check_labels(config: "Config") -> Any:
    from ..checks.labels import check
    from ..config import ClassifyData

    assert isinstance(config.data, ClassifyData)  # of a recipe of this task
    return check(config.data, workers=config.workers, progress=config.progress)


def _check_boxes(config: "Config") -> Any:
    from ..checks.boxes import check
    from ..config import DetectData

    assert isinstance(config.data, DetectData)  # of a recipe of this task
    return check(config.data, workers=config.workers, progress=config.progress)


def _score_masks(file: Path, truth: Path | None, pairs: dict[str, str], partial: bool) -> tuple[str, dict[str, Any]]:
    from .scoring import score_file

    found = score_file(file, truth, pairs, partial=partial)
    return found.to_text(), found.to_json()


def _compare_masks(
    first: Path, second: Path, truth: Path | None, pairs: dict[str, str], partial: bool
) -> tuple[str, dict[str, Any]]:
    from .scoring import compare_files

    found = compare_files(first, second, truth, pairs, partial=partial)
    return found.to_text(), found.to_json()


def _score_labels(file: Path, truth: Path | None, pairs: dict[str, str], partial: bool) -> tuple[str, dict[str, Any]]:
    from ..scoring.classify_report import score_json, score_text
    from .scoring_labels import score_labels

    found = score_labels(file, truth, pairs, partial=partial)
    shown = [name for name in ("accuracy", "macro_auc", "macro_f1") if name in found.metrics]
    return score_text(found, shown), score_json(found, shown)


def _compare_labels(
    first: Path, second: Path, truth: Path | None, pairs: dict[str, str], partial: bool
) -> tuple[str, dict[str, Any]]:
    from ..scoring.classify_compare import compare_classes
    from .scoring_labels import out_of_fold, score_labels

    if first.is_dir() and second.is_dir():
        if truth is not None or pairs:
            raise ConfigError("two runs are compared by their out-of-fold predictions, without labels or options")
        one, other = out_of_fold(first), out_of_fold(second)
    else:
        one, other = (score_labels(file, truth, pairs, partial=partial) for file in (first, second))
    found = [compare_classes(one, other, name) for name in ("accuracy", "macro_auc", "macro_f1")]
    return "\n".join(each.to_text() for each in found), {each.metric: each.to_json() for each in found}


def _score_boxes(file: Path, truth: Path | None, pairs: dict[str, str], partial: bool) -> tuple[str, dict[str, Any]]:
    from ..scoring.boxes_report import score_json, score_text
    from .scoring_boxes import score_csv

    found = score_csv(file, truth, pairs, partial=partial)
    return score_text(*found), score_json(*found)


def _compare_boxes(
    first: Path, second: Path, truth: Path | None, pairs: dict[str, str], partial: bool
) -> tuple[str, dict[str, Any]]:
    from .scoring_boxes import compare_csvs

    found = compare_csvs(first, second, truth, pairs, partial=partial)
    return "\n".join(each.to_text() for each in found), {each.metric: each.to_json() for each in found}


def _tune_masks(pairs: dict[str, str]) -> str:
    from ..config.words import typed
    from ..ensemble.tune import TuneOptions, tune

    options = typed(TuneOptions, pairs)
    return f"{tune(options).to_text()}\n{options.out}"


def _tune_boxes(pairs: dict[str, str]) -> str:
    from ..config.words import typed
    from ..ensemble.box_thresholds import TuneBoxes, tune_boxes

    chosen, out = tune_boxes(typed(TuneBoxes, pairs))
    return f"{chosen.to_text()}\n{out}"


def _explore_masks(config: "Config", out: Path, csv: Path | None) -> str:
    from ..config import SegmentData
    from ..eda.report import explore

    assert isinstance(config.data, SegmentData)  # of a recipe of this task
    return explore(config.data, out, csv=csv, workers=config.workers, progress=config.progress)


def _explore_labels(config: "Config", out: Path, csv: Path | None) -> str:
    from ..config import ClassifyData
    from ..eda.labels import explore

    assert isinstance(config.data, ClassifyData)  # of a recipe of this task
    if csv is not None:
        raise ConfigError(f"csv={csv}: only for task=segment, whose masks show the rotation; leave it out")
    return explore(config.data, out, folds=config.folds, workers=config.workers, progress=config.progress)


def _explore_boxes(config: "Config", out: Path, csv: Path | None) -> str:
    from ..config import DetectConfig
    from ..eda.boxes import explore

    assert isinstance(config, DetectConfig)  # of a recipe of this task
    if csv is not None:
        raise ConfigError(f"csv={csv}: only for task=segment, whose masks show the rotation; leave it out")
    return explore(config, out)


def _review_masks(name: str, options: "ReviewOptions") -> "Reviewed":
    from ..review.masks import review_masks

    return review_masks(name, options)


def _review_boxes(name: str, options: "ReviewOptions") -> "Reviewed":
    from ..review.boxes import review_boxes

    return review_boxes(name, options)


def _review_labels(name: str, options: "ReviewOptions") -> "Reviewed":
    raise ConfigError(
        f"{name}: is a run of task=classify, which has no masks or boxes; phalanx suspects ranks its labels, and "
        "phalanx cam shows where it looks"
    )


def _review_restored(name: str, options: "ReviewOptions") -> "Reviewed":
    raise ConfigError(f"{name}: is a run of task=restore, which has no classes to review")


TASKS: dict[str, TaskCommands] = {
    "segment": TaskCommands(
        _segment,
        _infer_masks,
        _vote_masks,
        _check_masks,
        _score_masks,
        _compare_masks,
        _tune_masks,
        _explore_masks,
        _review_masks,
    ),
    "classify": TaskCommands(
        _classify,
        _infer_labels,
        _vote_labels,
        _check_labels,
        _score_labels,
        _compare_labels,
        _tune_masks,
        _explore_labels,
        _review_labels,
    ),
    "detect": TaskCommands(
        _detect,
        _infer_boxes,
        _fuse_boxes,
        _check_boxes,
        _score_boxes,
        _compare_boxes,
        _tune_boxes,
        _explore_boxes,
        _review_boxes,
    ),
    "restore": TaskCommands(
        _restore,
        _not_restored,
        _not_restored,
        _check_labels,
        _not_restored,
        _not_restored,
        _tune_masks,
        _explore_labels,
        _review_restored,
    ),
}
