"""The commands for the task ``segment``: masks of classes."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    from ..tasks.segment import Segment

    return Segment


def _infer(names: list[str], pairs: dict[str, str]) -> list[Path]:
    from ..ensemble.options import InferOptions
    from ..ensemble.run import check_members, infer_run

    return infer_each(names, pairs, InferOptions, infer_run, check_members)


def _infer_options() -> "type[Strict]":
    from ..ensemble.options import InferOptions

    return InferOptions


def _export(name: str, options: "ExportOptions") -> Path:
    from ..predict.export import export_run

    return export_run(name, options)


def _infer_jobs(names: list[str], pairs: dict[str, str]) -> "list[Job]":
    from ..ensemble.options import InferOptions
    from ..ensemble.run import check_members
    from .infer_jobs import jobs_of_runs

    return jobs_of_runs(names, pairs, InferOptions, check_members, in_parts=True)


def _vote(pairs: dict[str, str]) -> Path:
    from ..config.words import typed
    from ..ensemble.options import EnsembleOptions
    from ..ensemble.run import vote

    return vote(typed(EnsembleOptions, pairs))


def _check(config: "Config") -> Any:
    from ..checks.run import check
    from ..config import SegmentData

    assert isinstance(config.data, SegmentData)  # of a recipe of this task
    return check(config.data, workers=config.workers, progress=config.progress)


def _score(
    file: Path, truth: Path | None, pairs: dict[str, str], partial: bool, sort: str | None
) -> tuple[str, dict[str, Any]]:
    from ..scoring.class_figures import check_sort, order_by
    from .scoring import score_file

    check_sort(sort or "name", ("dice", "present"))
    found = score_file(file, truth, pairs, partial=partial)
    order = None if sort is None else order_by(found.class_table.rows, sort, {"dice": found.per_class})
    return found.to_text(order=order), found.to_json()


def _compare(first: Path, second: Path, truth: Path | None, pairs: dict[str, str], partial: bool) -> Compared:
    from .scoring import compare_files

    found, scores = compare_files(first, second, truth, pairs, partial=partial)
    tables = (scores[0].class_table, scores[1].class_table) if scores else None
    return Compared(found.to_text(), found.to_json(), tables)


def _tune(pairs: dict[str, str]) -> str:
    from ..config.words import typed
    from ..ensemble.tune import TuneOptions, tune

    options = typed(TuneOptions, pairs)
    return f"{tune(options).to_text()}\n{options.out}"


def _eda(config: "Config", out: Path, csv: Path | None) -> str:
    from ..config import SegmentData
    from ..eda.report import explore

    assert isinstance(config.data, SegmentData)  # of a recipe of this task
    return explore(config.data, out, csv=csv, workers=config.workers, progress=config.progress)


def _review(name: str, options: "ReviewOptions") -> "Reviewed":
    from ..review.masks import review_masks

    return review_masks(name, options)


def _evaluate(name: str, options: "EvaluateOptions") -> "Evaluated":
    from ..review.evaluate_masks import evaluate_masks

    return evaluate_masks(name, options)


def _show(config: "Config") -> "Subject":
    from ..show.masks import MaskSubject

    return MaskSubject(config, _task())


def _scenes(config: "Config") -> "SceneSource":
    from ..config import SegmentConfig
    from ..review.source_masks import source_of_masks

    assert isinstance(config, SegmentConfig)  # of a recipe of this task
    return source_of_masks(config)


SEGMENT = TaskCommands(
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
