"""Public scores against those out of fold, and the gap between them, by model."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .figures import plain, save, titled

STYLES = tuple(zip(
    ("#4477aa", "#cc6677", "#228833", "#aa3377", "#996600", "#222222", "#1f7a8c", "#6a3d9a"),
    ("o", "s", "^", "D", "v", "X", "P", "*"), strict=True,
))  # fmt: skip
NAMED = 12  # entries whose names are written beside their points


class GapPoint(NamedTuple):
    """An entry of the leaderboard; ``model`` is what colour and marker show."""

    name: str
    model: str
    oof: float
    public: float


def draw_gaps(points: Sequence[GapPoint], metric: str, title: str, out: Path) -> None:
    """Writes a PNG: public score against out-of-fold score with the line where they are equal, and the gap by model.

    Args:
        points: one or more.

    Raises:
        OutputError: the file exists and was not written by this program.
    """
    models = sorted({point.model for point in points})
    rows = max(3.2, 0.42 * len(models) + 1.6)
    figure = Figure(figsize=(11.5, max(5.0, rows)), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    styles = dict(zip(models, cycle(STYLES), strict=False))
    for model in models:
        own = [point for point in points if point.model == model]
        colour, marker = styles[model]
        left.scatter(
            [point.oof for point in own], [point.public for point in own], s=46, c=colour, marker=marker, alpha=0.85,
            linewidths=0, label=plain(f"{model} ({len(own)})"),
        )  # fmt: skip
    values = np.array([(point.oof, point.public) for point in points])
    low, high = float(values.min()), float(values.max())
    margin = 0.08 * (high - low) or 0.01
    ends = (low - margin, high + margin)
    left.plot(ends, ends, color="#666666", linewidth=1, linestyle="--", label="equal")
    left.set_xlim(*ends)
    left.set_ylim(*ends)
    left.set_aspect("equal")
    for point in _apart(points, ends):
        left.annotate(
            plain(point.name),
            (point.oof, point.public),
            textcoords="offset points",
            xytext=(-6, 4),
            ha="right",
            fontsize=7,
        )
    left.set_xlabel(plain(f"{metric} out of fold"))
    left.set_ylabel("public score")
    titled(left, title)
    figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=6)
    _draw_by_model(right, points, models, styles)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.set_axisbelow(True)
        axes.grid(color="#dddddd", linewidth=0.6)
    save(figure, out)


def _apart(points: Sequence[GapPoint], ends: tuple[float, float]) -> list[GapPoint]:
    """The points whose names can be written to their left: the best first, none over a point or another name."""
    span, boxes, found = ends[1] - ends[0], list[tuple[float, float, float, float]](), list[GapPoint]()
    places = [((one.oof - ends[0]) / span, (one.public - ends[0]) / span) for one in points]
    for rank in sorted(range(len(points)), key=lambda i: -points[i].public):
        x, y = places[rank]
        box = (x - 0.02 - 0.0135 * len(points[rank].name), y - 0.005, x - 0.01, y + 0.035)
        free = box[0] > 0 and not any(
            box[0] < px + 0.015 and px - 0.015 < box[2] and box[1] < py + 0.015 and py - 0.015 < box[3]
            for other, (px, py) in enumerate(places)
            if other != rank
        )
        if free and not any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in boxes):
            boxes.append(box)
            found.append(points[rank])
        if len(found) == NAMED:
            break
    return found


def _draw_by_model(
    axes: Axes, points: Sequence[GapPoint], models: Sequence[str], styles: Mapping[str, tuple[str, str]]
) -> None:
    """The gap of each entry in the row of its model, with the mean of several."""
    axes.axvline(0, color="#666666", linewidth=1, linestyle="--")
    for row, model in enumerate(models):
        gaps = np.array([point.public - point.oof for point in points if point.model == model])
        colour, marker = styles[model]
        axes.scatter(gaps, np.full(len(gaps), row), s=46, c=colour, marker=marker, alpha=0.85, linewidths=0)
        if len(gaps) > 1:
            axes.plot([gaps.mean()] * 2, [row - 0.3, row + 0.3], color=colour, linewidth=2)
        axes.annotate(
            f"{gaps.mean():+.4f}", (1.01, row), xycoords=axes.get_yaxis_transform(), fontsize=8, va="center",
            annotation_clip=False,
        )  # fmt: skip
    axes.set_yticks(range(len(models)), [plain(model) for model in models])
    axes.set_ylim(len(models) - 0.4, -0.6)
    axes.margins(x=0.12)
    axes.set_xlabel("gap: public score less out of fold; bars and numbers are means")
    axes.set_title("Gap by model", loc="left", fontsize=10)
