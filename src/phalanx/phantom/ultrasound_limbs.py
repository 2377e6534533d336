"""Limbs of the fetus and the umbilical cord, lengthwise and across."""

import math

import numpy as np

from .ultrasound_anatomy import femur_length
from .ultrasound_canvas import (
    BLOOD,
    BONE,
    CARTILAGE,
    FASCIA,
    FAT,
    MUSCLE,
    SKIN,
    SOFT,
    Canvas,
    Measure,
    blob,
    curve,
    place,
    shrink,
    unit,
)


def thigh(canvas: Canvas, centre: np.ndarray, week: float, rng: np.random.Generator) -> None:
    """FL: a femur across the beam, its shadow, and the thigh around it."""
    length = femur_length(week) * rng.uniform(0.96, 1.05)
    turn = rng.normal(0, 19) + rng.choice([0, 180])
    half = length / 2
    girth = length * rng.uniform(0.22, 0.30)
    hip, knee = girth * rng.uniform(1.15, 1.5), girth * rng.uniform(0.62, 0.8)
    _flesh(canvas, centre, turn, (half, hip, girth, knee), rng)
    bow = rng.uniform(-0.01, 0.05) * length
    for end, size in ((-1, 0.085), (1, 0.10)) if rng.random() < 0.7 else ():  # the ends are still cartilage
        spot = place(np.array([[end * (half + 0.06 * length), bow * 0.1]]), centre, turn)[0]
        canvas.fill(blob(spot, (size * length, size * length * 1.15), turn, rng, 0.08), CARTILAGE)
    t, thick = np.linspace(-1, 1, 40), 0.042 * length + 1.1
    width = thick * (0.78 + 0.3 * np.abs(t) ** 4 + 0.05 * np.sin(5 * t + rng.uniform(0, 6)))
    width *= np.sqrt(np.clip((1 - np.abs(t)) / 0.06, 0.2, 1))
    middle = bow * (t * t - 1)
    edge = [np.stack([t * half, middle - width / 2], 1), np.stack([t * half, middle + width / 2], 1)[::-1]]
    bone = BONE._replace(echo=rng.uniform(7, 15), impedance=rng.uniform(2.4, 5), loss=rng.uniform(1.5, 8.0))
    canvas.fill(place(np.concatenate(edge), centre, turn), bone)
    upper = [(-half * 1.2, -girth * 1.02), (0, -girth), (half * 1.2, -knee)]
    around = curve([*upper, *((x, -y) for x, y in reversed(upper)), upper[0]], 60)
    canvas.mark(place(around, centre, turn), "FL")
    lift = 0.25 * math.copysign(thick, math.cos(math.radians(turn)))  # to the bright side, which is towards the probe
    ends = place(np.array([(-half, -lift), (half, -lift)]), centre, turn)
    canvas.measures.append(Measure("FL", "FL", ends=ends))


def _flesh(
    canvas: Canvas, centre: np.ndarray, turn: float, sizes: tuple[float, float, float, float], rng: np.random.Generator
) -> None:
    """Skin, fat and muscles of a thigh; ``sizes``: half length of the bone, half widths at hip, middle, knee in mm."""
    half, hip, girth, knee = sizes
    upper = [(-2.5, -hip * 0.3), (-2.2, -hip * 1.05), (-1.3, -hip), (0.0, -girth), (1.0, -knee), (1.6, -knee * 1.05)]
    upper = [(half * x, y) for x, y in [*upper, (2.0, -knee * 0.55)]]
    lower = [(x, -y * rng.uniform(0.92, 1.1)) for x, y in reversed(upper)]
    skin = place(curve([*upper, *lower, upper[0]], 80), centre, turn)
    canvas.fill(skin, SKIN._replace(echo=-5, impedance=0.8))
    canvas.fill(shrink(skin, 1 - 0.8 / girth), FAT._replace(echo=-7))
    muscle = MUSCLE._replace(echo=-12 + rng.normal(0, 1.5))
    canvas.fill(shrink(skin, 1 - rng.uniform(2.0, 4.5) / girth), muscle)
    for _ in range(int(rng.integers(5, 11))):  # sheaths between the muscles run along the bone
        y, x = rng.uniform(-0.75, 0.75) * girth, rng.uniform(-half, half * 0.5)
        long = rng.uniform(0.4, 1.4) * half
        line = curve([(x, y), (x + long / 2, y * rng.uniform(0.8, 1.15)), (x + long, y * 0.8)], 16)
        sheath = FASCIA._replace(echo=rng.uniform(-11, -5), impedance=0.65)
        canvas.stroke(place(line, centre, turn), rng.uniform(0.5, 1.0), sheath)


def limb_section(canvas: Canvas, centre: np.ndarray, radius: float, rng: np.random.Generator) -> None:
    """A limb cut across: skin, soft tissue, one or two bones with their shadow."""
    outline = blob(centre, (radius, radius * rng.uniform(0.7, 1.0)), rng.uniform(0, 180), rng, 0.06)
    canvas.fill(outline, SKIN._replace(echo=-6, impedance=0.7))
    canvas.unmark(outline)
    canvas.fill(shrink(outline, 1 - 1.0 / radius), MUSCLE._replace(echo=-10))
    apart = unit(rng.uniform(0, 360)) * radius * 0.3
    for sign in (-1, 1) if rng.random() < 0.25 else (0,):
        bone = BONE._replace(loss=rng.uniform(1.0, 2.6), impedance=3.5)
        canvas.fill(blob(centre + sign * apart, (radius * 0.2, radius * 0.16), rng.uniform(0, 180), rng, 0.1), bone)


def cord(canvas: Canvas, centre: np.ndarray, week: float, rng: np.random.Generator, across: float = 0.6) -> None:
    """Umbilical cord: vessels cut across, with a probability of ``across``, or a twisted length of it."""
    radius = 3.2 + 0.16 * (week - 16)
    jelly = SOFT._replace(echo=-13, impedance=0.42)
    if rng.random() < across:
        outline = blob(centre, (radius, radius), 0, rng, 0.05)
        canvas.fill(outline, jelly)
        canvas.unmark(outline)
        turn = rng.uniform(0, 360)
        for angle, out, size in ((0, 0.38, 0.40), (130, 0.52, 0.22), (230, 0.52, 0.22)):
            canvas.fill(blob(centre + radius * out * unit(turn + angle), (radius * size, radius * size), 0, rng), BLOOD)
        return
    turn, long = rng.uniform(-60, 60), radius * rng.uniform(3, 6)
    t = np.linspace(-1, 1, 50)
    middle = np.stack([t * long, radius * 0.6 * np.sin(2.2 * t + rng.uniform(0, 6))], axis=1)
    path = place(middle, centre, turn)
    canvas.stroke(path, 2 * radius, jelly)
    side = np.concatenate([path + unit(turn + 90) * radius, (path - unit(turn + 90) * radius)[::-1]])
    canvas.unmark(side)
    for phase, size in ((0.0, 0.6), (2.4, 0.36)):
        twist = place(middle + np.stack([0 * t, radius * 0.45 * np.sin(5 * t + phase)], axis=1), centre, turn)
        canvas.stroke(twist, radius * size, BLOOD)
