"""The commands for the task ``detect``: boxes of objects."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from .task_commands import Compared, TaskCommands, infer_each

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
    from ..show.subject import Subject


def _task() -> "type[Task]":
    from ..tasks.detect import Detect

    return Detect


def _infer(names: list[str], pairs: dict[str, str]) -> list[Path]:
    from ..ensemble.detect import InferBoxes, infer_run

    return infer_each(names, pairs, InferBoxes, infer_run)


def _infer_options() -> "type[Strict]":
    from ..ensemble.detect import InferBoxes

    return InferBoxes


def _export(name: str, options: "ExportOptions") -> Path:
    raise ConfigError(
        f"{name}: is a run of task=detect; the boxes that its network proposes and drops differ in number from "
        "image to image, which an export of a fixed graph does not compute. Predict with the run itself, or bundle it "
        "with format=torch"
    )


def _infer_jobs(names: list[str], pairs: dict[str, str]) -> "list[Job]":
    from ..ensemble.detect import InferBoxes
    from .infer_jobs import jobs_of_runs

    return jobs_of_runs(names, pairs, InferBoxes)


def _vote(pairs: dict[str, str]) -> Path:
    from ..config.words import typed
    from ..ensemble.boxes import FuseBoxes, fuse_csvs

    return fuse_csvs(typed(FuseBoxes, pairs))


def _check(config: "Config") -> Any:
    from ..checks.boxes import check
    from ..config import DetectData

    assert isinstance(config.data, DetectData)  # of a recipe of this task
    return check(config.data, workers=config.workers, progress=config.progress)


def _score(
    file: Path, truth: Path | None, pairs: dict[str, str], partial: bool, sort: str | None
) -> tuple[str, dict[str, Any]]:
    from ..scoring.boxes_report import class_table, score_json, score_text
    from ..scoring.class_figures import check_sort, order_by
    from .scoring_boxes import score_csv

    check_sort(sort or "name", ("map", "map50", "map75", "f1"))
    found = score_csv(file, truth, pairs, partial=partial)
    own = {name: values[1:] for name, values in found.boxes.figures.items()}
    order = None if sort is None else order_by(class_table(found.boxes).rows, sort, own)
    return score_text(*found, order=order), score_json(*found)


def _compare(first: Path, second: Path, truth: Path | None, pairs: dict[str, str], partial: bool) -> Compared:
    from ..scoring.boxes_report import class_table
    from .scoring_boxes import compare_csvs

    found, scores = compare_csvs(first, second, truth, pairs, partial=partial)
    tables = (class_table(scores[0].boxes), class_table(scores[1].boxes)) if scores else None
    return Compared(
        "\n".join(each.to_text() for each in found), {each.metric: each.to_json() for each in found}, tables
    )


def _tune(pairs: dict[str, str]) -> str:
    from ..config.words import typed
    from ..ensemble.box_thresholds import TuneBoxes, tune_boxes

    chosen, out = tune_boxes(typed(TuneBoxes, pairs))
    return f"{chosen.to_text()}\n{out}"


def _eda(config: "Config", out: Path, csv: Path | None) -> str:
    from ..config import DetectConfig
    from ..eda.boxes import explore

    assert isinstance(config, DetectConfig)  # of a recipe of this task
    if csv is not None:
        raise ConfigError(f"csv={csv}: only for task=segment, whose masks show the rotation; leave it out")
    return explore(config, out)


def _review(name: str, options: "ReviewOptions") -> "Reviewed":
    from ..review.boxes import review_boxes

    return review_boxes(name, options)


def _evaluate(name: str, options: "EvaluateOptions") -> "Evaluated":
    from ..review.evaluate_boxes import evaluate_boxes

    return evaluate_boxes(name, options)


def _show(config: "Config") -> "Subject":
    from ..show.objects import BoxSubject

    return BoxSubject(config, _task())


def _scenes(config: "Config") -> "SceneSource":
    from ..config import DetectConfig
    from ..review.source_boxes import source_of_boxes

    assert isinstance(config, DetectConfig)  # of a recipe of this task
    return source_of_boxes(config)


DETECT = TaskCommands(
    task=_task,
    infer=_infer,
    infer_jobs=_infer_jobs,
    infer_options=_infer_options,
    export=_export,
    vote=_vote,
    check=_check,
    score=_score,
    compare=_compare,
    tune=_tune,
    eda=_eda,
    review=_review,
    evaluate=_evaluate,
    show=_show,
    scenes=_scenes,
)
