"""Chest of an animal in side view: diaphragm, lungs, heart, great vessels, windpipe."""

import math
from dataclasses import dataclass

import numpy as np

from .pet_animal import Animal
from .pet_canvas import Canvas, band, closed, curve, moved, normals, oval, wobble

CARINA = 4.9  # where the windpipe divides, in u
WIDTHS = 220  # points along the windpipe


@dataclass(frozen=True)
class Heart:
    """``outline`` in u; ``score``: vertebral heart score, long and short axis added, in vertebrae."""

    outline: np.ndarray
    score: float


@dataclass(frozen=True)
class Trachea:
    """``path``: float64[N, 2], its midline from the neck to its fork; ``widths``: float64[N] in u."""

    path: np.ndarray
    widths: np.ndarray

    @property
    def outline(self) -> np.ndarray:
        """Its border."""
        return band(self.path, self.widths)


def diaphragm(animal: Animal, breath: float) -> np.ndarray:
    """The diaphragm from back to belly, float64[50, 2]; ``breath``: -1 breathed out to 1 breathed in."""
    d, move = animal.depth, 0.55 * breath
    tip = animal.sternum[-1]
    points = [
        (12.7 + 0.4 * move, animal.back(12.7) + 0.42), (11.5 + move, 0.23 * d), (9.9 + move, 0.42 * d),
        (8.85 + move, 0.61 * d), (8.55 + 0.9 * move, 0.76 * d), (8.75 + 0.6 * move, 0.87 * d),
        (tip[0] + 0.1, tip[1] - 0.28),
    ]  # fmt: skip
    return curve(points, 50)


def lung_outline(animal: Animal, wall: np.ndarray) -> np.ndarray:
    """The lungs in front of a diaphragm ``wall``."""
    back = [(x, animal.back(x) - 0.02) for x in np.linspace(12.2, 1.2, 12)]
    front = [
        (0.3, animal.back(0.3) + 0.75), (-0.25, 0.35 * animal.depth + 0.3), (-0.1, 0.45 * animal.depth + 0.45),
    ]  # fmt: skip
    floor = animal.sternum[6:39:4] - (0.0, 0.42)
    return np.concatenate([wall, floor[::-1], curve(front, 12)[::-1], np.array(back)[::-1]])


def draw_heart(animal: Animal, score: float, breath: float, left: bool, rng: np.random.Generator) -> Heart:
    """A heart of a given vertebral heart score: an egg from the fork of the windpipe to the breastbone.

    Its angle follows from the depth of the chest: upright in deep chests, lying in flat ones.
    """
    share = rng.uniform(0.545, 0.575)  # of the long axis
    long, short = score * share, score * (1 - share)
    base = np.array([CARINA - 0.25 - 0.22 * max(score - animal.vhs, 0), carina(animal, score)[1] + 0.28])
    steep = 0.5
    for _ in range(4):  # the apex rests on the breastbone
        x = base[0] + long * math.cos(steep)
        rest = float(np.interp(x - 0.3, animal.sternum[:, 0], animal.sternum[:, 1])) - 0.5
        steep = math.asin(min(max((rest - base[1]) / long, 0.35), 0.97))
    steep += math.radians(rng.normal(0, 2.0)) - (0.04 if left else 0.0)
    axis = np.array([math.cos(steep), math.sin(steep)])
    middle = base + axis * long / 2
    outline = oval((0, 0), (long / 2, short / 2), 0, 72, 0.13 if animal.species == "dog" else 0.2)
    frame = np.stack([axis, (-axis[1], axis[0])])
    outline = wobble(outline @ frame + middle + (0.12 * breath, 0.0), 0.022, rng)
    floor = np.interp(outline[:, 0], animal.sternum[:, 0], animal.sternum[:, 1]) - 0.4
    outline[:, 1] = np.minimum(outline[:, 1], floor)
    return Heart(outline, float(long + short))


def carina(animal: Animal, score: float) -> np.ndarray:
    """The fork of the windpipe; a large heart lifts it."""
    lift = 0.16 * max(score - animal.vhs, 0.0)
    return np.array([CARINA, max(0.36 * animal.depth + 0.22 - lift, animal.back(CARINA) + 1.15)])


def trachea_path(animal: Animal, score: float, rng: np.random.Generator) -> np.ndarray:
    """The midline of the windpipe from outside the image to its fork."""
    gap = 0.2 * animal.depth + rng.normal(0, 0.06)
    bend, end = rng.normal(0, 0.07, 2), carina(animal, score)
    neck = -3.0 + rng.uniform(-0.4, 0.4)
    points = [
        (-7.8, animal.back(-7.5) + 1.15 * gap), (neck - 2, animal.back(neck - 2) + 1.1 * gap + bend[0]),
        (neck, animal.back(neck) + gap + bend[1]), (-0.6, animal.back(-0.6) + gap * 0.97),
        (2.2, 0.45 * (animal.back(0) + gap) + 0.55 * end[1] - 0.12), (CARINA - 0.9, end[1] - 0.16), end,
    ]  # fmt: skip
    return curve(points, WIDTHS)


def draw_lungs(canvas: Canvas, animal: Animal, breath: float, left: bool, air: float) -> np.ndarray:
    """Air of both lungs; returns where it is, float32[F, F] from 0 to 1.

    The crura of the diaphragm part lying on the left, and run side by side on the right.
    """
    near = diaphragm(animal, breath)
    far = near + np.linspace(1, 0.25, len(near))[:, None] * ((-0.75, 0.05) if left else (0.42, 0.02))
    lungs = np.zeros((canvas.side, canvas.side), np.float32)
    for wall in (near, far):
        found = canvas.depth(lung_outline(animal, wall), 1.5, 0.05)
        if found:
            lungs[found[0]] += np.float32(0.5) * found[1]
    # the tips in front lie under shoulders and neck, where they fade
    middle = (np.arange(canvas.side, dtype=np.float32) - canvas.side / 2) / canvas.scale + canvas.view.centre[0]
    lungs *= np.clip((middle + 0.9) / 3.2, 0.25, 1).astype(np.float32)
    canvas.soft *= 1 - np.float32(air) * lungs
    return lungs


def draw_mediastinum(canvas: Canvas, animal: Animal, heart: Heart, lungs: np.ndarray, rng: np.random.Generator) -> None:
    """Heart, aorta, vena cava, and what lies in front of the heart; see :func:`draw_lungs` for ``lungs``."""
    d = animal.depth
    canvas.add_soft(heart.outline, 0.40, 0.45 * float(np.ptp(heart.outline[:, 1])), 0.06, lungs)
    canvas.add_soft(heart.outline, 0.04, 0.15, 0.05, lungs)
    root = heart.outline[np.argmin(heart.outline @ (1.0, 1.6))]
    arch = [moved(root, 0.1, 0.5), moved(root, 0.55, -0.35), (root[0] + 1.6, animal.back(root[0] + 1.6) + 1.0)]
    aorta = curve(np.array([*arch, *((x, animal.back(x) + 0.8) for x in (8.3, 10.3, 12.6, 14.5))]), 40)
    canvas.add_soft(band(aorta, np.linspace(0.98, 0.62, 40)), 0.15, 0.45, 0.07, lungs)
    back = heart.outline[np.argmax(heart.outline[:, 0] - 0.75 * heart.outline[:, 1])]
    cava = curve(np.array([moved(back, -0.6, 0.1), moved(back, 0.3, 0.05), (9.2, 0.54 * d), (10.2, 0.55 * d)]), 20)
    canvas.add_soft(band(cava, 0.66), 0.14, 0.33, 0.07, lungs)
    front = [
        (-0.9, 0.40 * d + 0.5), (0.6, 0.37 * d + 0.5), (2.4, 0.37 * d + 0.35), (3.6, 0.46 * d), (3.4, 0.62 * d),
        (1.6, 0.5 + 0.57 * d), (0.2, 0.5 + 0.5 * d),
    ]  # fmt: skip
    canvas.add_soft(wobble(closed(front, 50), 0.05, rng), 0.24 + 0.12 * animal.fat, 1.1, 0.22, lungs)
    roof = band(
        curve([(-0.5, animal.back(-0.5) + 0.75), (2.5, animal.back(2.5) + 0.72), (5.0, animal.back(5) + 0.7)], 14), 0.9
    )
    canvas.add_soft(roof, 0.10, 0.5, 0.15, lungs)


def draw_vessels(canvas: Canvas, animal: Animal, heart: Heart, breath: float, rng: np.random.Generator) -> None:
    """Vessels that branch from the root of the lungs towards the diaphragm, and a pair of each towards the front."""
    wall, d = diaphragm(animal, breath), animal.depth
    root = np.array([CARINA + 0.75, carina(animal, heart.score)[1] + 0.45])
    paths: list[np.ndarray] = []
    widths: list[np.ndarray] = []
    for target in np.linspace(0.03, 0.72, 11) + rng.normal(0, 0.02, 11):
        end = wall[int(np.clip(target, 0, 1) * 49)] - (0.35, 0.0)
        sag = (root + end) / 2 + rng.normal(0, 0.12, 2) + (0.0, -0.25)
        main = curve(np.array([root, sag, root + (end - root) * rng.uniform(0.8, 0.97)]), 14)
        paths.append(main)
        wide = float(rng.uniform(0.2, 0.34))
        widths.append(np.linspace(wide, 0.03, 14))
        for _ in range(int(rng.integers(2, 5))):
            k = int(rng.integers(4, 11))
            angle = math.atan2(*(main[k] - main[k - 1])[::-1]) + rng.choice([-1, 1]) * rng.uniform(0.3, 0.7)
            reach = rng.uniform(0.6, 1.6)
            tip = main[k] + reach * np.array([math.cos(angle), math.sin(angle)])
            paths.append(curve(np.array([main[k], (main[k] + tip) / 2 + rng.normal(0, 0.05, 2), tip]), 6))
            widths.append(np.linspace(wide * 0.35, 0.02, 6))
    for lower in (0.0, 0.42):
        end = np.array([1.0, 0.40 * d + 0.75 + lower])
        path = curve(np.array([root - (1.1, -0.15 - lower), (2.9, 0.40 * d + 0.45 + lower), end]), 12)
        paths.append(path)
        widths.append(np.linspace(0.26, 0.06, 12))
    for _ in range(16):  # seen end on
        at = wall[int(rng.integers(5, 34))] - (rng.uniform(0.5, 5.0), rng.uniform(-0.4, 0.4))
        if at[0] > CARINA + 0.3:
            paths.append(np.stack([at, at + 0.03]))
            widths.append(np.full(2, rng.uniform(0.07, 0.16)))
    layer = canvas.lines(paths, widths, 0.03)
    found = canvas.mask(lung_outline(animal, wall))
    if found:
        crop, mask = found
        canvas.soft[crop] += np.float32(0.085) * layer[crop] * mask


def draw_trachea(canvas: Canvas, trachea: Trachea, animal: Animal, strength: float) -> None:
    """The air of the windpipe, its wall and rings, and the main bronchi behind its fork."""
    outline = trachea.outline
    canvas.add_soft(band(trachea.path, trachea.widths + 0.16), 0.05, 0.16, 0.02)
    found = canvas.depth(outline, 0.42 * float(np.median(trachea.widths)), 0.015)
    if found:  # seen as well in the neck, where the window of the film is steeper
        crop, profile = found
        canvas.soft[crop] -= np.float32(strength) * profile * (0.55 + 0.85 * canvas.soft[crop])
    end = trachea.path[-1]
    width = float(np.median(trachea.widths))
    for low, reach in ((0.10, 1.6), (0.42, 1.15)):
        path = curve(np.array([moved(end, -0.25, 0.0), moved(end, 0.5, low), moved(end, reach, low + 0.28)]), 10)
        canvas.add_soft(band(path, np.linspace(0.72 * width, 0.3 * width, 10)), -0.45 * strength, 0.2, 0.05)
    canvas.add_soft(oval((end[0] + 0.28, end[1] + 0.12), (0.26 * width, 0.26 * width)), -0.4 * strength, 0.2, 0.03)
    rings = 0.05 * animal.old
    if rings > 0.01:
        step = max(int(0.28 / float(np.hypot(*(trachea.path[1] - trachea.path[0])))), 2)
        half = trachea.widths[:, None] / 2 * normals(trachea.path)
        for k in range(0, len(trachea.path) - 3, step):
            piece = np.stack([trachea.path[k] + half[k], trachea.path[k] - half[k]])
            canvas.add_bone(band(piece, 0.07), rings * 1.4, 0.03, 0.06)
