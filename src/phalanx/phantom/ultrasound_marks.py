"""What a sonographer burns into an image: calipers, dotted lines and ellipses, results. It gives the class away."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from .ultrasound_canvas import ORGANS, Measure, place
from .ultrasound_machine import Exam, Machine
from .ultrasound_screen import Panel, Screen, text_width, write

KINDS = ("calipers", "text")
BOX = 40.0  # grey level of the box behind results


@dataclass
class Layer:
    """Marks on a fine screen: ``ink`` uint8[F, F], how much of each pixel is ink of ``level``; ``box`` uint8[F, F], 255
    where results stand on a box."""

    ink: np.ndarray
    box: np.ndarray
    level: int

    def over(self, clean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The marks over uint8[S, S]: the image with them, and a bool[S, S] outside of which nothing differs."""
        size = len(clean)
        ink, box = (
            cv2.resize(part, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
            for part in (self.ink, self.box)
        )
        mask = (ink > 0.03) | (box > 0.03)
        shown = clean + box * 0.85 * (np.float32(BOX) - clean)
        shown = shown + ink * (self.level - shown)
        return np.where(mask, np.round(shown), clean).astype(np.uint8), mask


def draw_marks(
    screen: Screen, organs: list[str], exam: Exam, rng: np.random.Generator
) -> tuple[Layer, list[dict[str, Any]]]:
    """Marks of some organs that the screen shows.

    Returns:
        The marks; and per organ its name and kinds of marks, for the manifest.
    """
    fine = len(screen.grey)
    layer = Layer(np.zeros((fine, fine), np.uint8), np.zeros((fine, fine), np.uint8), int(rng.integers(205, 256)))
    lines: list[str] = []
    found: list[dict[str, Any]] = []
    for organ in sorted(organs, key=ORGANS.index):
        kinds = [KINDS, KINDS, ("text",), ("calipers",)][int(rng.choice(4, p=[0.4, 0.2, 0.2, 0.2]))]
        if organ == "3D":
            lines += _volume_marks(layer, screen, exam, kinds, rng)
        else:
            panel, measures = next(
                (p, [m for m in p.canvas.measures if m.organ == organ])
                for p in screen.panels
                if p.canvas is not None and any(m.organ == organ for m in p.canvas.measures)
            )
            if len(measures) > 1:  # the diameter, the circumference, or both
                measures = [measures[:1], measures[1:], measures][int(rng.integers(3))]
            for measure in measures:
                noisy = _by_hand(measure, rng)
                if "calipers" in kinds:
                    _calipers(layer.ink, panel, noisy, exam.machine, rng)
                if "text" in kinds:
                    lines.append(_result(noisy, exam, rng))
        found.append({"organ": organ, "kinds": list(kinds)})
    _results(layer, lines, exam.machine)
    return layer, found


def _by_hand(measure: Measure, rng: np.random.Generator) -> Measure:
    """A measure whose ends are placed within 1.5 % of the right place."""
    spread = 0.015 * (measure.value if measure.ends is not None else measure.axes[0])
    if measure.ends is not None:
        return Measure(measure.organ, measure.name, ends=measure.ends + rng.normal(0, spread, (2, 2)))
    a, b = (axis + rng.normal(0, spread) for axis in measure.axes)
    assert measure.centre is not None
    return Measure(
        measure.organ, measure.name, centre=measure.centre + rng.normal(0, spread, 2), axes=(a, b), angle=measure.angle
    )


def _result(measure: Measure, exam: Exam, rng: np.random.Generator) -> str:
    """A line of results, as ``AC 24.31 cm``."""
    name = measure.name
    if name == "AFI":
        name = str(rng.choice(["AFI", "MVP", "AFI Q1", "AFI Q2", "AFI Q3", "AFI Q4"]))
    value = f"{measure.value / 10:.2f} cm" if exam.machine.unit == "cm" else f"{measure.value:.1f} mm"
    if measure.organ != "AFI" and rng.random() < 0.4:
        weeks = exam.weeks + rng.normal(0, 0.5)
        return f"{name} {value}  {int(weeks)}w{int(weeks % 1 * 7)}d"
    return f"{name} {value}"


def _calipers(ink: np.ndarray, panel: Panel, measure: Measure, machine: Machine, rng: np.random.Generator) -> None:
    """Crosses at the ends, and a dotted line or ellipse between them, in place."""
    fine = len(ink)
    if measure.ends is not None:
        ends = panel.pixels(measure.ends)
        steps = max(2, int(np.hypot(*(ends[1] - ends[0])) / (0.014 * fine)))
        path = ends[0] + np.linspace(0, 1, steps)[:, None] * (ends[1] - ends[0])
    else:
        assert measure.centre is not None
        t = np.linspace(0, 2 * np.pi, 120, endpoint=False)
        ellipse = np.stack([np.cos(t), np.sin(t)], axis=1) * measure.axes
        path = panel.pixels(place(ellipse, measure.centre, measure.angle))
        ends = path[[0, 60]] if rng.random() < 0.6 else path[[0, 30, 60, 90]]
    dot = max(1, round(0.0016 * fine))
    if measure.ends is None or rng.random() < 0.8:
        for x, y in path:
            cv2.circle(ink, (round(float(x)), round(float(y))), dot, 255, -1)
    size, thick = 0.011 * fine, max(1, round(0.0025 * fine))
    arms = ((1, 0), (0, 1)) if machine.cross == "+" else ((0.75, 0.75), (0.75, -0.75))
    for x, y in ends:
        for dx, dy in arms:
            first, last = (x - dx * size, y - dy * size), (x + dx * size, y + dy * size)
            cv2.line(ink, (round(first[0]), round(first[1])), (round(last[0]), round(last[1])), 255, thick)


def _volume_marks(
    layer: Layer, screen: Screen, exam: Exam, kinds: tuple[str, ...], rng: np.random.Generator
) -> list[str]:
    """The frame of the rendered box, in place of calipers; returns the lines of text."""
    panel = next(p for p in screen.panels if p.canvas is None)
    if "calipers" in kinds:
        step = max(4, round(0.02 * len(layer.ink)))
        inset = panel.width * rng.uniform(0.02, 0.08)
        x0, y0 = round(panel.left + inset), round(panel.top + inset)
        x1, y1 = round(panel.left + panel.width - inset), round(panel.top + panel.height - inset)
        thick = max(1, len(layer.ink) // 512)
        for x in range(x0, x1, step):
            for y in (y0, y1):
                cv2.line(layer.ink, (x, y), (min(x + step // 2, x1), y), 255, thick)
        for y in range(y0, y1, step):
            for x in (x0, x1):
                cv2.line(layer.ink, (x, y), (x, min(y + step // 2, y1)), 255, thick)
    if "text" not in kinds:
        return []
    return [
        str(rng.choice(["3D Static", "3D Render", "3D Surface"])),
        f"Th {int(rng.integers(20, 60))}  Mix {int(rng.integers(40, 90))}",
    ]


def _results(layer: Layer, lines: list[str], machine: Machine) -> None:
    """Writes the results into their corner, in place."""
    if not lines:
        return
    fine = len(layer.ink)
    letter = 1.25 * machine.letter * fine
    wide, pitch = max(text_width(line, letter) for line in lines), 1.8 * letter
    vertical, horizontal = machine.corner.split("-")
    x = 0.03 * fine if horizontal == "left" else 0.97 * fine - wide
    y = 0.10 * fine if vertical == "top" else 0.94 * fine - pitch * (len(lines) - 1)
    for k, line in enumerate(lines):
        write(layer.ink, line, x, y + k * pitch, letter, 255)
    if machine.box:
        first = (round(x - 0.6 * letter), round(y - 1.6 * letter))
        last = (round(x + wide + 0.6 * letter), round(y + pitch * (len(lines) - 1) + 0.8 * letter))
        cv2.rectangle(layer.box, first, last, 255, -1)
