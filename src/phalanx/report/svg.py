"""Line charts and interval plots as inline SVG, whose colours follow the page's theme.

Lines differ in dash and marker as well as in colour. Everything that comes from the user is escaped.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from ..review.charts import Curves, Line

WIDTH, HEIGHT = 480, 300  # of a chart's own coordinates
LEFT, RIGHT, TOP, BOTTOM = 74, 14, 12, 46  # of the axes within
DASHES = ("", "7 4", "2 3", "9 3 2 3", "12 4", "4 2 1 2", "1 4", "14 3 3 3")
STYLES = len(DASHES)
MAX_MARKERS = 40  # points of a line that are marked
MAX_POINTS = 400  # of a line; more are thinned out


class Chart(NamedTuple):
    """A chart of lines to draw."""

    curves: Curves

    @property
    def title(self) -> str:
        """Of the chart."""
        return self.curves.title

    @property
    def note(self) -> str:
        """Below the chart."""
        return self.curves.note

    def svg(self) -> Markup:
        """The drawing."""
        return _drawn(self.curves)

    def legend(self) -> list[tuple[str, Markup]]:
        """Names of the lines with a sample of each; empty for a single line."""
        if len(self.curves.lines) < 2:
            return []
        return [(line.name, _sample(k)) for k, line in enumerate(self.curves.lines)]


class Estimate(NamedTuple):
    """A value with its 95% interval, which may be missing."""

    name: str
    value: float
    low: float
    high: float


class Forest(NamedTuple):
    """Estimates below each other, as points with whiskers. ``zero``: a line that they are compared with."""

    title: str
    x_label: str
    estimates: Sequence[Estimate]
    zero: float | None = None
    note: str = ""
    decimals: int = 4

    def svg(self) -> Markup:
        """The drawing."""
        return _forest(self)

    def legend(self) -> list[tuple[str, Markup]]:
        """There is none: each line has its name."""
        return []


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers from ``low`` to ``high``, about as many as wanted.

    >>> nice_ticks(0, 1)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if not high > low:
        return [low]
    rough = (high - low) / count
    scale = 10.0 ** math.floor(math.log10(rough))
    step = scale * next(factor for factor in (1, 2, 5, 10) if factor * scale >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def tick_text(value: float) -> str:
    """A tick's number, short.

    >>> tick_text(0.2), tick_text(2e-05), tick_text(12000)
    ('0.2', '2e-5', '12000')
    """
    if value and (abs(value) < 1e-3 or abs(value) >= 1e6):
        return f"{value:.2g}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.6g}"


class _Frame(NamedTuple):
    """Ends of the axes."""

    x: tuple[float, float]
    y: tuple[float, float]
    log: bool
    height: float = HEIGHT

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Coordinates of a point."""
        across = (x - self.x[0]) / ((self.x[1] - self.x[0]) or 1)
        first, last, own = (math.log10(v) if self.log else v for v in (*self.y, y))
        up = (own - first) / ((last - first) or 1)
        return LEFT + across * (WIDTH - LEFT - RIGHT), self.height - BOTTOM - up * (self.height - TOP - BOTTOM)


def _frame(chart: Curves) -> _Frame:
    if chart.square:
        return _Frame((0, 1), (0, 1), False)
    xs = [x for line in chart.lines for x in line.x if math.isfinite(x)]
    ys = [y for line in chart.lines for y in (*line.y, *line.low, *line.high) if math.isfinite(y)]
    if chart.log:
        ys = [y for y in ys if y > 0]
    x = (min(xs, default=0.0), max(xs, default=1.0))
    y = chart.unit or (min(ys, default=0.0), max(ys, default=1.0))
    if x[0] == x[1]:
        x = (x[0] - 0.5, x[1] + 0.5)
    if y[0] == y[1]:
        pad = abs(y[0]) * 0.1 or 0.5
        low = max(0.0, y[0] - pad) if y[0] >= 0 else y[0] - pad
        y = (y[0] / 2, y[1] * 2) if chart.log else (low, y[1] + pad)
    elif chart.unit is None:
        pad = (y[1] - y[0]) * 0.05
        y = (y[0] / 1.1, y[1] * 1.1) if chart.log else (y[0] - pad if y[0] < 0 or y[0] > pad else 0.0, y[1] + pad)
    return _Frame(x, y, chart.log)


def _y_ticks(frame: _Frame) -> list[float]:
    if not frame.log:
        return nice_ticks(*frame.y)
    low, high = (math.floor(math.log10(frame.y[0])), math.ceil(math.log10(frame.y[1])))
    each = (1,) if high - low > 3 else (1, 2, 5)
    found = [m * 10.0**k for k in range(low, high + 1) for m in each]
    return [value for value in found if frame.y[0] <= value <= frame.y[1]]


def _axes(frame: _Frame, x_label: str, y_label: str) -> list[Markup]:
    parts = []
    for value in _y_ticks(frame):
        _, y = frame.place(frame.x[0], value)
        parts.append(Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
            LEFT, WIDTH - RIGHT, y, y))  # fmt: skip
        parts.append(Markup('<text class="tick" text-anchor="end" x="{}" y="{:.1f}">{}</text>').format(
            LEFT - 6, y + 4, tick_text(value)))  # fmt: skip
    for value in nice_ticks(*frame.x, 6):
        x, _ = frame.place(value, frame.y[0])
        parts.append(Markup('<line class="axis" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>').format(
            x, x, frame.height - BOTTOM, frame.height - BOTTOM + 4))  # fmt: skip
        parts.append(Markup('<text class="tick" text-anchor="middle" x="{:.1f}" y="{}">{}</text>').format(
            x, frame.height - BOTTOM + 17, tick_text(value)))  # fmt: skip
    parts.append(Markup('<path class="axis" d="M{},{}V{}H{}"/>').format(
        LEFT, TOP, frame.height - BOTTOM, WIDTH - RIGHT))  # fmt: skip
    parts.append(Markup('<text class="label" text-anchor="middle" x="{}" y="{}">{}</text>').format(
        (LEFT + WIDTH - RIGHT) / 2, frame.height - 8, x_label))  # fmt: skip
    if y_label:
        middle = (TOP + frame.height - BOTTOM) / 2
        parts.append(Markup('<text class="label" text-anchor="middle" transform="rotate(-90 13 {0})" x="13" '
                            'y="{0}">{1}</text>').format(middle, y_label))  # fmt: skip
    return parts


def thinned(points: Sequence[tuple[float, ...]], most: int = MAX_POINTS) -> list[tuple[float, ...]]:
    """At most about so many of the points, evenly chosen, with the first and the last."""
    if len(points) <= most:
        return list(points)
    each = (len(points) - 1) / (most - 1)
    return [points[round(k * each)] for k in range(most)]


def _drawn(chart: Curves) -> Markup:
    frame = _frame(chart)
    parts = _axes(frame, chart.x_label, chart.y_label)
    if chart.square:
        parts.append(Markup('<line class="axis" stroke-dasharray="3 4" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
            *(round(v, 1) for end in (0, 1) for v in frame.place(end, end))))  # fmt: skip
    for k, line in enumerate(chart.lines):
        parts += _line(frame, k, line)
    about = f"{chart.title}. {chart.y_label} over {chart.x_label}: {', '.join(line.name for line in chart.lines)}"
    return _whole(parts, about, HEIGHT)


def _line(frame: _Frame, k: int, line: Line) -> list[Markup]:
    usable = [
        (x, y) for x, y in zip(line.x, line.y, strict=True)
        if math.isfinite(x) and (not math.isfinite(y) or not frame.log or y > 0)
    ]  # fmt: skip
    points = thinned(usable)
    parts = []
    if len(line.low):
        band = [
            (x, a, b) for x, a, b in zip(line.x, line.low, line.high, strict=True)
            if all(map(math.isfinite, (x, a, b))) and (not frame.log or a > 0)
        ]  # fmt: skip
        band = [(x, a, b) for x, a, b in thinned(band)]
        ring = [frame.place(x, a) for x, a, _ in band] + [frame.place(x, b) for x, _, b in reversed(band)]
        if ring:
            path = "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in ring) + "Z"
            parts.append(Markup('<path class="band s{}" d="{}"/>').format(k % STYLES, path))
    path, before = "", None
    for x, y in points:
        if not math.isfinite(y):
            before = None
            continue
        a, b = frame.place(x, y)
        if before is None:
            path += f"M{a:.1f},{b:.1f}"
        else:
            path += f"H{a:.1f}V{b:.1f}" if line.steps else f"L{a:.1f},{b:.1f}"
        before = (a, b)
    parts.append(Markup('<path class="line s{}" stroke-dasharray="{}" d="{}"/>').format(
        k % STYLES, DASHES[k % STYLES], path or "M0,0"))  # fmt: skip
    real = [(x, y) for x, y in points if math.isfinite(y)]
    if len(real) <= MAX_MARKERS and not line.steps:
        for x, y in real:
            parts.append(_marker(k, *frame.place(x, y), f"{line.name}: {tick_text(x)}, {y:.4g}"))
    return parts


def _marker(k: int, x: float, y: float, title: str = "") -> Markup:
    shapes = (
        "M-3.2,0A3.2,3.2 0 1 0 3.2,0A3.2,3.2 0 1 0 -3.2,0Z", "M-3,-3H3V3H-3Z", "M0,-4L4,3.2H-4Z", "M0,-4L4,0L0,4L-4,0Z",
        "M0,4L4,-3.2H-4Z", "M-3,-3L3,3M3,-3L-3,3", "M-4,0H4M0,-4V4", "M-4,-2H4V2H-4Z",
    )  # fmt: skip
    about = Markup("<title>{}</title>").format(title) if title else ""
    return Markup('<path class="mark s{}" transform="translate({:.1f} {:.1f})" d="{}">{}</path>').format(
        k % STYLES, x, y, shapes[k % STYLES], about
    )


def _sample(k: int) -> Markup:
    return Markup(
        '<svg class="sample" viewBox="0 0 34 12" aria-hidden="true"><path class="line s{}" stroke-dasharray="{}" '
        'd="M1,6H33"/>{}</svg>'
    ).format(k % STYLES, DASHES[k % STYLES], _marker(k, 17, 6))


def _forest(plot: Forest) -> Markup:
    shown = [one for one in plot.estimates if math.isfinite(one.value)]
    ends = [v for one in shown for v in (one.value, one.low, one.high) if math.isfinite(v)]
    ends += [plot.zero] if plot.zero is not None else []
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    pad = (high - low) * 0.08 or 0.05
    height = TOP + BOTTOM + 38 * max(1, len(shown))
    frame = _Frame((low - pad, high + pad), (0, max(1, len(shown))), False, height)
    parts = []
    for value in nice_ticks(*frame.x, 6):
        x, _ = frame.place(value, 0)
        parts.append(Markup('<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>'
                            '<text class="tick" text-anchor="middle" x="{0:.1f}" y="{3}">{4}</text>').format(
            x, TOP, height - BOTTOM, height - BOTTOM + 17, tick_text(value)))  # fmt: skip
    if plot.zero is not None:
        x, _ = frame.place(plot.zero, 0)
        parts.append(Markup('<line class="axis" stroke-dasharray="4 3" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" '
                            'y2="{2}"/>').format(x, TOP, height - BOTTOM))  # fmt: skip
    for k, one in enumerate(shown):
        x, y = frame.place(one.value, len(shown) - k - 0.65)
        if math.isfinite(one.low) and math.isfinite(one.high):
            a, b = (frame.place(end, 0)[0] for end in (one.low, one.high))
            parts.append(Markup('<path class="line s0" d="M{0:.1f},{1:.1f}H{2:.1f}M{0:.1f},{3:.1f}V{4:.1f}'
                                'M{2:.1f},{3:.1f}V{4:.1f}"/>').format(a, y, b, y - 4, y + 4))  # fmt: skip
        sign = "+" if plot.zero is not None else ""
        text = f"{one.name}: {one.value:{sign}.{plot.decimals}f}"
        parts.append(_marker(0, x, y, text))
        parts.append(Markup('<text class="tick" x="{}" y="{:.1f}">{}</text>').format(8, y - 9, text))
    parts.append(Markup('<text class="label" text-anchor="middle" x="{}" y="{}">{}</text>').format(
        (LEFT + WIDTH - RIGHT) / 2, height - 8, plot.x_label))  # fmt: skip
    return _whole(parts, f"{plot.title}. {', '.join(one.name for one in shown)}", height)


def _whole(parts: Sequence[Markup], about: str, height: float) -> Markup:
    return Markup('<svg class="chart" role="img" viewBox="0 0 {} {}" aria-label="{}">{}</svg>').format(
        WIDTH, round(height), about, Markup("").join(parts)
    )


def spread(lines: Sequence[Line]) -> float:
    """Ratio of the largest and the smallest positive y of all lines; 1 without any."""
    values = [y for line in lines for y in line.y if math.isfinite(y) and y > 0]
    return max(values) / min(values) if values else 1.0
