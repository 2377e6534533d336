"""The organs of a fetal scan plane, painted on a canvas as a standard plane shows them.

Sizes follow the week of pregnancy by the growth curves of Hadlock et al., Estimating fetal age: computer-assisted
analysis of multiple fetal growth parameters, Radiology 152 (1984): 497-501.
"""

import math
from collections.abc import Callable

import numpy as np

from .ultrasound_canvas import (
    BLOOD,
    BONE,
    BRAIN,
    CARTILAGE,
    FASCIA,
    FAT,
    FLUID,
    GUT,
    LIVER,
    MUSCLE,
    SKIN,
    SKULL,
    SOFT,
    Canvas,
    Measure,
    blob,
    curve,
    shrink,
    unit,
)

Place = Callable[[float, float], np.ndarray]  # a place in mm by its coordinates within an organ


def head_width(week: float) -> float:
    """Biparietal diameter in mm."""
    return 10 * (-3.08 + 0.41 * week - 0.000061 * week**3)


def waist(week: float) -> float:
    """Abdominal circumference in mm."""
    return 10 * (-13.3 + 1.61 * week - 0.00998 * week**2)


def femur_length(week: float) -> float:
    """Length of the femur in mm."""
    return 10 * (-3.91 + 0.427 * week - 0.0034 * week**2)


def abdomen(canvas: Canvas, centre: np.ndarray, week: float, rng: np.random.Generator) -> None:
    """AC: transverse abdomen with stomach bubble, spine, umbilical vein, great vessels and ribs."""
    r = waist(week) / (2 * math.pi) * rng.uniform(0.95, 1.06)
    flat = rng.uniform(0.90, 1.0)
    turn = rng.choice([0, 180, 90, 270], p=[0.36, 0.36, 0.18, 0.10]) + rng.normal(0, 16)  # towards the spine
    side = rng.choice([-1, 1])

    def at(back: float, left: float) -> np.ndarray:
        """A place in radii: towards the spine, and towards the stomach."""
        return centre + r * (back * unit(turn) + left * flat * unit(turn + 90 * side))

    outline = blob(centre, (r, r * flat), turn, rng, 0.016)
    canvas.fill(outline, SKIN, "AC")
    canvas.fill(shrink(outline, 1 - 0.9 / r), FAT._replace(echo=-6 + rng.normal(0, 2)))
    fat = 1 - (0.03 + 0.0018 * max(week - 20, 0)) - 1.2 / r
    canvas.fill(shrink(outline, fat), FASCIA._replace(echo=-2, impedance=0.8))
    canvas.fill(shrink(outline, fat - 0.02), MUSCLE)
    inner = shrink(outline, fat - 0.06)
    liver = LIVER._replace(echo=-9 + rng.normal(0, 1.5))
    canvas.fill(inner, liver)
    # bowel and spleen on the left and behind are less even than the liver
    canvas.fill(
        blob(at(0.18, 0.42), (0.36 * r, 0.32 * r), turn + rng.uniform(0, 180), rng, 0.12),
        GUT._replace(echo=liver.echo + 1.5, mottle=3.2),
    )
    for sign in (-1, 1):  # muscles beside the spine, kidneys or adrenals in front of it
        canvas.fill(blob(at(0.74, 0.27 * sign), (0.13 * r, 0.19 * r), turn, rng, 0.06), MUSCLE._replace(echo=-12))
        if rng.random() < 0.5:
            canvas.fill(
                blob(at(0.42, 0.36 * sign), (0.13 * r, 0.08 * r), turn + 60 * sign, rng, 0.1),
                CARTILAGE._replace(echo=-15),
            )
    ribs(canvas, outline, fat - 0.05, rng, int(rng.integers(1, 5)))
    _spine(canvas, at, r, turn, rng)
    canvas.fill(blob(at(0.47, 0.09), (0.062 * r, 0.062 * r), 0, rng), BLOOD)
    canvas.fill(blob(at(0.36, -0.17), (0.075 * r, 0.06 * r), turn, rng), BLOOD)
    if rng.random() < 0.93:
        size = rng.uniform(0.13, 0.25)
        stomach = blob(
            at(rng.uniform(-0.05, 0.14), rng.uniform(0.40, 0.52)),
            (size * r * rng.uniform(1.1, 1.7), size * r),
            turn + rng.uniform(-50, 50),
            rng,
            0.07,
        )
        canvas.fill(shrink(stomach, 1 + 0.8 / (size * r)), SOFT._replace(echo=-4, impedance=0.6))
        canvas.fill(stomach, FLUID)
    for _ in range(int(rng.integers(3, 9))):  # veins of the liver
        spot, long = at(rng.uniform(-0.6, 0.2), rng.uniform(-0.7, 0.15)), r * rng.uniform(0.02, 0.12)
        canvas.fill(
            blob(spot, (long, r * rng.uniform(0.012, 0.03)), rng.uniform(0, 180), rng, 0.2),
            BLOOD._replace(echo=-26, impedance=0.25),
        )
    _vein(canvas, at, r, rng)
    if rng.random() < 0.35:
        canvas.fill(blob(at(-0.36, -0.36), (0.15 * r, 0.055 * r), turn + 25 * side, rng, 0.05), FLUID)
    canvas.measures.append(Measure("AC", "AC", centre=outline.mean(axis=0), axes=(r, r * flat), angle=turn))


def _vein(canvas: Canvas, at: Place, r: float, rng: np.random.Generator) -> None:
    """The umbilical vein, from the third in front, bent to the right where it joins the portal sinus."""
    first, bend, sway = rng.uniform(0.40, 0.66), rng.uniform(0.05, 0.24), rng.normal(0, 0.05)
    path = curve(
        [
            at(-first, 0.04 + sway),
            at(-first + 0.2, 0.02),
            at(-0.14, -0.02),
            at(-0.04, -0.13),
            at(-0.05 + sway, -0.14 - bend),
        ],
        40,
    )
    t = np.linspace(0, 1, len(path))
    wide = r * rng.uniform(0.035, 0.055) * (0.55 + 0.75 * np.exp(-(((t - rng.uniform(0.5, 0.75)) / 0.3) ** 2)))
    normal = np.gradient(path, axis=0)[:, ::-1] * (1, -1)
    normal /= np.maximum(np.hypot(*normal.T), 1e-9)[:, None]
    for extra, tissue in ((0.55, SOFT._replace(echo=-5, impedance=0.55)), (0.0, BLOOD)):
        side = normal * (wide + extra)[:, None]
        canvas.fill(np.concatenate([path + side, (path - side)[::-1]]), tissue)


def ribs(canvas: Canvas, outline: np.ndarray, factor: float, rng: np.random.Generator, count: int) -> None:
    """Short bright arcs inside the wall of a trunk; a plane straight across cuts few of them."""
    inside, n = shrink(outline, factor), len(outline)
    for at in rng.uniform(0.14, 0.86, count):
        arc = np.arange(int(at * n), int(at * n) + int(rng.integers(3, 9))) % n
        bone = BONE._replace(loss=rng.uniform(0.4, 1.8), impedance=rng.uniform(1.6, 3.5), echo=8)
        canvas.stroke(inside[arc], rng.uniform(0.9, 1.7), bone)


def _spine(canvas: Canvas, at: Place, r: float, turn: float, rng: np.random.Generator) -> None:
    """Three centres of ossification around the canal."""
    size = r * rng.uniform(0.045, 0.07)
    bone = BONE._replace(loss=rng.uniform(1.2, 2.6), impedance=3.5)
    canvas.fill(blob(at(0.73, 0), (0.13 * r, 0.13 * r), turn, rng), SOFT._replace(echo=-6))
    canvas.fill(blob(at(0.755, 0), (0.05 * r, 0.05 * r), turn, rng), FLUID)
    for back, left, long in ((0.62, 0.0, 1.25), (0.80, 0.12, 1.0), (0.80, -0.12, 1.0)):
        canvas.fill(
            blob(
                at(back, left),
                (size * rng.uniform(0.5, 0.8), size * long),
                turn + 200 * left + rng.normal(0, 12),
                rng,
                0.25,
            ),
            bone._replace(echo=rng.uniform(6, 13)),
        )


def head(canvas: Canvas, centre: np.ndarray, week: float, rng: np.random.Generator) -> None:
    """BPD: transverse head at the thalami, with midline echo, cavum, third ventricle and Sylvian fissures."""
    b = head_width(week) / 2 * rng.uniform(0.95, 1.05)
    a = b / rng.uniform(0.74, 0.84)
    turn = rng.choice([0.0, 180.0]) + rng.normal(0, 13)  # towards the forehead

    def at(front: float, side: float) -> np.ndarray:
        """A place in half axes."""
        return centre + a * front * unit(turn) + b * side * unit(turn + 90)

    outline = blob(centre, (a, b), turn, rng, 0.012)
    thick = 0.9 + 0.045 * week * rng.uniform(0.8, 1.2)
    canvas.fill(shrink(outline, 1 + rng.uniform(1.5, 3.5) / b), SOFT._replace(echo=-9, impedance=0.5))
    loss = rng.uniform(0.25, 0.5) * (1 + max(week - 22, 0) / 10)
    canvas.fill(outline, SKULL._replace(loss=loss), "BPD")
    inner = shrink(outline, 1 - thick / b)
    brain = BRAIN._replace(echo=-19 + rng.normal(0, 2))
    canvas.fill(inner, FLUID._replace(echo=-26, impedance=0.1, loss=0))
    canvas.fill(shrink(outline, 1 - (thick + rng.uniform(0.8, 2.5)) / b), brain)
    for _ in range(int(rng.integers(0, 3))):  # sutures: gaps of the skull
        k = int(rng.integers(0, len(outline)))
        canvas.stroke(np.array([outline[k], inner[k]]), rng.uniform(1.2, 3.0), SOFT)
    _convolutions(canvas, at, week, rng)
    for side in (-1, 1):
        canvas.fill(
            blob(at(-0.10, 0.24 * side), (0.20 * a, 0.19 * b), turn - 18 * side, rng, 0.05),
            CARTILAGE._replace(echo=brain.echo - 7, impedance=0.2),
        )
        sylvian = curve(
            [at(0.26, 0.66 * side), at(0.12, 0.60 * side), at(-0.04, 0.63 * side), at(-0.2, 0.72 * side)], 24
        )
        canvas.stroke(sylvian, rng.uniform(0.8, 1.6), FASCIA._replace(echo=-6, impedance=0.9))
        if rng.random() < 0.7:  # choroid plexus in the hind horn
            canvas.fill(
                blob(at(-0.46, 0.30 * side), (0.16 * a, 0.10 * b), turn + 160 * side, rng, 0.1),
                GUT._replace(echo=-8, mottle=2),
            )
    _midline(canvas, at, rng)
    across = rng.normal(0, 0.02)
    ends = np.array([at(across, -0.985), at(across, 0.985 - thick / b)])
    canvas.measures.append(Measure("BPD", "BPD", ends=ends))
    canvas.measures.append(Measure("BPD", "HC", centre=centre, axes=(a, b), angle=turn))


def _midline(canvas: Canvas, at: Place, rng: np.random.Generator) -> None:
    """The echo between the hemispheres, the cavum in its front third, the third ventricle between the thalami."""
    midline = FASCIA._replace(echo=rng.uniform(-6, -1), impedance=rng.uniform(0.9, 1.5))
    bow = rng.normal(0, 0.015)
    for first, last in ((0.9, 0.52), (0.26, 0.14), (-0.30, -0.9)):
        line = curve([at(first, bow), at((first + last) / 2, bow * 1.6), at(last, bow)], 20)
        canvas.stroke(line, rng.uniform(0.5, 0.9), midline)
    wall = FASCIA._replace(echo=-4, impedance=1.0)
    if rng.random() < 0.92:  # cavum septi pellucidi: a box that interrupts the front third of the midline
        half, wide = rng.uniform(0.10, 0.15), rng.uniform(0.06, 0.11)
        box = [at(0.39 + half, -wide), at(0.39 + half, wide), at(0.39 - half, wide), at(0.39 - half, -wide)]
        canvas.fill(np.array(box), FLUID)
        for side in (box[1:3], [box[3], box[0]]):
            canvas.stroke(np.array(side), 0.8, wall)
    slit = rng.uniform(0.012, 0.03)
    canvas.fill(np.array([at(0.12, -slit), at(0.12, slit), at(-0.26, slit), at(-0.26, -slit)]), FLUID)
    for sign in (-1, 1):
        canvas.stroke(np.array([at(0.12, slit * sign), at(-0.26, slit * sign)]), 0.7, wall)


def _convolutions(canvas: Canvas, at: Place, week: float, rng: np.random.Generator) -> None:
    """Sulci: short bright lines near the skull, more of them later in pregnancy."""
    for _ in range(int(max(week - 17, 2) * rng.uniform(0.5, 1.1))):
        angle = rng.uniform(0, 2 * math.pi)
        radius = rng.uniform(0.62, 0.86)
        turn = angle + rng.normal(0, 0.12)
        points = [
            at(q * math.cos(t), q * math.sin(t))
            for q, t in ((radius, angle), (radius - 0.09, turn), (radius - 0.14, turn + rng.normal(0, 0.15)))
        ]
        canvas.stroke(
            curve(points, 10), rng.uniform(0.6, 1.2), FASCIA._replace(echo=rng.uniform(-12, -5), impedance=0.6)
        )
