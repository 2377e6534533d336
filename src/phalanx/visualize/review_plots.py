"""Plots of a failure review: a measure of objects by their class, and F1 over the iterations of several runs."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from .figures import save, titled

GREY = "#777777"
# by class as it is annotated: colour, marker
STYLES = (("#4477aa", "o"), ("#cc6611", "^"))
LINES = tuple(zip(
    ("#4477aa", "#cc6677", "#228833", "#aa3377", "#bb8800", "#222222"), ("o", "s", "^", "D", "v", "x"),
    ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1))), strict=True,
))  # fmt: skip
NAMED = 8  # suspects whose names are in a plot


class Points(NamedTuple):
    """A measure of objects.

    Attributes:
        values: float64[N]; NaN where it is not known.
        diseased: bool[N], as annotated.
        names: of the images; of the suspects, the first few are written beside their points.
        suspects: numbers of the objects whose class is in doubt, the most doubtful first.
    """

    values: np.ndarray
    diseased: np.ndarray
    names: Sequence[str]
    suspects: Sequence[int]


def draw_by_class(
    points: Points, classes: tuple[str, str], what: str, title: str, out: Path, *, log: bool = False
) -> None:
    """Writes a PNG: a measure of each object against its annotated class, suspects circled.

    Args:
        classes: names of the normal and the diseased one.
        what: of the axis.

    Raises:
        OutputError: the file exists and was not written by this program.
    """
    figure = Figure(figsize=(8.4, 4.4), dpi=110, layout="constrained")
    axes = figure.subplots()
    height = np.where(points.diseased, 1.0, 0.0) + np.random.default_rng(0).uniform(-0.28, 0.28, len(points.values))
    known = np.isfinite(points.values)
    for own, (colour, marker) in enumerate(STYLES):
        here = known & (points.diseased == bool(own))
        label = f"annotated {classes[own]} ({int(here.sum())} objects)"
        axes.scatter(
            points.values[here], height[here], s=22, c=colour, marker=marker, alpha=0.6, linewidths=0, label=label
        )
        if here.any():
            middle = float(np.median(points.values[here]))
            axes.plot([middle] * 2, [own - 0.36, own + 0.36], color=colour, linewidth=2)
    marked = [i for i in points.suspects if known[i]]
    if marked:
        axes.scatter(
            points.values[marked], height[marked], s=90, facecolors="none", edgecolors="black", linewidths=1.1,
            label="in doubt",
        )  # fmt: skip
    for rank, i in enumerate(marked[:NAMED]):
        axes.annotate(
            points.names[i], (points.values[i], height[i]), textcoords="offset points",
            xytext=(8, 6 if rank % 2 else -10), fontsize=7,
        )  # fmt: skip
    axes.set_yticks([0, 1], classes)
    axes.set_ylim(-0.6, 1.6)
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(what)
    titled(axes, f"{title}; bars are medians")
    figure.legend(frameon=False, loc="outside lower center", ncols=3, fontsize=9)
    _save(figure, axes, out)


class Curve(NamedTuple):
    """A figure over the steps of a run: of each fold, float64[K, 2] of step and value."""

    name: str
    folds: Sequence[np.ndarray]

    @property
    def mean(self) -> np.ndarray:
        """float64[K, 2]: the mean over the folds, at the steps that all have."""
        tables: list[Mapping[float, float]] = [dict(fold.tolist()) for fold in self.folds]
        steps = sorted(set(tables[0]).intersection(*tables[1:]))
        return np.array([[step, np.mean([table[step] for table in tables])] for step in steps]).reshape(-1, 2)


def draw_curves(curves: Sequence[Curve], what: str, title: str, out: Path) -> None:
    """Writes a PNG with a line per run: the mean over its folds, each fold a thin line.

    Raises:
        OutputError: the file exists and was not written by this program.
    """
    figure = Figure(figsize=(8.4, 4.6), dpi=110, layout="constrained")
    axes = figure.subplots()
    for curve, (colour, marker, style) in zip(curves, cycle(LINES), strict=False):
        for fold in curve.folds if len(curve.folds) > 1 else ():
            axes.plot(*fold.T, color=colour, linewidth=0.7, alpha=0.35)
        mean = curve.mean
        label = curve.name if len(curve.folds) == 1 else f"{curve.name}, mean of {len(curve.folds)} folds"
        axes.plot(*mean.T, color=colour, marker=marker, markersize=4.5, linestyle=style, linewidth=1.6, label=label)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlabel("iterations (optimizer steps)")
    axes.set_ylabel(what)
    axes.grid(color="#dddddd", linewidth=0.6)
    titled(axes, title)
    figure.legend(frameon=False, loc="outside lower center", ncols=2, fontsize=9)
    _save(figure, axes, out)


def _save(figure: Figure, axes: Axes, out: Path) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    save(figure, out)
