"""Reliability diagrams: predicted probabilities against the frequencies with which they came true."""

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from ..scoring.reliability import Reliability
from .figures import plain, save, titled

COLOURS = ("#4477aa", "#cc6677", "#228833", "#aa3377")
MARKS = ("o", "s", "^", "D")


def draw_reliability(tables: Mapping[str, Reliability], out: Path, title: str = "") -> None:
    """Writes a PNG with the diagram of one or more tables, as before and after a calibration, and their histograms.

    A point is a bin; on the diagonal, probabilities are what they say. Bars are 95% intervals of a fraction, as if all
    predictions were independent: those of bins with few are long.

    Args:
        tables: by name.

    Raises:
        OutputError: the file exists and was not written by this program.
    """
    figure = Figure(figsize=(5.4, 7.0), dpi=110, layout="constrained")
    axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3.4, 1))
    axes.plot([0, 1], [0, 1], color="#777777", linewidth=1, linestyle="--")
    for (name, table), colour, mark in zip(tables.items(), cycle(COLOURS), cycle(MARKS), strict=False):
        _curve(axes, table, plain(f"{name}: ECE {table.error:.4f}"), colour, mark)
        _histogram(counts, table, colour)
    titled(axes, title)
    axes.set_ylabel("fraction that came true")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.legend(frameon=False, loc="upper left", fontsize=9)
    counts.set_xlabel("predicted probability")
    counts.set_ylabel("predictions")
    counts.set_yscale("symlog", linthresh=1)
    counts.set_ylim(bottom=0)
    counts.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    for one in (axes, counts):
        one.spines[["top", "right"]].set_visible(False)
    save(figure, out)


def _curve(axes: Axes, table: Reliability, label: str, colour: str, mark: str) -> None:
    low, high = wilson(table)
    bars = [table.frequency - low, high - table.frequency]
    axes.errorbar(
        table.confidence, table.frequency, yerr=bars, color=colour, marker=mark, markersize=4.5, linewidth=1.2,
        elinewidth=0.8, label=label,
    )  # fmt: skip


def wilson(table: Reliability) -> tuple[np.ndarray, np.ndarray]:
    """Ends float64[K] of the 95% intervals of the bins' frequencies (Wilson, 1927)."""
    n, p, z2 = table.predictions, table.frequency, 1.959964**2
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * p * (1 - p) / n + z2**2 / (4 * n**2)) / (1 + z2 / n)
    return np.minimum(middle - half, p), np.maximum(middle + half, p)  # rounding may cross an end at 0 or 1


def _histogram(axes: Axes, table: Reliability, colour: str) -> None:
    widths = table.high - table.low
    axes.bar(
        table.low, table.predictions, width=widths, align="edge", facecolor="none", edgecolor=colour, linewidth=1.2
    )
