"""The page of one run, or of several beside each other."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from ..errors import ConfigError
from ..review.evaluated import Evaluated
from . import galleries, origin, results, trainings
from .document import Page
from .options import ReportOptions
from .write import write_page

NAME = "report.html"  # in a run's folder


def check_alike(evaluations: Sequence[Evaluated]) -> None:
    """Raises ConfigError for evaluations that cannot be beside each other: another task or metric, a name twice."""
    first, names = evaluations[0], [one.name for one in evaluations]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"{twice}: given twice; each run has a name of its own on the page")
    for one in evaluations[1:]:
        if one.task != first.task:
            raise ConfigError(
                f"{one.name}: is of task={one.task}, {first.name} of task={first.task}; report them apart"
            )
        if one.metric.name != first.metric.name:
            raise ConfigError(
                f"{one.name}: is ranked by {one.metric.name}, {first.name} by {first.metric.name}; report them apart"
            )


def make_page(evaluations: Sequence[Evaluated], options: ReportOptions) -> Page:
    """The page of evaluations of one task and metric, the first of which the others are compared with."""
    check_alike(evaluations)
    first = evaluations[0]
    sections = [
        results.summary(evaluations),
        results.side_by_side(evaluations),
        results.classes(evaluations),
        *galleries.galleries(evaluations, options),
        results.groups(evaluations),
        results.charts(evaluations),
        trainings.trainings(evaluations),
        trainings.resources(evaluations),
        origin.configuration(evaluations),
        origin.origin(evaluations),
    ]
    names = ", ".join(one.name for one in evaluations)
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    about = f"{first.task}, data set {first.config.data.name}, {len(first.images)} images out of fold; made {made}"
    if all(image.fold is None for image in first.images):
        about = about.replace(" out of fold", "")
    return Page("report", names, about, tuple(section for section in sections if section is not None))


def write_report_page(evaluations: Sequence[Evaluated], path: Path, options: ReportOptions) -> str:
    """Writes the page; returns the line for the terminal."""
    write_page(path, make_page(evaluations, options))
    return f"{path}: {path.stat().st_size / 1e6:.1f} MB; open it in a browser"
