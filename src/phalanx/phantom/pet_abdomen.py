"""Belly of an animal in side view: liver, stomach, spleen, kidneys, bowel, bladder."""

from dataclasses import dataclass

import cv2
import numpy as np

from .pet_animal import Animal
from .pet_canvas import Canvas, band, closed, curve, moved, normals, oval, wobble
from .pet_thorax import diaphragm

INSIDE = 0.16  # u that a normal liver stays away from the costal arch, at least


@dataclass(frozen=True)
class Liver:
    """``outline`` in u; ``crossing``: how far it reaches beyond the costal arch in u, negative if it stays inside."""

    outline: np.ndarray
    crossing: float


def draw_liver(
    animal: Animal, breath: float, bulk: float, crossing: float, aim: float, rng: np.random.Generator
) -> Liver:
    """A liver behind the diaphragm.

    Args:
        bulk: 0 slim to 1 large; independent of the crossing.
        crossing: u by which its lower tip lies beyond the costal arch; negative for a liver inside.
        aim: 0 to 1, where along the arch the tip is: far in front, or far back.
    """
    wall, arch = diaphragm(animal, breath), animal.arch
    front = moved(wall[9:49], 0.12, 0.0)
    at = int(8 + 8 * aim + (8 if crossing > 0 else 6 * bulk))  # point of the arch that the tip is aimed at
    tip = arch[at] + normals(arch)[at] * crossing
    top = front[0] + (0.4 + 0.7 * bulk, 0.3)
    middle = (top + tip) / 2 + np.array([-1.05 + 2.0 * bulk, -0.25 + 0.15 * bulk])
    blunt = np.array([0.25 + 0.2 * bulk, -0.3])
    rear = curve([front[0], top, (top + middle) / 2 + (0.12, 0), middle, middle * 0.4 + tip * 0.6 + blunt, tip], 40)
    under = animal.sternum[-1] + (0.55, -0.4)
    belly = min(max(crossing, 0.0), 1.0) * 0.3
    floor = curve([tip, tip * 0.5 + under * 0.5 + (0.1, 0.05 + 0.1 * bulk + belly), under], 20)
    outline = np.concatenate([rear, floor[1:], front[::-1]])
    outline = wobble(_rounded(outline, 140), 0.03, rng)
    for _ in range(3):
        outline = _limited(animal, outline, -INSIDE if crossing <= 0 else crossing)
    return Liver(outline, float(animal.beyond_arch(outline).max()))


def _limited(animal: Animal, outline: np.ndarray, most: float) -> np.ndarray:
    """Points further than ``most`` beyond the arch moved back."""
    arch = animal.arch
    apart = outline[:, None] - arch[None]
    nearest = np.argmin((apart**2).sum(-1), axis=1)
    across = normals(arch)[nearest]
    over = (apart[np.arange(len(outline)), nearest] * across).sum(-1) - most
    return outline - across * np.maximum(over, 0)[:, None]


def _rounded(outline: np.ndarray, count: int) -> np.ndarray:
    """A closed outline in equal steps with its corners rounded."""
    closed = np.concatenate([outline, outline[:1]])
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    at = np.linspace(0, along[-1], count, endpoint=False)
    even = np.stack([np.interp(at, along, closed[:, k]) for k in (0, 1)], axis=1)
    kernel = np.array([1, 3, 4, 3, 1]) / 12
    return np.stack([np.convolve(np.pad(even[:, k], 2, mode="wrap"), kernel, mode="valid") for k in (0, 1)], axis=1)


def draw_organs(canvas: Canvas, animal: Animal, liver: Liver, left: bool, rng: np.random.Generator) -> np.ndarray:
    """Liver, stomach, spleen and kidneys; returns the outline of the stomach."""
    d = animal.depth
    cavity = _cavity(animal)
    canvas.add_soft(cavity, -0.10 - 0.10 * animal.fat, 1.2, 0.2)  # fat between the organs
    canvas.add_soft(liver.outline, 0.13 + 0.06 * animal.fat, 0.55, 0.035)
    stomach = _stomach(canvas, animal, liver, left, rng)
    for x, y, big in ((14.6, 0.21, 1.0), (16.6, 0.29, 1.05)):
        length = big * rng.uniform(1.15, 1.45)
        bean = oval(
            (x + rng.normal(0, 0.2), animal.back(x) + 0.55 + y * d), (length, length * 0.56), rng.uniform(-4, 14), 40
        )
        canvas.add_soft(wobble(bean, 0.03, rng), 0.10 + 0.07 * animal.fat, 0.55, 0.05)
    tongue = np.array(
        [(12.9, 0.80 * d), (14.6, 0.80 * d), (16.0, 0.86 * d), (14.8, 0.93 * d), (13.2, 0.92 * d)]
    ) + rng.normal(0, 0.15, 2)
    canvas.add_soft(wobble(closed(tongue, 40), 0.05, rng), 0.09 + 0.05 * animal.fat, 0.35, 0.05)
    return stomach


def _cavity(animal: Animal) -> np.ndarray:
    """The space behind the diaphragm."""
    d, tuck = animal.depth, 0.12 + 0.1 * (1 - animal.fat)
    top = [(x, animal.back(x) + 0.9) for x in (13, 16, 19, 22, 24)]
    low = [(24, 0.72 * d), (21.5, d * (0.97 - tuck)), (17.5, d * (1.0 - 0.75 * tuck)), (13.5, d * 1.0), (10, 0.98 * d)]
    return np.concatenate([curve(top, 20), curve(low, 30), diaphragm(animal, 0)[::-3]])


def _stomach(canvas: Canvas, animal: Animal, liver: Liver, left: bool, rng: np.random.Generator) -> np.ndarray:
    """Behind the liver and parallel to the ribs; lying on the right its gas is on top, on the left in its outlet."""
    d = animal.depth
    full = float(rng.beta(1.5, 2.2))
    half = 0.75 + 0.55 * full
    behind = liver.outline[np.abs(liver.outline[:, 1] - 0.45 * d) < 0.18 * d, 0].max()
    x = max(12.3, float(behind) + 0.62 * half)
    path = curve(np.array([(x - 0.4, 0.24 * d), (x + 0.1, 0.42 * d), (x + 0.2, 0.6 * d), (x - 0.5, 0.74 * d)]), 30)
    outline = wobble(
        _rounded(
            band(
                path, 2 * half * np.array(np.interp(np.linspace(0, 1, 30), [0, 0.25, 0.7, 1], [0.9, 1.1, 0.85, 0.55]))
            ),
            90,
        ),
        0.06,
        rng,
    )
    canvas.add_soft(outline, 0.10, 0.6, 0.05)
    found = canvas.depth(outline, 0.7, 0.08)
    if found and rng.random() < 0.55 * full + 0.2:  # food
        crop, profile = found
        canvas.soft[crop] += np.float32(0.10) * profile * _mottle(canvas, profile.shape, 0.28, rng)
    if rng.random() < 0.85:
        centre = path[int(rng.integers(2, 8))] if not left else path[int(rng.integers(19, 26))]
        size = rng.uniform(0.45, 0.95) * half
        gas = wobble(
            oval(tuple(centre), (size * rng.uniform(1.0, 1.5), size * 0.85), rng.uniform(40, 100), 50), 0.09, rng
        )
        canvas.add_soft(gas, -rng.uniform(0.16, 0.34), 0.55 * size, 0.05)
        folds = [
            curve(centre + rng.normal(0, 0.3 * size, 2) + size * np.array([(-0.8, -0.3), (0, 0.1), (0.8, 0.3)]), 8)
            for _ in range(4)
        ]
        found = canvas.mask(gas)
        if found:
            crop, mask = found
            canvas.soft[crop] += np.float32(0.06) * canvas.lines(folds, [np.full(8, 0.13)] * 4, 0.05)[crop] * mask
    return outline


def _mottle(canvas: Canvas, shape: tuple[int, ...], grain: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise float32 of about unit spread with lumps of ``grain`` u."""
    step = max(grain * canvas.scale / 2, 1.0)
    low = rng.standard_normal((int(shape[0] / step) + 4, int(shape[1] / step) + 4)).astype(np.float32)
    low = cv2.GaussianBlur(low, (0, 0), 0.8) * 2.2
    return cv2.resize(low, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


def draw_bowel(canvas: Canvas, animal: Animal, rng: np.random.Generator) -> None:
    """Loops of the small bowel in the middle of the belly, some with gas, and the large bowel under the spine."""
    _colon(canvas, animal, rng)
    d, wide = animal.depth, 0.62 if animal.species == "dog" else 0.55
    for _ in range(int(rng.integers(13, 19))):
        centre = np.array([rng.uniform(14.2, 20.6), d * rng.uniform(0.52, 0.86)])
        angle, reach = rng.uniform(0, np.pi), rng.uniform(0.7, 1.6)
        along = np.array([np.cos(angle), 0.7 * np.sin(angle)]) * reach
        across = np.array([-along[1], along[0]]) * rng.uniform(-0.8, 0.8)
        path = curve(
            np.array([centre - along, centre - along * 0.4 + across, centre + along * 0.4 + across, centre + along]), 22
        )
        width = wide * rng.uniform(0.85, 1.25)
        canvas.add_soft(band(path, width), 0.055 + 0.03 * animal.fat, width / 2, 0.04)
        if rng.random() < 0.4:
            part = path[int(rng.integers(0, 8)) : int(rng.integers(13, 22))]
            canvas.add_soft(band(part, width * rng.uniform(0.35, 0.7)), -rng.uniform(0.07, 0.2), width * 0.3, 0.05)


def _colon(canvas: Canvas, animal: Animal, rng: np.random.Generator) -> None:
    """The large bowel under the spine with its contents."""
    d = animal.depth
    path = curve(np.array([
        (14.9, 0.46 * d), (16.3, 0.37 * d), (18.6, animal.back(18.6) + 0.30 * d), (21.2, animal.back(21.2) + 0.29 * d),
        (23.6, animal.back(23.6) + 1.15), (26, animal.back(26) + 1.1),
    ]) + rng.normal(0, 0.12, (6, 2)), 50)  # fmt: skip
    fill = float(rng.uniform(0, 1))
    width = (0.75 + 0.6 * fill) * (1 + 0.1 * np.sin(np.linspace(0, rng.uniform(8, 20), 50) + rng.uniform(0, 6)))
    outline = band(path, width)
    canvas.add_soft(outline, 0.05, 0.4, 0.06)
    found = canvas.depth(outline, 0.4, 0.06)
    if found is None:
        return
    crop, profile = found
    canvas.soft[crop] += profile * (
        np.float32(0.14 * fill) + np.float32(0.07) * _mottle(canvas, profile.shape, 0.22, rng)
    )
    if rng.random() < 0.6:
        first = int(rng.integers(0, 30))
        canvas.add_soft(
            band(path[first : first + int(rng.integers(8, 18))], 0.6 * float(width.mean())),
            -rng.uniform(0.08, 0.2),
            0.3,
            0.07,
        )
    # bone meal in the faeces: bright grains outside the bladder, which are no stones
    for _ in range(int(rng.integers(0, 9)) if rng.random() < 0.35 else 0):
        at = path[int(rng.integers(4, 48))] + rng.normal(0, 0.2, 2)
        canvas.add_bone(
            wobble(oval(tuple(at), tuple(rng.uniform(0.05, 0.13, 2)), rng.uniform(0, 180), 12), 0.02, rng),
            0.35,
            0.04,
            0.1,
        )


def bladder_outline(animal: Animal, full: float, rng: np.random.Generator) -> np.ndarray:
    """A bladder in front of the pelvis; ``full``: 0 to 1."""
    d, tuck = animal.depth, 0.12 + 0.1 * (1 - animal.fat)
    long = 0.95 + 1.15 * full
    floor = d * (0.97 - tuck) - 0.25
    high = long * rng.uniform(0.62, 0.78)
    neck = np.array([23.3 + rng.normal(0, 0.15), floor - 0.45])
    turn = rng.uniform(-6, 12)
    centre = neck - (long * 0.95, 0.55 * high - 0.3)
    return wobble(oval((float(centre[0]), float(centre[1])), (long, high), turn, 56, 0.22), 0.02, rng)


def draw_bladder(canvas: Canvas, animal: Animal, outline: np.ndarray) -> None:
    """Urine, a little denser than the fat around it."""
    canvas.add_soft(outline, 0.12 + 0.07 * animal.fat, 0.8, 0.045)


def draw_stones(canvas: Canvas, outline: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Stones at the bottom or the middle of a bladder: one large or several small; returns their outlines."""
    low, high = outline.min(0), outline.max(0)
    middle, reach = (low + high) / 2, (high - low) / 2
    many = rng.random() < 0.5
    stones = []
    for _ in range(int(rng.integers(3, 10)) if many else int(rng.integers(1, 3))):
        radius = rng.uniform(0.09, 0.2) if many else rng.uniform(0.24, 0.5)
        radius = min(radius, 0.5 * float(reach.min()))
        at = middle + (reach - radius) * np.clip(rng.normal((0, 0.25), (0.28, 0.18)), -0.62, 0.62)
        stone = wobble(
            oval(tuple(at), (radius, radius * rng.uniform(0.7, 1.0)), rng.uniform(0, 180), 22), 0.08 * radius, rng
        )
        canvas.add_bone(stone, rng.uniform(0.25, 0.5), 0.6 * radius, radius)
        stones.append(stone)
    return stones
