"""Plots of a review by class: false positives and negatives of several models, score against size, confusions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from .figures import plain, save, titled
from .palette import colours

FALSE, MISSED = "#b8860b", "#2f6fd0"
HATCHES = ("", "///", "...", "xx", "---", "\\\\\\", "oo", "++", "|||", "**")  # of models, as colours are of errors
MARKERS = "os^Dv<>pP*X"
CELLS = 14  # classes up to which a confusion has its numbers


class Errors(NamedTuple):
    """Of a model: parts of the ground truth by class float64[C], NaN if it has none."""

    name: str
    false: np.ndarray
    missed: np.ndarray


def draw_balance(classes: Sequence[str], models: Sequence[Errors], unit: str, title: str, out: Path) -> None:
    """Writes a PNG: to the right what each class has too much (false positives), to the left what it lacks.

    Args:
        classes: from the top.
        unit: of what is counted.

    Raises:
        OutputError: the file exists and was not written by this program.
    """
    figure = Figure(figsize=(9, 1.6 + max(3.0, 0.2 * len(classes) * (1 + 0.6 * len(models)))), dpi=110)
    figure.set_layout_engine("constrained")
    axes, high = figure.subplots(), 0.8 / len(models)
    for k, model in enumerate(models):
        at = np.arange(len(classes)) + (k - (len(models) - 1) / 2) * high
        hatch = HATCHES[k % len(HATCHES)]
        style: dict[str, Any] = {"height": 0.9 * high, "hatch": hatch, "edgecolor": "white", "linewidth": 0.4}
        axes.barh(
            at, 100 * np.nan_to_num(model.false), color=FALSE, label=f"{plain(model.name)}: false positives", **style
        )
        axes.barh(
            at, -100 * np.nan_to_num(model.missed), color=MISSED, label=f"{plain(model.name)}: false negatives", **style
        )
        for place, net in zip(at, 100 * (model.false - model.missed), strict=True):
            if np.isfinite(net):
                axes.annotate(f"{net:+.1f}", (1, place), xycoords=("axes fraction", "data"), xytext=(4, 0),
                              textcoords="offset points", fontsize=min(8, 6 + 6 * high), va="center")  # fmt: skip
    axes.axvline(0, color="#222222", linewidth=1)
    axes.set_yticks(range(len(classes)), [plain(name) for name in classes], fontsize=8)
    axes.set_ylim(len(classes) - 0.5, -0.5)
    axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    axes.set_xlabel(f"% of the {unit} in the ground truth: under-predicted < 0 > over-predicted; at the right: the net")
    titled(axes, title, size=11)
    figure.legend(loc="outside lower center", fontsize=8, ncols=2, frameon=False)
    save(figure, out)


def draw_sizes(
    classes: Sequence[str], sizes: np.ndarray, values: np.ndarray, what: str, size: str, title: str, out: Path
) -> None:
    """Writes a PNG: a figure of each image and class against the size in the ground truth, and each class's median.

    Args:
        sizes, values: float64[I, C]; what is 0 or NaN is left out.
        what, size: of the axes.

    Raises:
        OutputError: the file exists and was not written by this program.
    """
    figure = Figure(figsize=(9.5, 6), dpi=110)
    figure.set_layout_engine("constrained")
    axes, hues = figure.subplots(), np.array(colours(len(classes))) / 255
    for c, name in enumerate(classes):
        there = (sizes[:, c] > 0) & np.isfinite(values[:, c])
        if not there.any():
            continue
        marker = MARKERS[c % len(MARKERS)]
        axes.scatter(sizes[there, c], values[there, c], s=14, color=hues[c], marker=marker, alpha=0.6, linewidths=0)
        axes.scatter(np.median(sizes[there, c]), np.median(values[there, c]), s=80, color=hues[c], marker=marker,
                     edgecolors="#111111", linewidths=1, label=f"{c + 1} {plain(name)}", zorder=3)  # fmt: skip
        axes.annotate(str(c + 1), (np.median(sizes[there, c]), np.median(values[there, c])), xytext=(6, 4),
                      textcoords="offset points", fontsize=7, zorder=4)  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel(f"{size} (logarithmic); large marks: medians of the classes")
    axes.set_ylabel(what)
    axes.set_ylim(-0.03, 1.03)
    axes.grid(color="#dddddd", linewidth=0.6)
    titled(axes, title, size=11)
    figure.legend(loc="outside right upper", fontsize=7, ncols=1 + len(classes) // 40, frameon=False)
    save(figure, out)


def draw_confusion(names: Sequence[str], columns: Sequence[str], counts: np.ndarray, title: str, out: Path) -> None:
    """Writes a PNG of a confusion matrix int64[R, K]: rows are true, columns predicted; shades by row.

    Raises:
        OutputError: the file exists and was not written by this program.
    """
    side = max(4.2, 0.55 * len(columns) + 2.4)
    figure = Figure(figsize=(side + 0.8, max(3.4, 0.5 * len(names) + 2.2)), dpi=110)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    parts = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(parts, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    if len(columns) <= CELLS:
        for i, row in enumerate(counts.tolist()):
            for j, count in enumerate(row):
                shade = "white" if parts[i, j] > 0.55 else "#222222"
                axes.text(j, i, f"{count:g}", ha="center", va="center", fontsize=9, color=shade)
    axes.set_xticks(range(len(columns)), [plain(name) for name in columns], rotation=40, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), [plain(name) for name in names], fontsize=8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("ground truth")
    titled(axes, title, size=11)
    save(figure, out)
