"""The screen of a machine: one or more panels with images, and captions, rulers and wedges around them.

Nothing here depends on the class; what gives it away is in ``ultrasound_marks``. Drawn on a fine screen and reduced.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from .ultrasound_beam import Settings, convert, scan
from .ultrasound_canvas import ABOVE, ORGANS, Canvas
from .ultrasound_face import face, lumps
from .ultrasound_machine import Exam

FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True)
class Panel:
    """A part of the screen: its corner and size in pixels, and what maps mm of its plane to pixels of the screen."""

    left: int
    top: int
    width: int
    height: int
    canvas: Canvas | None  # None: a rendered volume
    scale: float = 1.0  # pixels per mm
    origin: tuple[float, float] = (0.0, 0.0)  # of the plane, in pixels of the screen

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """float64[..., 2] on the screen from mm."""
        return np.asarray(points) * self.scale + np.array(self.origin)


@dataclass
class Screen:
    """What is shown. ``grey``: float32[F, F] from 0 to 255; ``regions``: uint8[F, F], a bit per class; ``decoys``: in
    panels without an organ."""

    grey: np.ndarray
    regions: np.ndarray
    panels: list[Panel]
    decoys: list[str]

    @classmethod
    def empty(cls, fine: int, exam: Exam) -> "Screen":
        """A screen of ``fine`` x ``fine`` pixels without panels."""
        paper = np.full((fine, fine), exam.machine.paper, np.float32)
        return cls(paper, np.zeros((fine, fine), np.uint8), [], [])


def layout(count: int, fine: int) -> list[tuple[int, int, int, int]]:
    """Left, top, width and height of one to four panels."""
    half = fine // 2
    if count == 1:
        return [(0, 0, fine, fine)]
    if count == 2:
        top = round(0.14 * fine)
        return [(0, top, half - 1, fine - 2 * top), (half + 1, top, half - 1, fine - 2 * top)]
    return [(x, y, half - 1, half - 1) for y in (0, half + 1) for x in (0, half + 1)][:count]


def show_plane(
    screen: Screen, place: tuple[int, int, int, int], canvas: Canvas, exam: Exam, rng: np.random.Generator, poor: bool
) -> None:
    """Adds a panel with a scanned plane; ``poor``: the probe has hardly any contact."""
    left, top, width, height = place
    settings = _by_chance(exam.settings, rng)
    if poor:
        settings = settings.with_(
            contact=rng.uniform(25, 45), gain=settings.gain - rng.uniform(8, 16), reverb=rng.uniform(8, 18)
        )
    grey = scan(canvas, exam.probe, settings, rng)
    alone = width == screen.grey.shape[1]
    fill, above = (exam.machine.fill, exam.machine.above) if alone else (0.93, 0.04)
    zoom = rng.uniform(0.97, 1.10) if alone else 1.0
    scale = zoom * min(fill * height / canvas.depth, 1.22 * width / exam.probe.span(canvas.depth))
    surface = float(-exam.probe.surface(np.array([exam.probe.span(0) / 2]))[0])  # how far its ends are above its middle
    y = above * height + surface * scale
    x = width * (0.5 + (rng.normal(0, 0.012) if alone else 0))
    image, regions, inside = convert(grey, exam.probe, canvas, (height, width), scale, (x, y))
    part = np.s_[top : top + height, left : left + width]
    screen.grey[part] = np.where(inside, np.maximum(image * 255, 0), screen.grey[part])
    screen.regions[part] = regions
    panel = Panel(left, top, width, height, canvas, scale, (left + x, top + y))
    screen.panels.append(panel)
    if alone or rng.random() < 0.5:
        _ruler(screen, panel, exam)


def _by_chance(settings: Settings, rng: np.random.Generator) -> Settings:
    """Settings of one image: gain and noise vary between images, and some are spoilt by gas, a rib or a poor window."""
    weak = max(rng.normal(-0.4, 1.2), 0.0)
    bands = tuple(
        (rng.uniform(-0.9, 0.9), rng.uniform(0.05, 0.2), rng.uniform(5, 22))
        for _ in range(int(rng.choice(3, p=[0.7, 0.2, 0.1])))
    )
    return settings.with_(
        gain=settings.gain + rng.normal(0, 2) - 4 * weak,
        noise=settings.noise + 3.5 * weak + rng.normal(0, 1),
        lateral=settings.lateral * (1 + 0.3 * weak),
        haze=settings.haze + 2.5 * weak,
        bands=bands,
    )


def show_volume(
    screen: Screen,
    place: tuple[int, int, int, int],
    exam: Exam,
    shared: np.random.Generator,
    rng: np.random.Generator,
    has_face: bool,
) -> None:
    """Adds a panel with a rendered volume; ``shared`` draws its surface."""
    left, top, width, height = place
    if has_face:
        image, fetus = face(shared)
    else:
        image = lumps(shared)
        fetus = np.zeros(image.shape, bool)
    side = round(min(width, height) * rng.uniform(0.80, 0.96))
    x, y = left + (width - side) // 2, top + (height - side) // 2
    part = np.s_[y : y + side, x : x + side]
    grey = cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC)
    grain = cv2.GaussianBlur(rng.standard_normal((side, side), dtype=np.float32), (0, 0), 1.2)
    grey = np.clip(grey * (1 + 0.06 * grain), 0, 1) ** np.float32(exam.settings.gamma)
    screen.grey[part] = np.maximum(grey * np.float32(rng.uniform(215, 255)), 0)
    mask = cv2.resize(fetus.astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST)
    screen.regions[part] = mask * np.uint8(1 << ORGANS.index("3D"))
    screen.panels.append(Panel(x, y, side, side, None))


def write(image: np.ndarray, text: str, x: float, y: float, height: float, ink: int) -> None:
    """Writes a line whose capitals are ``height`` pixels high, its lower left corner at x, y."""
    thick = max(1, round(height / 9))
    cv2.putText(image, text, (round(x), round(y)), FONT, height / 22, float(ink), thick, cv2.LINE_AA)


def text_width(text: str, height: float) -> int:
    """Width in pixels of a line."""
    return int(cv2.getTextSize(text, FONT, height / 22, max(1, round(height / 9)))[0][0])


def decorate(screen: Screen, exam: Exam, rng: np.random.Generator, minute: int) -> None:
    """Writes the captions of the machine at the borders, and its grey wedge and marks."""
    machine, fine = exam.machine, len(screen.grey)
    layer = np.zeros((fine, fine), np.uint8)
    letter = machine.letter * fine
    weeks, days = int(exam.weeks), int(exam.weeks % 1 * 7)
    depth = max((p.canvas.depth for p in screen.panels if p.canvas), default=140.0)
    clock = f"{exam.clock:02d}:{minute:02d}:{int(rng.integers(60)):02d}"
    technical = [
        f"FR {int(rng.integers(18, 45))}Hz", f"D {depth / 10:.1f}cm", f"Gn {int(50 + 2 * exam.settings.gain)}",
        f"DR {int(exam.settings.range)}", f"P {int(rng.integers(80, 101))}%",
        f"Frq {rng.choice(['Low', 'Mid', 'Gen', 'High'])}",
    ]  # fmt: skip
    line = 1.75 * letter
    for where in machine.captions:
        if where == "top":
            write(layer, f"OB 2/3  GA={weeks}w{days}d", 0.02 * fine, 1.5 * letter, letter, machine.ink)
            right = f"MI {rng.uniform(0.6, 1.3):.1f}  TIs {rng.uniform(0.1, 0.6):.1f}   {clock}"
            write(layer, right, 0.98 * fine - text_width(right, letter), 1.5 * letter, letter, machine.ink)
        elif where == "bottom":
            text = f"C{int(rng.integers(2, 6))}-1   {technical[1]}  {technical[2]}  {technical[3]}"
            write(layer, text, 0.03 * fine, 0.985 * fine, letter, machine.ink)
        else:
            x = 0.015 * fine if where == "left" else 0.985 * fine - max(text_width(t, letter) for t in technical)
            for k, text in enumerate(technical[: int(rng.integers(4, 7))]):
                write(layer, text, x, 0.10 * fine + k * line, letter, machine.ink)
    screen.grey = np.maximum(screen.grey, layer)
    if machine.bar != "none":
        x = round((0.012 if machine.bar == "left" else 0.972) * fine)
        first, last, wide = round(0.50 * fine), round(0.78 * fine), max(2, round(0.016 * fine))
        screen.grey[first:last, x : x + wide] = np.linspace(255, 0, last - first, dtype=np.float32)[:, None]
    if len(screen.panels) > 1:
        screen.grey[:, fine // 2 - 1 : fine // 2 + 1] = 60
        if len(screen.panels) > 2:
            screen.grey[fine // 2 - 1 : fine // 2 + 1] = 60


def _ruler(screen: Screen, panel: Panel, exam: Exam) -> None:
    """Ticks of the depth in cm beside the field, the focus, and the mark of the probe's side."""
    machine, fine = exam.machine, len(screen.grey)
    canvas, layer = panel.canvas, np.zeros(screen.grey.shape, np.uint8)
    assert canvas is not None
    offset = 0.955 if machine.ruler == "right" else 0.045
    x = panel.left + panel.width * offset
    for cm in range(int(canvas.depth // 10) + 1):
        y = panel.pixels(np.array([0, 10.0 * cm]))[1]
        long = (0.016 if cm % 5 == 0 else 0.008) * fine
        cv2.line(
            layer, (round(x - long / 2), round(y)), (round(x + long / 2), round(y)), machine.ink, max(1, fine // 512)
        )
        if cm % 5 == 0 and cm and machine.name != "premium":
            write(
                layer,
                str(cm),
                x - (0.045 if machine.ruler == "right" else -0.012) * fine,
                y + 0.008 * fine,
                0.8 * machine.letter * fine,
                machine.ink,
            )
    focus = panel.pixels(np.array([0, canvas.depth * exam.settings.focus]))[1]
    size = 0.009 * fine
    tip = x + (-1 if machine.ruler == "right" else 1) * 2.2 * size
    arrow = np.array([(tip, focus), (tip + size, focus - size), (tip + size, focus + size)])
    cv2.fillPoly(layer, [np.round(arrow).astype(np.int32)], machine.ink)
    corner = panel.pixels(np.array([-exam.probe.span(0) / 2 - 5, -ABOVE / 3]))
    cv2.circle(
        layer,
        (round(float(corner[0])), round(float(corner[1]))),
        max(2, round(0.010 * fine)),
        machine.ink,
        1 if machine.cross == "x" else -1,
        cv2.LINE_AA,
    )
    screen.grey = np.maximum(screen.grey, layer)
