"""Charts of an evaluation as numbers: lines over an axis. What depends on the task is made beside its evaluation."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..scoring.reliability import Reliability

LINES = 6  # of classes in one chart: more would look alike


class Line(NamedTuple):
    """A line of a chart: x and y in order; a NaN interrupts it.

    Attributes:
        low, high: ends of an interval around each y, drawn as a band.
        steps: it is drawn with right angles.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    steps: bool = False


class Curves(NamedTuple):
    """A chart of lines.

    Attributes:
        square: both axes go from 0 to 1, with the diagonal.
        log: the y axis is logarithmic.
        note: what it shows, and what it leaves out.
        unit: both ends of the y axis if they are known, such as (0, 1).
    """

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    square: bool = False
    log: bool = False
    note: str = ""
    unit: tuple[float, float] | None = None


def chosen_classes(values: np.ndarray, defined: np.ndarray) -> tuple[list[int], str]:
    """Classes that get a line: all of few, else those with the lowest values; and a note about the others.

    Args:
        values: float[C], lower is worse.
        defined: bool[C]: classes that can have a line.
    """
    usable = [c for c in np.argsort(np.where(np.isnan(values), np.inf, values), kind="stable") if defined[c]]
    if len(usable) <= LINES:
        note = "" if len(usable) == len(values) else f"{len(values) - len(usable)} classes have no such line."
        return sorted(int(c) for c in usable), note
    chosen = [int(c) for c in usable[:LINES]]
    return chosen, f"The {LINES} worst of {len(values)} classes; the table of classes has all."


def calibration(table: Reliability, what: str) -> Curves:
    """The reliability diagram of a table of bins."""
    lines = [Line("bins", table.confidence.tolist(), table.frequency.tolist())]
    note = (
        f"{what}. On the dashed diagonal probabilities are frequencies; below it they are too high. Expected "
        f"calibration error {table.error:.4f}, largest error of a bin {table.largest_error:.4f}, "
        f"{int(table.predictions.sum())} predictions."
    )
    return Curves("Calibration", "predicted probability", "frequency of the class", lines, square=True, note=note)
