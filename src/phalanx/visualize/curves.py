"""Pictures of the curves of one training, or of several over each other, drawn without a display."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from ..tracking.curves import FINAL, HELD_OUT, MONITORED, Curves
from .figures import fitted, plain, save, titled
from .png import refuse_others

# colour, line and marker: lines differ without colours, too
COLOURS = ("#4477aa", "#cc6677", "#228833", "#aa3377", "#9a6a00", "#222222", "#1b7f8a", "#7a4fbf")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "x", "P", "*")
GREY, LIGHT = "#6b6b6b", "#c4c4c4"
FEW = 8  # classes that each get a line; of more, the worst do, and a heat map has all
WORST = 5
WIDE = 40.0  # ratio of the largest and the smallest loss from which on its axis is logarithmic
Points = Sequence[tuple[float, float]]


class Named(NamedTuple):
    """A run by its name, with the curves of its folds."""

    name: str
    folds: Sequence[Curves]


def draw_run(curves: Curves, title: str, path: Path) -> None:
    """Writes the picture of a fold's training: loss and its terms, metric, learning rate, groups of images, classes.

    Raises:
        OutputError: the file is a link or a folder.
    """
    panels = [_loss, _metric, _rate, *([_groups] if curves.by_group() else [])]
    classes = next(iter(curves.by_class().items()), None)
    if classes is not None and len(classes[1]) > 1:
        panels.append(_classes)
    mapped = classes is not None and len(classes[1]) > FEW
    rows = -(-len(panels) // 2)
    tall = 0.19 * len(classes[1]) + 1.0 if mapped and classes is not None else 0
    figure = Figure(figsize=(11, 3.1 * rows + tall), dpi=100, layout="constrained")
    grid = figure.add_gridspec(rows + mapped, 2, height_ratios=[*[3.1] * rows, *([tall] if mapped else [])])
    for number, draw in enumerate(panels):
        last = number == len(panels) - 1 and number % 2 == 0
        axes = figure.add_subplot(grid[number // 2, :] if last else grid[number // 2, number % 2])
        draw(axes, curves)
        _finish(axes, curves)
    if mapped and classes is not None:
        _heat_map(figure.add_subplot(grid[rows, :]), curves, *classes)
    figure.suptitle(fitted(title, figure, 11), x=0.01, ha="left", fontsize=11)
    save(figure, path, replace=True)


def draw_overlay(runs: Sequence[Named], path: Path, classes: Sequence[str] = ()) -> None:
    """Writes a picture of several runs over each other: held-out metric, metric of training, loss, learning rate.

    The line of a run is the mean over its folds, at the epochs that all have; each fold is a thin line.

    Args:
        classes: held-out figures of these are drawn, too.

    Raises:
        OutputError: the file exists and was not written by this program.
    """
    refuse_others(path)
    metric = next((one.metric for run in runs for one in run.folds if one.metric), None)
    name = metric.name if metric else "metric"
    panels: list[tuple[str, Callable[[Curves], Points]]] = [
        (f"held-out {name}", lambda one: one.points(f"{HELD_OUT}{name}")),
        (f"{name} of training steps", lambda one: one.points(one.trained_by or "")),
        ("loss of training steps", lambda one: one.points("loss")),
        ("learning rate", lambda one: one.points("lr")),
    ]
    figures = [key for run in runs for one in run.folds for key in one.by_class()]
    for label in classes:
        panels.append((f"held-out {figures[0]} of {label}", partial(_class_points, label=label)))
    rows = -(-len(panels) // 2)
    figure = Figure(figsize=(11, 3.3 * rows + 0.3 * len(runs)), dpi=100, layout="constrained")
    for number, (title, points) in enumerate(panels):
        axes = figure.add_subplot(rows, 2, number + 1)
        for order, run in enumerate(runs):
            _overlay(axes, run, points, order)
        titled(axes, title)
        _finish(axes, runs[0].folds[0], changes=False)
        if not axes.lines:
            axes.text(0.5, 0.5, "not in the logs", transform=axes.transAxes, ha="center", color=GREY)
    named = {label: line for axes in figure.axes for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(named.values(), named.keys(), frameon=False, loc="outside lower left", ncols=2, fontsize=9)
    save(figure, path)


def class_names(runs: Sequence[Named]) -> list[str]:
    """Classes whose figures the logs have, in their order."""
    found = [name for run in runs for one in run.folds for names in one.by_class().values() for name in names]
    return list(dict.fromkeys(found))


def _class_points(curves: Curves, label: str) -> Points:
    """The first figure of a class."""
    key = next((names[label] for names in curves.by_class().values() if label in names), "")
    return curves.points(key)


def _overlay(axes: Axes, run: Named, points: Callable[[Curves], Points], order: int) -> None:
    colour, dash, marker = (options[order % len(options)] for options in (COLOURS, DASHES, MARKERS))
    folds = [dict(found) for one in run.folds if (found := points(one))]
    if not folds:
        return
    for fold in folds if len(folds) > 1 else ():
        axes.plot(*zip(*sorted(fold.items()), strict=True), color=colour, linewidth=0.7, alpha=0.4)
    places = sorted(set(folds[0]).intersection(*folds[1:]))
    label = plain(run.name if len(folds) == 1 else f"{run.name}, mean of {len(folds)} folds")
    axes.plot(
        places, [np.mean([fold[place] for fold in folds]) for place in places], color=colour, linestyle=dash,
        marker=marker, markersize=4 if len(places) <= 40 else 0, linewidth=1.7, label=label,
    )  # fmt: skip


def _loss(axes: Axes, curves: Curves) -> None:
    """The loss and each of its terms, of training steps and of held-out images if they have one."""
    terms = [key for key in curves.keys if key.startswith("loss/")]
    keys = {"loss": "loss", **{key: key.removeprefix("loss/") for key in terms}}
    keys |= {f"{HELD_OUT}loss": "held-out loss"} if f"{HELD_OUT}loss" in curves.keys else {}
    _lines(axes, {label: curves.points(key) for key, label in keys.items()})
    values = [value for key in keys for _, value in curves.points(key)]
    if values and min(values) > 0 and max(values) / min(values) > WIDE:
        axes.set_yscale("log")
    titled(axes, "loss, and its terms unweighted")


def _metric(axes: Axes, curves: Curves) -> None:
    """The metric of training steps and of held-out images, its best value, and the one out of fold."""
    name = curves.metric.name if curves.metric else "metric"
    lines = {}
    if curves.trained_by:
        lines["training steps" if curves.trained_by == name else f"training steps ({curves.trained_by})"] = (
            curves.points(curves.trained_by)
        )
    held_out = curves.points(f"{HELD_OUT}{name}")
    lines |= {"held out": held_out, "monitored": curves.points(f"{MONITORED}{name}")}
    _lines(axes, lines)
    if held_out and curves.metric:
        place, value = max(held_out, key=lambda point: curves.metric.sign * point[1])  # type: ignore[union-attr]
        axes.plot([place], [value], marker="*", markersize=13, color="#222222", linestyle="none",
                  label=f"best held out: {curves.metric.text(value)}, epoch {place:g}")  # fmt: skip
    for _, value in curves.points(f"{FINAL}{name}")[-1:]:
        label = curves.metric.text(value) if curves.metric else f"{value:g}"
        axes.axhline(value, color="#222222", linewidth=1, linestyle=(0, (1, 2)), label=f"out of fold: {label}")
    titled(axes, name.replace("_", " "))


def _rate(axes: Axes, curves: Curves) -> None:
    """The learning rate as it was planned, and at the end of each epoch as it was."""
    if curves.plan:
        places = [curves.place(step) for step, _ in curves.plan]
        axes.plot(places, [rate for _, rate in curves.plan], color=GREY, linewidth=1.2, label="planned")
    found = curves.points("lr")
    if found:
        axes.plot(*zip(*found, strict=True), color=COLOURS[0], marker="o", markersize=3.5, linestyle="none",
                  label="at the end of each epoch")  # fmt: skip
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:.2g}"))
    axes.set_ylim(bottom=0)
    titled(axes, "learning rate")


def _groups(axes: Axes, curves: Curves) -> None:
    """A figure of images with something in common, such as rotated and upright hands."""
    figure, names = next(iter(curves.by_group().items()))
    _lines(axes, {name: curves.points(key) for name, key in names.items()})
    titled(axes, f"held-out {figure.replace('_', ' ')}: {' and '.join(names)}")


def _classes(axes: Axes, curves: Curves) -> None:
    """A figure by class: of a few classes each, of more the worst, and the others as thin lines."""
    figure, names = next(iter(curves.by_class().items()))
    points = {name: found for name, key in names.items() if (found := curves.points(key))}
    ordered = sorted(points, key=lambda name: points[name][-1][1])
    shown = list(points) if len(points) <= FEW else ordered[:WORST]
    for name in points if len(points) > FEW else ():
        if name not in shown:
            axes.plot(*zip(*points[name], strict=True), color=LIGHT, linewidth=0.8)
    _lines(axes, {name: points[name] for name in shown})
    what = "by class" if len(points) <= FEW else f"the {WORST} worst classes in the end; grey: the others"
    titled(axes, f"held-out {figure.replace('_', ' ')}, {what}")


def _heat_map(axes: Axes, curves: Curves, figure: str, names: Mapping[str, str]) -> None:
    """A figure of every class at every validation, with the last value as a number; the best class first."""
    points = {name: dict(found) for name, key in names.items() if (found := curves.points(key))}
    places = sorted({place for found in points.values() for place in found})
    ordered = sorted(points, key=lambda name: -points[name][max(points[name])])
    values = np.array([[points[name].get(place, np.nan) for place in places] for name in ordered])
    image = axes.imshow(values, aspect="auto", cmap="cividis", interpolation="nearest")
    axes.set_yticks(range(len(ordered)), [plain(name[:40]) for name in ordered], fontsize=7.5)
    step = max(1, len(places) // 20)
    axes.set_xticks(range(0, len(places), step), [f"{place:g}" for place in places[::step]], fontsize=8)
    for row, name in enumerate(ordered):
        last = points[name][max(points[name])]
        axes.annotate(f"{last:.4f}", (1, row), xycoords=("axes fraction", "data"), xytext=(5, 0),
                      textcoords="offset points", va="center", fontsize=7.5)  # fmt: skip
    axes.set_xlabel("epoch" if curves.steps_per_epoch else "step", fontsize=9)
    title = f"held-out {figure.replace('_', ' ')} of every class at each validation; at the right, the last value"
    titled(axes, title)
    bar = axes.figure.colorbar(image, ax=axes, location="bottom", pad=0.02, fraction=0.03, aspect=70)
    bar.ax.tick_params(labelsize=8)


def _lines(axes: Axes, lines: Mapping[str, Points]) -> None:
    """A line per label, if it has points."""
    drawn = {label: points for label, points in lines.items() if points}
    for number, (label, points) in enumerate(drawn.items()):
        colour, dash, marker = (options[number % len(options)] for options in (COLOURS, DASHES, MARKERS))
        axes.plot(
            *zip(*points, strict=True), color=colour, linestyle=dash, marker=marker, linewidth=1.6,
            markersize=4 if len(points) <= 40 else 0, label=plain(label[:40]),
        )  # fmt: skip


def _finish(axes: Axes, curves: Curves, *, changes: bool = True) -> None:
    """What all panels have: epochs below, what changed on the way, a legend beside the lines."""
    for place, text in curves.changes if changes else ():
        axes.axvline(place, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.annotate(text, (place, 0.03), xycoords=("data", "axes fraction"), xytext=(2, 0), rotation=90,
                      textcoords="offset points", fontsize=7, color=GREY)  # fmt: skip
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e2e2e2", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlim(left=0)
    axes.set_xlabel("epoch" if curves.steps_per_epoch else "step", fontsize=9)
    axes.tick_params(labelsize=8)
    if changes and axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=7.5, loc="best", framealpha=0.85, edgecolor="none", handlelength=2.6)
    elif changes:
        axes.text(0.5, 0.5, "nothing yet", transform=axes.transAxes, ha="center", color=GREY)
