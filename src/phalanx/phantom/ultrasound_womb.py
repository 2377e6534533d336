"""What surrounds the organs of a fetal scan plane: the mother's layers, placenta, fluid, limbs and cord."""

from collections.abc import Callable

import numpy as np

from .ultrasound_canvas import (
    BLOOD,
    FASCIA,
    FAT,
    FLUID,
    GUT,
    MUSCLE,
    PLACENTA,
    SKIN,
    SOFT,
    WALL,
    Canvas,
    Tissue,
    blob,
    curve,
    unit,
    wave,
)
from .ultrasound_limbs import cord, limb_section


def mother(
    canvas: Canvas, top: float, surface: Callable[[np.ndarray], np.ndarray], fat: float, rng: np.random.Generator
) -> np.ndarray:
    """Paints skin, fat, muscle and the wall of the uterus in front, and uneven tissue behind it.

    Args:
        top: depth in mm of the inner side of the wall in front.
        surface: z of the probe's surface by x.
        fat: thickness in mm under the skin.

    Returns:
        float64[N, 2]: the inner side of the wall.
    """
    xs = np.linspace(-canvas.width / 2, canvas.width / 2, 60)
    start, half = surface(xs), canvas.width / 2

    def below(depth: np.ndarray, tissue: Tissue) -> None:
        line = np.stack([xs, depth], axis=1)
        canvas.fill(np.concatenate([line, [(half, canvas.depth + 2), (-half, canvas.depth + 2)]]), tissue)

    below(start - 3, SKIN)
    below(start + 1.6, FAT)
    deep = start + 1.6 + fat + wave(xs, rng, 0.5, canvas.width)
    _strands(canvas, xs, start + 2, deep, rng)
    wall = top + wave(xs, rng, 1.4, 1.4 * canvas.width) - 0.0012 * xs**2
    muscle = np.minimum(deep, wall - 7)
    below(muscle, FASCIA._replace(echo=-1, impedance=0.8))
    below(muscle + 0.8, MUSCLE)
    between = muscle + (wall - muscle) * rng.uniform(0.4, 0.6)
    _strands(canvas, xs, muscle + 1, between, rng)
    below(between, FASCIA._replace(echo=-4, impedance=0.7))
    below(between + 0.7, WALL)
    below(wall - 0.7, FASCIA._replace(echo=-6, impedance=0.55))
    below(wall, SOFT)
    _behind(canvas, top, rng)
    return np.stack([xs, wall], axis=1)


def _strands(canvas: Canvas, xs: np.ndarray, top: np.ndarray, bottom: np.ndarray, rng: np.random.Generator) -> None:
    """Short strands of connective tissue along a layer."""
    thick = float((bottom - top).mean())
    kinds = [FASCIA._replace(echo=rng.uniform(-7, 1), impedance=rng.uniform(0.55, 0.85)) for _ in range(8)]
    for _ in range(int(thick * canvas.width / rng.uniform(45, 110))):
        first = int(rng.integers(0, 50))
        part = slice(first, first + int(rng.integers(5, 16)))
        at = rng.uniform(0.05, 0.95)
        line = top[part] + (bottom - top)[part] * at + wave(xs[part], rng, 0.25, 20)
        canvas.stroke(np.stack([xs[part], line], axis=1), rng.uniform(0.4, 0.8), kinds[int(rng.integers(8))])


def _behind(canvas: Canvas, top: float, rng: np.random.Generator) -> None:
    """Large uneven patches: folds of the uterus, other parts of the fetus, the mother's gut at the bottom."""
    for _ in range(int(rng.integers(7, 13))):
        spot = np.array([rng.uniform(-0.5, 0.5) * canvas.width, rng.uniform(top, canvas.depth)])
        axes = (rng.uniform(0.08, 0.26) * canvas.width, rng.uniform(0.05, 0.16) * canvas.depth)
        outline = blob(spot, axes, rng.normal(0, 30), rng, 0.12)
        tissue = SOFT._replace(echo=rng.uniform(-15, -5), impedance=rng.uniform(0.33, 0.42), mottle=rng.uniform(1.5, 4))
        if spot[1] > top + axes[1]:
            canvas.fill(outline, tissue)
            if rng.random() < 0.5:
                part = np.arange(int(rng.integers(0, 72)), int(rng.integers(80, 110))) % 72
                canvas.stroke(
                    outline[part], rng.uniform(0.5, 1.1), FASCIA._replace(echo=rng.uniform(-7, 0), impedance=0.7)
                )


def back_wall(canvas: Canvas, bottom: float, rng: np.random.Generator) -> np.ndarray:
    """The wall of the uterus behind, at a depth of ``bottom`` mm, and the mother's tissue behind it; returns it."""
    xs = np.linspace(-canvas.width / 2, canvas.width / 2, 60)
    floor = bottom + wave(xs, rng, 2.0, 1.3 * canvas.width) + 0.0012 * xs**2
    end = [(canvas.width / 2, canvas.depth + 2), (-canvas.width / 2, canvas.depth + 2)]
    for offset, tissue in (
        (0.0, FASCIA._replace(echo=-5, impedance=0.6)),
        (0.9, WALL._replace(echo=-8)),
        (rng.uniform(8, 14), FASCIA._replace(echo=-4, impedance=0.8)),
        (rng.uniform(15, 17), GUT._replace(echo=-9, loss=0.06)),
    ):
        line = np.stack([xs, floor + offset + wave(xs, rng, 0.4, 30)], axis=1)
        canvas.fill(np.concatenate([line, end]), tissue)
    return np.stack([xs, floor], axis=1)


def placenta(canvas: Canvas, wall: np.ndarray, sign: int, rng: np.random.Generator, thick: float | None = None) -> None:
    """A band along a wall float64[N, 2] that thins out to its ends, with its plate towards the fluid.

    ``sign``: 1 if the fluid is behind the wall, -1 if in front of it; ``thick``: in mm.
    """
    xs, line = wall[:, 0], wall[:, 1]
    middle, spread = rng.uniform(-0.3, 0.3) * canvas.width, canvas.width * rng.uniform(0.28, 0.5)
    thick = rng.uniform(14, 26) if thick is None else thick
    depth = thick * np.clip(1 - ((xs - middle) / spread) ** 4, 0, None) ** 0.5 + wave(xs, rng, 0.8, canvas.width / 2)
    inside = depth > 1.5
    if inside.sum() < 4:
        return
    edge = np.stack([xs[inside], (line + sign * depth)[inside]], axis=1)
    rim = np.stack([xs[inside], line[inside]], axis=1)
    outline = np.concatenate([edge, rim[::-1]])
    canvas.fill(outline, PLACENTA)
    canvas.unmark(outline)
    canvas.stroke(edge, 0.8, FASCIA._replace(echo=-2, impedance=0.75))
    for _ in range(int(rng.integers(0, 4))):  # lakes of blood
        k = int(rng.integers(0, inside.sum()))
        spot = rim[k] + (edge[k] - rim[k]) * rng.uniform(0.3, 0.7)
        canvas.fill(blob(spot, (rng.uniform(1.5, 5), rng.uniform(1, 2.5)), rng.uniform(-40, 40), rng, 0.15), BLOOD)


def cavity(canvas: Canvas, centre: np.ndarray, axes: tuple[float, float], rng: np.random.Generator) -> None:
    """Thin fluid around something of half ``axes`` mm that is painted later: wide on one side, none on another."""
    gap = np.abs(rng.normal(0, 6.5, 2))
    shift = unit(rng.uniform(0, 360)) * rng.uniform(0, 10)
    outline = blob(centre + shift, (axes[0] + gap[0], axes[1] + gap[1] * 0.7), rng.normal(0, 12), rng, 0.07)
    canvas.stroke(outline, 1.2, FASCIA._replace(echo=-6, impedance=0.55), closed=True)
    canvas.fill(outline, FLUID._replace(echo=rng.uniform(-46, -36)))
    for _ in range(int(rng.integers(0, 3))):  # wedges between the fetus and the wall
        angle = rng.uniform(0, 360)
        spot = centre + unit(angle) * axes * rng.uniform(1.0, 1.25)
        wedge = blob(spot, (rng.uniform(5, 14), rng.uniform(2.5, 6)), angle + 90 + rng.normal(0, 20), rng, 0.2)
        canvas.fill(wedge, FLUID)


def neighbours(
    canvas: Canvas, centre: np.ndarray, axes: tuple[float, float], week: float, rng: np.random.Generator
) -> None:
    """Limbs and loops of cord around something of half ``axes`` mm, in the places where fluid would be."""
    for _ in range(int(rng.choice([0, 0, 1, 1, 2]))):
        size = rng.uniform(4, 8.5) * week / 26
        spot = centre + unit(rng.uniform(0, 360)) * (np.array(axes) + size * rng.uniform(0.9, 1.3))
        if rng.random() < 0.6:
            limb_section(canvas, spot, size, rng)
        else:
            cord(canvas, spot, week, rng, 1.0)


def pocket(
    canvas: Canvas,
    centre: np.ndarray,
    axes: tuple[float, float],
    week: float,
    rng: np.random.Generator,
    fluid: Tissue = FLUID,
) -> None:
    """AFI: a pocket of amniotic fluid with ragged borders, limbs and cord at its sides."""
    n = int(rng.integers(7, 11))
    t = np.sort(np.linspace(0, 2 * np.pi, n, endpoint=False) + rng.normal(0, 0.22, n))
    corner = np.stack([axes[0] * np.cos(t), axes[1] * np.sin(t)], axis=1) * rng.uniform(0.72, 1.12, n)[:, None]
    outline = curve([*corner, corner[0]], 90) + centre
    canvas.stroke(outline, 1.3, SOFT._replace(echo=-3, impedance=0.7), closed=True)
    canvas.fill(outline, fluid, "AFI")
    for _ in range(int(rng.integers(0, 4))):
        side = rng.choice([-1, 1]) * rng.uniform(0.45, 0.95)
        spot = centre + np.array([side, rng.uniform(-0.8, 0.8)]) * axes
        if rng.random() < 0.55:
            cord(canvas, spot, week, rng)
        else:
            limb_section(canvas, spot, rng.uniform(4, 9) * (week / 26), rng)
