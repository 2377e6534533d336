"""The commands for the task ``classify``: labels of images."""

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
    from ..tasks.classify import Classify

    return Classify


def _infer(names: list[str], pairs: dict[str, str]) -> list[Path]:
    from ..ensemble.classify import InferLabels, infer_run

    return infer_each(names, pairs, InferLabels, infer_run)


def _infer_options() -> "type[Strict]":
    from ..ensemble.classify import InferLabels

    return InferLabels


def _export(name: str, options: "ExportOptions") -> Path:
    from ..predict.export_labels import export_run

    return export_run(name, options)


def _infer_jobs(names: list[str], pairs: dict[str, str]) -> "list[Job]":
    from ..ensemble.classify import InferLabels
    from .infer_jobs import jobs_of_runs

    return jobs_of_runs(names, pairs, InferLabels)


def _vote(pairs: dict[str, str]) -> Path:
    from ..config.words import typed
    from ..ensemble.classify import VoteLabels, vote

    return vote(typed(VoteLabels, pairs))


def _check(config: "Config") -> Any:
    from ..checks.labels import check
    from ..config import ClassifyData

    assert isinstance(config.data, ClassifyData)  # of a recipe of this task
    return check(config.data, workers=config.workers, progress=config.progress)


def _score(
    file: Path, truth: Path | None, pairs: dict[str, str], partial: bool, sort: str | None
) -> tuple[str, dict[str, Any]]:
    from ..scoring.class_figures import check_sort, order_by
    from ..scoring.classify import PER_CLASS
    from ..scoring.classify_report import class_table, score_json, score_text
    from .scoring_labels import score_labels

    check_sort(sort or "name", PER_CLASS)
    found = score_labels(file, truth, pairs, partial=partial)
    shown = [name for name in ("accuracy", "macro_auc", "macro_f1") if name in found.metrics]
    own = {name: found.per_class(name) for name in PER_CLASS}
    order = None if sort is None else order_by(class_table(found).rows, sort, own)
    return score_text(found, shown, order=order), score_json(found, shown)


def _compare(first: Path, second: Path, truth: Path | None, pairs: dict[str, str], partial: bool) -> Compared:
    from ..ensemble.classify_oof import scored_out_of_fold
    from ..scoring.classify_compare import compare_classes
    from ..scoring.classify_report import class_table
    from .scoring_labels import score_labels

    if first.is_dir() and second.is_dir():
        if truth is not None or pairs:
            raise ConfigError("two runs are compared by their out-of-fold predictions, without labels or options")
        one, other = scored_out_of_fold(first), scored_out_of_fold(second)
    else:
        one, other = (score_labels(file, truth, pairs, partial=partial) for file in (first, second))
    found = [compare_classes(one, other, name) for name in ("accuracy", "macro_auc", "macro_f1")]
    tables = None if first.is_dir() and second.is_dir() else (class_table(one), class_table(other))
    return Compared(
        "\n".join(each.to_text() for each in found), {each.metric: each.to_json() for each in found}, tables
    )


def _tune(pairs: dict[str, str]) -> str:
    raise ConfigError(
        f"members={pairs['members']}: is of task=classify, whose thresholds and temperature phalanx calibrate fits"
    )


def _eda(config: "Config", out: Path, csv: Path | None) -> str:
    from ..config import ClassifyData
    from ..eda.labels import explore

    assert isinstance(config.data, ClassifyData)  # of a recipe of this task
    if csv is not None:
        raise ConfigError(f"csv={csv}: only for task=segment, whose masks show the rotation; leave it out")
    return explore(config.data, out, folds=config.folds, workers=config.workers, progress=config.progress)


def _review(name: str, options: "ReviewOptions") -> "Reviewed":
    raise ConfigError(
        f"{name}: is a run of task=classify, which has no masks or boxes; phalanx suspects ranks its labels, and "
        "phalanx cam shows where it looks"
    )


def _evaluate(name: str, options: "EvaluateOptions") -> "Evaluated":
    from ..review.evaluate_labels import evaluate_labels

    return evaluate_labels(name, options)


def _show(config: "Config") -> "Subject":
    from ..show.labels import LabelSubject

    return LabelSubject(config, _task())


def _scenes(config: "Config") -> "SceneSource":
    from ..config import ClassifyConfig
    from ..review.source_labels import source_of_labels

    assert isinstance(config, ClassifyConfig)  # of a recipe of this task
    return source_of_labels(config)


CLASSIFY = TaskCommands(
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
