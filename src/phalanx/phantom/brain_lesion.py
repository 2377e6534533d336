"""Tumours of the brain: where they grow, their shape, their compartments, and how they push the brain aside."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .brain_grid import Grid, Point, noise_volumes, point, sample_noise, smooth_max, smooth_min
from .brain_head import Canvas, cavity

CLASSES = ("healthy", "glioma", "meningioma", "pituitary")
TUMOURS = CLASSES[1:]
SELLA = (0.0, 9.0, -23.0)
CELL = 2.4  # mm per cell of a lesion's noise
REACH = {"axial": (2, -36.0, 56.0), "coronal": (1, -56.0, 48.0), "sagittal": (0, -45.0, 45.0)}  # axis, mm of the slices


@dataclass(frozen=True)
class Lesion:
    """One tumour in three dimensions, in mm. Factors have no unit."""

    kind: str
    variant: str
    centre: Point
    radius: float
    stretch: Point
    rough: float  # irregularity of the border, over the radius
    oedema: float  # its reach outside the tumour, over the radius
    push: float  # shift of the brain at the border, over the radius
    second: Point  # centre of a second lobe or nodule
    second_radius: float
    side: float  # of the midline
    strength: float  # of the enhancement
    coarse: np.ndarray  # noise of about the radius
    fine: np.ndarray


def draw_lesion(rng: np.random.Generator, kind: str, planes: Sequence[str] = ()) -> Lesion:
    """A random tumour of one of :data:`TUMOURS`, whose middle is in the reach of slices of these planes."""
    side = 1.0 if rng.random() < 0.5 else -1.0
    radius = float(
        np.exp(rng.uniform(*np.log({"glioma": (13, 29), "meningioma": (12, 25), "pituitary": (8, 14.5)}[kind])))
    )
    stretch = point(rng.uniform(0.76, 1.28, 3))
    variant, centre, second, second_radius = "", SELLA, (0.0, 0.0, 0.0), 0.0
    rough, oedema, push = 0.06, 0.0, rng.uniform(0.15, 0.4)
    if kind == "glioma":
        variant = str(rng.choice(["ring", "ring", "ring", "solid", "solid", "diffuse"]))
        centre = _inside(rng, side, radius, planes)
        away = rng.normal(0, 1, 3)
        second = point(np.add(centre, away / np.linalg.norm(away) * radius * rng.uniform(0.75, 1.1)))
        second_radius = radius * rng.uniform(0.3, 0.6) * (rng.random() < 0.6)
        rough = rng.uniform(0.13, 0.3)
        oedema = rng.uniform(0.25, 1.1)
        push *= 0.8
    elif kind == "meningioma":
        variant = str(rng.choice(["convexity", "convexity", "falx", "base"]))
        centre = _on_dura(rng, side, radius, variant, planes)
        rough = rng.uniform(0.06, 0.17)
        oedema = float(rng.uniform(0.3, 0.9) if rng.random() < 0.4 else 0.0)
    else:
        variant = str(rng.choice(["round", "snowman", "snowman", "cystic"]))
        centre = (float(rng.normal(0, 1.2)), SELLA[1] + float(rng.normal(0, 1)), SELLA[2] + 0.45 * radius)
        second = (centre[0] + float(rng.normal(0, 1)), centre[1] + float(rng.normal(0, 1.5)), centre[2] + 1.1 * radius)
        second_radius = radius * rng.uniform(0.65, 1.0) * (variant == "snowman")
        rough = rng.uniform(0.05, 0.14)
    coarse, fine = noise_volumes(rng, 48, ((max(1.9 * radius / CELL, 4.0), 0.4), (2.8, 0.5)))
    return Lesion(
        kind, variant, centre, radius, stretch, rough, oedema, float(push), second, float(second_radius), side,
        rng.uniform(0.88, 1.2), coarse, fine,
    )  # fmt: skip


def _line(start: np.ndarray, end: np.ndarray, n: int) -> Grid:
    """Points on a line as a plane of one row."""
    x, y, z = (np.linspace(a, b, n, dtype=np.float32)[None] for a, b in zip(start, end, strict=True))
    return Grid("axial", 0.0, 1.0, (1, n), x, y, z)


def _inside(rng: np.random.Generator, side: float, radius: float, planes: Sequence[str]) -> Point:
    """A place in the white matter of a hemisphere, now and then in the cerebellum."""
    while True:
        if rng.random() < 0.9:
            place = np.array([side * rng.uniform(16, 46), rng.uniform(-58, 48), rng.uniform(-6, 48)])
        else:
            place = np.array([side * rng.uniform(4, 30), rng.uniform(-60, -38), rng.uniform(-38, -24)])
        depth = -float(cavity(_line(place, place, 1))[0, 0])
        if depth > 4 + 0.55 * radius and _reached(place, planes):
            return point(place)


def _reached(place: np.ndarray, planes: Sequence[str]) -> bool:
    """Whether slices of all these planes pass through a place."""
    return all(low <= place[axis] <= high for axis, low, high in map(REACH.__getitem__, planes))


def _on_dura(rng: np.random.Generator, side: float, radius: float, variant: str, planes: Sequence[str]) -> Point:
    """A place from which a tumour of this radius reaches the dura."""
    if variant == "falx":
        return side * (0.62 * radius + 0.5), float(rng.uniform(-52, 46)), float(rng.uniform(36, 50))
    while True:
        direction = rng.normal(0, 1, 3)
        if variant == "base":  # olfactory groove, sphenoid wing, petrous ridge
            direction = direction * (0.6, 0.7, 0.15) + (0.55 * side, 0.5, -0.45)
        else:
            direction[0] = side * abs(direction[0])
            direction[2] = abs(direction[2]) - 0.15
        direction /= np.linalg.norm(direction)
        start = np.array([0.0, -6.0, 4.0])
        line = _line(start, start + 110 * direction, 221)
        inside = cavity(line)[0]
        last = int(np.argmax(inside > 0))
        if last:
            place = start + direction * (last * 0.5 - 0.6 * radius)
            if abs(place[0]) > 4 and _reached(place, planes):
                return point(place)


def lesion_distance(lesion: Lesion, grid: Grid, inside: np.ndarray) -> np.ndarray:
    """Signed distance to the tumour without its oedema, in about mm, negative inside.

    Args:
        inside: signed distance to the cavity of the skull, which stops tumours of the meninges.
    """
    coarse, fine = sample_noise(lesion.coarse, grid, CELL), sample_noise(lesion.fine, grid, CELL)
    distance = _sphere(grid, lesion.centre, lesion.radius, lesion.stretch)
    if lesion.second_radius > 0:
        other = _sphere(grid, lesion.second, lesion.second_radius, (1, 1, 1))
        distance = smooth_min(distance, other, 2.5 if lesion.kind == "pituitary" else 4)
    border = np.float32(lesion.rough * lesion.radius)
    distance = distance + border * (coarse + 0.12 * fine * (lesion.kind == "glioma"))
    if lesion.kind == "meningioma":
        distance = smooth_max(distance, inside + 0.3, 2)
        if lesion.variant == "falx":
            distance = smooth_max(distance, 0.6 - np.float32(lesion.side) * grid.x, 2)
    elif lesion.kind == "glioma":
        distance = smooth_max(distance, inside + 2.5, 3)
    return np.broadcast_to(distance, grid.shape)


def _sphere(grid: Grid, centre: Point, radius: float, stretch: Point) -> np.ndarray:
    """Signed distance in mm to a sphere, or in about mm to an ellipsoid."""
    total = np.zeros((1, 1), np.float32)
    for values, c, s in zip((grid.x, grid.y, grid.z), centre, stretch, strict=True):
        total = total + np.square((values - np.float32(c)) / np.float32(s))
    return np.sqrt(total) - np.float32(radius)


def shift(lesion: Lesion, grid: Grid, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far the brain is pushed away in mm along rows and columns, float32[H, W] each; nothing at the skull."""
    axes = {"axial": (1, 0), "coronal": (2, 0), "sagittal": (2, 1)}[grid.plane]
    away = [values - np.float32(c) for values, c in zip((grid.x, grid.y, grid.z), lesion.centre, strict=True)]
    length = np.sqrt(np.square(away[0]) + np.square(away[1]) + np.square(away[2])) + np.float32(1e-3)
    reach = np.maximum(length - np.float32(lesion.radius), 0)
    amount = np.float32(lesion.push * lesion.radius) * np.exp(-reach / 26) * np.clip(-inside / 16, 0, 1)
    amount = amount * np.minimum(length / np.float32(lesion.radius), 1) / length
    row, column = axes
    return amount * away[row], amount * away[column]


def paint_oedema(canvas: Canvas, lesion: Lesion, distance: np.ndarray, white: np.ndarray) -> None:
    """Swelling around the tumour, which spreads along the white matter like fingers."""
    if lesion.oedema <= 0:
        return
    grid = canvas.grid
    coarse, fine = sample_noise(lesion.coarse, grid, CELL * 0.8), sample_noise(lesion.fine, grid, CELL * 2)
    reach = np.float32(lesion.oedema * lesion.radius)
    alpha = np.clip((reach * (1 + 0.5 * coarse + 0.25 * fine) - distance) * np.float32(1 / (0.5 * reach + 3)), 0, 1)
    alpha = alpha * np.clip(white * 1.25, 0.12, 1) * np.float32(0.85)
    canvas.image += alpha * (canvas.value("oedema") - canvas.image)


def paint_lesion(canvas: Canvas, lesion: Lesion, distance: np.ndarray, inside: np.ndarray) -> None:
    """The tumour itself over a finished head."""
    {"glioma": _glioma, "meningioma": _meningioma, "pituitary": _pituitary}[lesion.kind](
        canvas, lesion, distance, inside
    )


def _enhanced(canvas: Canvas, lesion: Lesion, tissue: str) -> np.float32:
    """A tissue's intensity, further from or nearer to that of grey matter as the patient takes up contrast agent."""
    grey = canvas.value("grey")
    return grey + (canvas.value(tissue) - grey) * np.float32(lesion.strength)


def _glioma(canvas: Canvas, lesion: Lesion, distance: np.ndarray, inside: np.ndarray) -> None:
    grid = canvas.grid
    coarse, fine = sample_noise(lesion.coarse, grid, CELL * 0.7), sample_noise(lesion.fine, grid, CELL)
    rim, solid = _enhanced(canvas, lesion, "rim"), _enhanced(canvas, lesion, "solid")
    necrosis = canvas.value("necrosis") * (1 + np.float32(0.12) * fine + np.float32(0.12) * coarse)
    if lesion.variant == "diffuse":
        value = canvas.value("diffuse") * (1 + np.float32(0.07) * coarse + np.float32(0.05) * fine)
        canvas.paint(distance, value, soft=0.25 * lesion.radius + 3, opacity=0.95)
        spots = np.maximum(distance + 0.35 * lesion.radius, 1.1 - fine - 0.4 * coarse)
        canvas.paint(spots, solid, opacity=0.35, soft=3)
        return
    if lesion.variant == "solid":
        mix = np.clip(0.62 + 0.42 * coarse + 0.28 * fine, 0, 1)
        canvas.paint(distance, necrosis + mix * (solid * (1 + np.float32(0.08) * fine) - necrosis), soft=3.0)
        return
    canvas.paint(distance, rim * (1 + np.float32(0.16) * coarse + np.float32(0.10) * fine), soft=2.4)
    wall = np.maximum(1.9 + 0.06 * lesion.radius + (0.5 + 0.05 * lesion.radius) * coarse + 0.45 * fine, 0.9)
    canvas.paint(distance + wall, necrosis, soft=2.6)
    septa = np.abs(coarse + 0.12 * fine - 0.6) * lesion.radius * 0.5 - 0.6
    canvas.paint(np.maximum(septa, distance + 1), rim, soft=2.2, opacity=0.6 * (lesion.second_radius > 0))


def _meningioma(canvas: Canvas, lesion: Lesion, distance: np.ndarray, inside: np.ndarray) -> None:
    grid = canvas.grid
    coarse, fine = sample_noise(lesion.coarse, grid, CELL), sample_noise(lesion.fine, grid, CELL)
    # a cleft of CSF and vessels between tumour and brain
    cleft = np.maximum(np.abs(distance - 0.9) - 0.5 - 0.5 * coarse, inside + 1)
    canvas.paint(cleft, "csf", opacity=0.65)
    bright = _enhanced(canvas, lesion, "meningioma")
    near = _sphere(grid, lesion.centre, lesion.radius, lesion.stretch) - np.float32(0.45 * lesion.radius + 4)
    sheet = np.abs(inside + 0.9) if lesion.variant != "falx" else np.maximum(np.abs(grid.x), inside)
    tail = np.maximum(sheet - np.clip(-near * 0.09, 0.2, 1.6), near)
    canvas.paint(np.broadcast_to(tail, grid.shape), bright * np.float32(0.95), soft=1.6)
    texture = 1 + np.float32(0.035) * coarse + np.float32(0.04) * fine
    canvas.paint(distance, bright * texture, soft=1.4)
    canvas.paint(np.maximum(distance + 3, 1.9 - fine), "calcium", opacity=0.4, soft=2)


def _pituitary(canvas: Canvas, lesion: Lesion, distance: np.ndarray, inside: np.ndarray) -> None:
    grid = canvas.grid
    coarse, fine = sample_noise(lesion.coarse, grid, CELL), sample_noise(lesion.fine, grid, CELL)
    cleft = np.abs(distance - 0.9) - 0.6
    canvas.paint(np.maximum(cleft, -20 - grid.z), "csf", opacity=0.6)
    value = _enhanced(canvas, lesion, "adenoma") * (1 + np.float32(0.05) * coarse + np.float32(0.05) * fine)
    canvas.paint(distance, value, soft=1.6)
    if lesion.variant == "cystic":
        hole = distance + 0.4 * lesion.radius + 0.25 * lesion.radius * coarse
        canvas.paint(hole, canvas.value("cyst"), soft=2.0, opacity=0.9)
