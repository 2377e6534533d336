"""Evaluations by the names that commands are given: a run, a vote, or a CSV with its ground truth."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..review.evaluate_options import EvaluateOptions
    from ..review.evaluated import Evaluated


def evaluation_of(
    name: str, task: str, options: "EvaluateOptions", truth: Path | None = None, images: Path | None = None
) -> "Evaluated":
    """The evaluation of a run by its name or folder, of a vote out of fold, or of a CSV by a ground truth.

    Args:
        truth: of the images of a CSV; without it the CSV is a vote of runs.
        images: folder of the images of a CSV.

    Raises:
        ConfigError: no such run, or a CSV that is no vote and has no ground truth.
        DataError: files that cannot be read or do not fit.
    """
    from ..runtime.sidecar import is_csv
    from .tasks import TASKS

    if not is_csv(name):
        return TASKS[task].evaluate(name, options)
    if truth is not None:
        from ..review.csvs import evaluate_csv

        return evaluate_csv(Path(name), truth, images, options)
    from ..review.votes import evaluate_vote

    return evaluate_vote(Path(name), options)
