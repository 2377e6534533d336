"""What a task adds to the commands."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ConfigError

if TYPE_CHECKING:
    from ..config import Config, Strict
    from ..engine.task import Task
    from ..jobs.job import Job
    from ..predict.exported import ExportOptions
    from ..review.case import Reviewed
    from ..review.evaluate_options import EvaluateOptions
    from ..review.evaluated import Evaluated
    from ..review.options import ReviewOptions
    from ..review.scene_source import SceneSource
    from ..scoring.class_figures import ClassTable
    from ..show.subject import Subject


class Compared(NamedTuple):
    """Two CSVs or runs beside each other.

    Attributes:
        values: as JSON types.
        classes: of both; None of runs, whose classes their evaluations have.
    """

    text: str
    values: dict[str, Any]
    classes: "tuple[ClassTable, ClassTable] | None" = None


class TaskCommands(NamedTuple):
    """The parts of commands that depend on the task. Each loads its modules when it is called.

    Attributes:
        task: the class that trains.
        infer: predicts with runs, from their names and the options of the command line; returns the CSVs.
        infer_jobs: the jobs of a cluster that predict with runs, from the same.
        infer_options: the class of these options.
        export: exports a run by its name to ONNX; returns the folder.
        vote: votes members, from the options of the command line; returns the CSV.
        check: lists the problems of a data set.
        score: scores a CSV by a ground truth and options, perhaps of some images only and with the classes sorted by a
            column; as text and as JSON types.
        compare: the same of two CSVs or runs, unsorted, with the classes of each CSV.
        tune: chooses out of fold what is done to a prediction, from the options of the command line; as text.
        eda: explores a data set into a folder, perhaps with a CSV of predictions; returns the summary.
        review: a run by its name with its images, to look at its failures.
        evaluate: a run by its name against the ground truth, out of fold: what pages, pictures and tables show.
        show: the data set of a recipe, whose root is known, to look at its images.
        scenes: of a data set whose root is known, to draw without an evaluation.
        has_pages: whether there is something to evaluate, so that a training ends with the page of its run.
    """

    task: "Callable[[], type[Task]]"
    infer: Callable[[list[str], dict[str, str]], list[Path]]
    infer_jobs: "Callable[[list[str], dict[str, str]], list[Job]]"
    infer_options: "Callable[[], type[Strict]]"
    export: "Callable[[str, ExportOptions], Path]"
    vote: Callable[[dict[str, str]], Path]
    check: "Callable[[Config], Any]"
    score: Callable[[Path, Path | None, dict[str, str], bool, str | None], tuple[str, dict[str, Any]]]
    compare: Callable[[Path, Path, Path | None, dict[str, str], bool], "Compared"]
    tune: Callable[[dict[str, str]], str]
    eda: "Callable[[Config, Path, Path | None], str]"
    review: "Callable[[str, ReviewOptions], Reviewed]"
    evaluate: "Callable[[str, EvaluateOptions], Evaluated]"
    show: "Callable[[Config], Subject]"
    scenes: "Callable[[Config], SceneSource]"
    has_pages: bool = True


def infer_each(
    names: list[str], pairs: dict[str, str], kind: Any, infer_run: Callable[[str, Any], Path],
    check: Callable[[list[str], Path, str], Any] | None = None,
) -> list[Path]:  # fmt: skip
    """Predicts with each run, after all of them were checked; returns the CSVs, whose sidecars record the command."""
    from ..config.words import typed

    options = typed(kind, pairs)
    check_outputs(names, options.out)
    if check is not None:
        check(names, options.runs, options.weights)
    found = []
    for name in names:
        found.append(infer_run(name, options))
        record_command(found[-1], "infer", [name], pairs)
        print(found[-1], flush=True)
    return found


def record_command(csv: Path, command: str, members: Sequence[str], pairs: dict[str, str]) -> None:
    """Adds the command that wrote a CSV to its sidecar, unless it was a part of a call in progress, which writes it."""
    from ..config.words import text_value
    from ..runtime.sidecar import note_command

    if "part" in pairs:
        return
    named = text_value("postprocess", pairs.get("postprocess", "null"), {Path, type(None)})
    note_command(csv, command, members, pairs, [] if named is None else [Path(named)])


def check_outputs(names: Sequence[str], out: Path | None) -> None:
    """Raises ConfigError if several predictions would be written to one file."""
    if out is not None and len(names) > 1:
        raise ConfigError("out=: fits one run; several runs are written to submissions/<run>.csv each")
    files = [Path(name).name for name in names]
    if repeated := next((file for file in files if files.count(file) > 1), None):
        raise ConfigError(
            f"experiment=: two of them are written to submissions/{repeated}.csv; predict one at a time, with out="
        )
