"""Planes without any of the classes, most of which resemble one: they are what a sonographer passes on the way.

Each function paints into a canvas that has the mother's layers; ``week`` is that of the pregnancy, places are in mm.
"""

import math
from collections.abc import Callable

import numpy as np

from .ultrasound_anatomy import femur_length, head_width, ribs, waist
from .ultrasound_canvas import (
    BLOOD,
    BONE,
    BRAIN,
    FASCIA,
    FAT,
    FLUID,
    GUT,
    LUNG,
    MUSCLE,
    PLACENTA,
    SKIN,
    SKULL,
    SOFT,
    WALL,
    Canvas,
    blob,
    curve,
    place,
    shrink,
    unit,
)
from .ultrasound_limbs import cord, limb_section


def placenta_alone(canvas: Canvas, centre: np.ndarray, week: float, rng: np.random.Generator) -> None:
    """A placenta that fills the plane, with lakes and the insertion of the cord; little fluid."""
    axes = (canvas.width * rng.uniform(0.36, 0.5), rng.uniform(18, 30))
    outline = blob(centre, axes, rng.normal(0, 9), rng, 0.08)
    canvas.stroke(outline, 1.1, FASCIA._replace(echo=-1, impedance=0.8), closed=True)
    canvas.fill(outline, PLACENTA._replace(echo=rng.uniform(-4, -1), mottle=rng.uniform(2, 4)))
    for _ in range(int(rng.integers(2, 9))):
        spot = centre + rng.uniform(-0.75, 0.75, 2) * axes
        canvas.fill(blob(spot, (rng.uniform(1.5, 6), rng.uniform(1, 3)), rng.normal(0, 40), rng, 0.2), BLOOD)
    if rng.random() < 0.6:
        spot = centre + np.array([rng.normal(0, 15), axes[1] * 1.18])
        slit = blob(spot, (rng.uniform(15, 35), rng.uniform(2, 5)), 0, rng, 0.15)
        canvas.fill(slit, FLUID)
        cord(canvas, centre + np.array([rng.normal(0, 8), axes[1] * 0.95]), week, rng)


def bladder(canvas: Canvas, centre: np.ndarray, week: float, rng: np.random.Generator) -> None:
    """The mother's bladder, smooth and thick-walled, above the neck of the womb: fluid, but not amniotic."""
    wide, high = rng.uniform(22, 42), rng.uniform(12, 24)
    shape = np.array([(-1, 0.75), (-0.62, -0.55), (0.05, -1), (0.75, -0.5), (1, 0.5), (0.2, 0.9), (-1, 0.75)])
    tilt, spot = rng.normal(0, 12), centre - np.array([0, 6])
    outline = place(curve((shape * (wide, high)).tolist(), 80), spot, tilt)
    canvas.fill(shrink(outline, 1 + rng.uniform(2.5, 4.5) / high), WALL._replace(echo=-6, impedance=0.55))
    canvas.fill(outline, FLUID._replace(echo=rng.uniform(-46, -40)))
    neck = spot + np.array([rng.normal(0, 10), high + rng.uniform(12, 18)])
    canvas.fill(
        blob(neck, (rng.uniform(24, 36), rng.uniform(10, 14)), tilt + rng.normal(0, 12), rng, 0.05),
        WALL._replace(echo=-11),
    )
    line = curve([neck + np.array([x, rng.normal(0, 2)]) for x in (-22, 0, 22)], 30)
    canvas.stroke(line, 2.2, SOFT._replace(echo=-4))
    canvas.stroke(line, 0.7, FLUID)


def chest(canvas: Canvas, centre: np.ndarray, week: float, rng: np.random.Generator) -> None:
    """A transverse chest at the heart: round and ribbed as the abdomen, but with four chambers between lungs."""
    r = waist(week) / (2 * math.pi) * rng.uniform(0.86, 0.98)
    turn = rng.choice([0, 180, 90, 270], p=[0.36, 0.36, 0.18, 0.10]) + rng.normal(0, 16)  # towards the spine
    outline = blob(centre, (r * 0.95, r), turn, rng, 0.02)
    canvas.fill(outline, SKIN)
    canvas.fill(shrink(outline, 1 - 0.9 / r), FAT._replace(echo=-7))
    canvas.fill(shrink(outline, 0.92), MUSCLE)
    canvas.fill(shrink(outline, 0.86), LUNG._replace(echo=rng.uniform(-7, -3)))
    ribs(canvas, outline, 0.88, rng, int(rng.integers(4, 9)))
    axis = unit(turn + 180 + rng.choice([-1, 1]) * rng.uniform(30, 55))  # of the heart, to its apex
    heart = centre + 0.06 * r * axis
    angle = math.degrees(math.atan2(axis[1], axis[0]))
    canvas.fill(blob(heart, (0.50 * r, 0.36 * r), angle, rng, 0.04), WALL._replace(echo=-9, impedance=0.5))
    for along, across, a, b in (
        (0.17, 0.13, 0.22, 0.10),
        (0.17, -0.13, 0.21, 0.11),
        (-0.24, 0.13, 0.14, 0.11),
        (-0.24, -0.13, 0.15, 0.11),
    ):
        spot = place(np.array([[along * r, across * r]]), heart, angle)[0]
        canvas.fill(blob(spot, (a * r, b * r), angle + rng.normal(0, 8), rng, 0.06), BLOOD)
    bone = BONE._replace(loss=2.0, impedance=3.5)
    for back, left in ((0.60, 0.0), (0.76, 0.11), (0.76, -0.11)):
        spot = centre + r * (back * unit(turn) + left * unit(turn + 90))
        canvas.fill(blob(spot, (0.055 * r, 0.075 * r), turn, rng, 0.15), bone)
    canvas.fill(blob(centre + r * (0.46 * unit(turn) + 0.06 * unit(turn + 90)), (0.06 * r, 0.06 * r), 0, rng), BLOOD)


def skull_base(canvas: Canvas, centre: np.ndarray, week: float, rng: np.random.Generator) -> None:
    """A head cut too low or too oblique: no midline, but the bright X of the skull's base, or the orbits."""
    b = head_width(week) / 2 * rng.uniform(0.82, 0.98)
    a, turn = b / rng.uniform(0.72, 0.9), rng.choice([0.0, 180.0]) + rng.normal(0, 16)

    def at(front: float, side: float) -> np.ndarray:
        return centre + a * front * unit(turn) + b * side * unit(turn + 90)

    outline = blob(centre, (a, b), turn, rng, 0.03)
    canvas.fill(shrink(outline, 1 + 2 / b), SOFT._replace(echo=-9, impedance=0.5))
    canvas.fill(outline, SKULL._replace(loss=rng.uniform(0.4, 0.8)))
    canvas.fill(shrink(outline, 1 - rng.uniform(1.6, 2.6) / b), BRAIN._replace(echo=rng.uniform(-19, -13), mottle=3.5))
    bright = BONE._replace(echo=rng.uniform(-2, 6), impedance=rng.uniform(0.9, 2.2), loss=0.5, mottle=5)
    for _ in range(int(rng.integers(5, 12))):  # bone and folds that the plane grazes
        spot = at(*rng.uniform(-0.62, 0.62, 2))
        patch = blob(spot, (rng.uniform(0.06, 0.2) * a, rng.uniform(0.04, 0.14) * b), rng.uniform(0, 180), rng, 0.25)
        canvas.fill(patch, GUT._replace(echo=rng.uniform(-20, -7), mottle=4))
    if rng.random() < 0.5:
        for side in (-1, 1):
            for end, thick in ((0.55, 0.7), (-0.5, 1.0)):
                far, bend = rng.uniform(0.6, 0.8) * side, rng.normal(0, 0.08)
                wing = curve([at(end * 0.22, 0.12 * side), at(end * 0.6 + bend, 0.36 * side), at(end, far)], 20)
                for k in range(0, 18, 3):
                    canvas.stroke(wing[k : k + 4], thick * rng.uniform(0.6, 2.6), bright)
    else:
        for side in (-1, 1):
            eye = blob(at(0.5, 0.42 * side), (0.2 * a, 0.26 * b), turn, rng, 0.03)
            canvas.stroke(eye, 1.4, bright, closed=True)
            canvas.fill(eye, FLUID)
            canvas.stroke(blob(at(0.57, 0.42 * side), (0.06 * a, 0.08 * b), turn, rng), 0.6, FASCIA, closed=True)
        canvas.fill(blob(at(-0.3, 0), (0.4 * a, 0.4 * b), turn, rng, 0.1), GUT._replace(echo=-10))


def forearm(canvas: Canvas, centre: np.ndarray, week: float, rng: np.random.Generator) -> None:
    """Two thin bones side by side or overlapping, as of a forearm or lower leg, perhaps with the hand."""
    length, turn = femur_length(week) * rng.uniform(0.75, 0.95), rng.normal(0, 24)
    girth, half = length * rng.uniform(0.2, 0.27), length / 2
    skin = blob(centre, (half * 1.25, girth), turn, rng, 0.06)
    canvas.fill(skin, SKIN._replace(echo=-2))
    canvas.fill(shrink(skin, 1 - 1.0 / girth), MUSCLE._replace(echo=-11))
    apart = girth * rng.uniform(0.3, 0.55)
    for sign, shift in ((-1, rng.normal(0, 0.05)), (1, rng.normal(0, 0.3))):
        t = np.linspace(-1, 1, 12)
        line = np.stack(
            [t * half * rng.uniform(0.88, 1.0) + shift * length, sign * apart / 2 * (1 + 0.35 * (1 - t * t))], axis=1
        )
        canvas.stroke(place(line, centre, turn), 0.028 * length + 0.9, BONE._replace(loss=rng.uniform(1.5, 3.0)))
    if rng.random() < 0.5:
        for finger in range(4):
            first = np.array([half * 1.3, (finger - 1.5) * girth * 0.3])
            canvas.stroke(
                place(np.array([first, first * (1.22, 1.4)]), centre, turn), 1.2, BONE._replace(impedance=2.5, loss=0.6)
            )


def rib_cage(canvas: Canvas, centre: np.ndarray, week: float, rng: np.random.Generator) -> None:
    """A trunk cut lengthwise: a row of ribs with their shadows."""
    half, girth = waist(week) / 6 * rng.uniform(1.0, 1.3), waist(week) / (2 * math.pi) * rng.uniform(0.75, 0.95)
    turn = rng.normal(0, 10)
    outline = blob(centre, (half, girth), turn, rng, 0.05)
    canvas.fill(outline, SKIN)
    canvas.fill(shrink(outline, 0.94), MUSCLE)
    canvas.fill(shrink(outline, 0.88), LUNG._replace(echo=-8))
    gap = rng.uniform(0.19, 0.26)
    for k in range(-3, 4):
        x = k * gap
        edge = place(np.array([[x * half, -0.86 * girth * math.sqrt(max(1 - x * x, 0.1))]]), centre, turn)[0]
        canvas.fill(
            blob(edge, (rng.uniform(1.6, 2.6), rng.uniform(0.9, 1.4)), turn, rng, 0.1),
            BONE._replace(loss=rng.uniform(4, 8)),
        )
    canvas.fill(
        blob(centre + np.array([0.3 * half, 0.1 * girth]), (0.3 * half, 0.34 * girth), rng.normal(0, 30), rng, 0.1),
        WALL._replace(echo=-10),
    )


def backbone(canvas: Canvas, centre: np.ndarray, week: float, rng: np.random.Generator) -> None:
    """A spine cut lengthwise: two rows of bright dots in a long trunk."""
    half, girth, turn = waist(week) / 4.6, waist(week) / 8, rng.normal(0, 10)
    outline = blob(centre + np.array([0, 0.5 * girth]), (half * 1.9, girth * 1.4), turn, rng, 0.05)
    canvas.fill(outline, SKIN._replace(echo=-3))
    canvas.fill(shrink(outline, 0.95), MUSCLE._replace(echo=-10))
    canvas.fill(
        blob(centre + np.array([0, 0.8 * girth]), (half * 1.5, girth * 0.8), turn, rng, 0.08),
        LUNG._replace(echo=rng.uniform(-10, -5)),
    )
    bend, apart, step = (
        rng.uniform(-0.12, 0.12) * girth,
        girth * rng.uniform(0.16, 0.24),
        rng.uniform(3.2, 4.4) * week / 26,
    )
    for x in np.arange(-half, half, step):
        for sign in (-1, 1):
            local = np.array([[x, -0.25 * girth + bend * (1 - (x / half) ** 2) * 3 + sign * apart]])
            dot = blob(
                place(local, centre, turn)[0],
                (step * rng.uniform(0.2, 0.32), step * rng.uniform(0.1, 0.2)),
                turn,
                rng,
                0.2,
            )
            canvas.fill(
                dot, BONE._replace(echo=rng.uniform(4, 11), loss=rng.uniform(0.8, 2.0), impedance=rng.uniform(1.2, 3))
            )


def limbs(canvas: Canvas, centre: np.ndarray, week: float, rng: np.random.Generator) -> None:
    """A heap of limbs and cord with narrow clefts of fluid between them."""
    canvas.fill(blob(centre, (rng.uniform(26, 40), rng.uniform(15, 22)), rng.normal(0, 10), rng, 0.15), FLUID)
    for _ in range(int(rng.integers(7, 12))):
        spot = centre + rng.uniform(-1, 1, 2) * (34, 20)
        if rng.random() < 0.65:
            limb_section(canvas, spot, rng.uniform(6, 12) * week / 26, rng)
        else:
            cord(canvas, spot, week, rng)


Painter = Callable[[Canvas, np.ndarray, float, np.random.Generator], None]
# each with the class that it resembles most, if any
PLANES: dict[str, tuple[Painter, str | None]] = {
    "placenta": (placenta_alone, None),
    "bladder": (bladder, "AFI"),
    "chest": (chest, "AC"),
    "skull_base": (skull_base, "BPD"),
    "forearm": (forearm, "FL"),
    "rib_cage": (rib_cage, "FL"),
    "backbone": (backbone, "FL"),
    "limbs": (limbs, "AFI"),
}
