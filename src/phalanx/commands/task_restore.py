"""The commands for the task ``restore``: restored images, of sets with labels."""

from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from .task_classify import CLASSIFY
from .task_commands import TaskCommands

if TYPE_CHECKING:
    from ..config import Config
    from ..engine.task import Task
    from ..review.evaluate_options import EvaluateOptions
    from ..review.options import ReviewOptions
    from ..show.subject import Subject


def _task() -> "type[Task]":
    from ..tasks.restore import Restore

    return Restore


def _none(*words: Any) -> Any:
    raise ConfigError(
        "a run of task=restore restores images with phalanx restore RUN out=DIR; it predicts no labels to vote or score"
    )


def _review(name: str, options: "ReviewOptions | EvaluateOptions") -> Any:
    raise ConfigError(f"{name}: is a run of task=restore, which has no classes to review")


def _show(config: "Config") -> "Subject":
    from ..show.labels import NoiseSubject

    return NoiseSubject(config, _task())


def _scenes(config: Any) -> Any:
    raise ConfigError(f"task={config.task}: a denoiser has no classes to show")


RESTORE = TaskCommands(
    task=_task,
    infer=_none,
    infer_jobs=_none,
    infer_options=_none,
    export=_none,
    vote=_none,
    check=CLASSIFY.check,
    score=_none,
    compare=_none,
    tune=_none,
    eda=CLASSIFY.eda,
    review=_review,
    evaluate=_review,
    show=_show,
    has_pages=False,
    scenes=_scenes,
)
