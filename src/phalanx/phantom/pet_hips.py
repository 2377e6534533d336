"""Pelvis and both thighs from below (ventrodorsal view), with hip joints that fit or are dysplastic.

Lengths are in the same unit as elsewhere (u), x from one side to the other, y from head to tail, the origin in the
middle of the sacrum.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .pet_canvas import Canvas, Outline, band, closed, curve, moved, oval, rod, wobble
from .pet_torso import hair

Put = Callable[..., None]  # draws a bone on one side of the pelvis
HEAD = 0.78  # radius of a femoral head


@dataclass(frozen=True)
class Hip:
    """One hip joint. ``angle``: Norberg angle in degrees; ``cover``: fraction of the head inside its socket;
    ``gap``: how far the head has moved out of it in u; ``outline``: what its box encloses, head and socket."""

    angle: float
    cover: float
    gap: float
    arthrosis: float
    outline: np.ndarray


@dataclass(frozen=True)
class HipShape:
    """What is common to both sides of one animal. ``reach``: from the middle to the sockets, ``drop``: behind the
    sacrum, in u."""

    reach: float
    drop: float
    thick: float
    density: float
    fat: float
    cat: bool


def draw_shape(rng: np.random.Generator) -> HipShape:
    """A random pelvis."""
    cat = bool(rng.random() < 0.2)
    return HipShape(
        reach=float(rng.uniform(2.3, 2.75)), drop=float(rng.uniform(3.2, 3.8)),
        thick=float(rng.uniform(0.85, 1.15)) * (0.85 if cat else 1.0), density=float(rng.uniform(0.85, 1.25)),
        fat=float(rng.beta(2, 2.5)), cat=cat,
    )  # fmt: skip


def draw_pelvis(
    canvas: Canvas, shape: HipShape, dysplasia: "tuple[float, float]", rng: np.random.Generator
) -> list[Hip]:
    """Everything in the view; ``dysplasia``: of the left and the right side of the image, 0 for a normal hip to 1."""
    _flesh(canvas, shape, rng)
    _spine(canvas, shape, rng)
    hips = []
    for side, grade in zip((-1, 1), dysplasia, strict=True):
        hips.append(_half(canvas, shape, side, grade, rng))
    return hips


def _flesh(canvas: Canvas, shape: HipShape, rng: np.random.Generator) -> None:
    """Belly, buttocks, thighs and tail."""
    w = shape.reach + 2.1 + 0.9 * shape.fat
    waist = w * rng.uniform(0.68, 0.8)
    half = [(waist, -9), (waist, -4), (w * 0.82, -1.5), (w, 2.2), (w * 1.03, 5), (w * 0.93, 9), (w * 0.85, 14)]
    right = curve(np.array(half), 50)
    outline = np.concatenate([right, (right * (-1, 1))[::-1]])
    outline = wobble(outline, 0.04, rng)
    canvas.add_soft(outline, 0.72, 2.6, 0.08)
    canvas.add_soft(outline, 0.08, 0.15, 0.0)
    cleft = np.array([(0.0, 5.4), (0.5, 8), (0.85, 15), (-0.85, 15), (-0.5, 8)])
    canvas.add_soft(cleft, -0.45, 0.9, 0.3)
    canvas.add_soft(
        band(curve([(0, 1.0), (0, 5), (rng.normal(0, 0.2), 9)], 20), np.linspace(1.5, 0.7, 20)), 0.2, 0.6, 0.1
    )
    hair(canvas, outline, rng)
    rectum = curve(np.array([(0.3, -5), (0.2, -1), (0.0, 2.5), (0, 4.6)]) + rng.normal(0, 0.15, (4, 2)), 30)
    canvas.add_soft(band(rectum, rng.uniform(0.7, 1.2)), rng.uniform(-0.14, 0.1), 0.5, 0.12)
    for _ in range(7):
        at = np.array([rng.uniform(-0.75, 0.75) * waist, rng.uniform(-8, -2.5)])
        loop = curve(at + rng.normal(0, 0.8, (4, 2)), 16)
        canvas.add_soft(band(loop, rng.uniform(0.6, 1.0)), rng.uniform(-0.1, 0.08), 0.4, 0.08)


def _spine(canvas: Canvas, shape: HipShape, rng: np.random.Generator) -> None:
    """Last lumbar vertebrae, sacrum, tail."""
    t, dens = shape.thick, shape.density
    for k in range(5):
        y, tall = -1.55 - 1.28 * k, 1.14
        body = np.array(
            [(-0.52, -tall / 2), (0.52, -tall / 2), (0.46, 0), (0.54, tall / 2), (-0.54, tall / 2), (-0.46, 0)]
        ) * (t, 1) + (0, y)
        canvas.add_bone(body, 0.36 * dens, 0.07, 0.45)
        canvas.add_bone(band(np.array([(0.0, y - 0.15), (0.0, y + 0.5)]), 0.2), 0.4 * dens, 0.05)
        for side in (-1, 1):
            wing = np.array(
                [(0.4, -0.1), (1.55 - 0.1 * (k == 0), -0.62), (1.7 - 0.1 * (k == 0), -0.52), (0.45, 0.28)]
            ) * (side * t, 1) + (0, y)
            canvas.add_bone(wing, 0.22 * dens, 0.05, 0.12)
            canvas.add_bone(oval((side * 0.48 * t, y + 0.6), (0.17, 0.26)), 0.3 * dens, 0.05, 0.15)
    sacrum = np.array(
        [
            (-0.95, -0.8),
            (0.95, -0.8),
            (1.15, -0.3),
            (0.75, 0.55),
            (0.5, 1.6),
            (0.33, 1.85),
            (-0.33, 1.85),
            (-0.5, 1.6),
            (-0.75, 0.55),
            (-1.15, -0.3),
        ]
    ) * (t, 1)
    canvas.add_bone(closed(sacrum, 50), 0.3 * dens, 0.06, 0.4)
    for y in (-0.1, 0.65, 1.3):
        canvas.add_bone(band(np.array([(0.0, y - 0.25), (0.0, y + 0.15)]), 0.2), 0.35 * dens, 0.05)
    bend = rng.normal(0, 0.06)
    for k in range(9):
        y = 2.35 + 0.82 * k
        wide = 0.3 * (1 - 0.06 * k) * t
        piece = np.array(
            [(-wide, -0.34), (wide, -0.34), (0.7 * wide, 0), (wide, 0.34), (-wide, 0.34), (-0.7 * wide, 0)]
        )
        canvas.add_bone(piece + np.array([bend * k, y]), 0.34 * dens, 0.06, 0.25)


def _half(canvas: Canvas, shape: HipShape, side: int, grade: float, rng: np.random.Generator) -> Hip:
    """One side of the pelvis with its femur. ``side``: -1 left in the image, 1 right."""
    t, dens = shape.thick, shape.density
    flip = np.array([side, 1.0])
    socket = np.array([shape.reach, shape.drop]) + rng.normal(0, 0.04, 2)  # mirrored by flip when drawn

    def put(shapes: Outline, amount: float, wall: float, edge: float | None = None) -> None:
        parts = shapes if isinstance(shapes, list) else [shapes]
        canvas.add_bone([part * flip for part in parts], amount * dens, wall, edge)

    x, y = socket
    ilium = [
        (0.95 * t, -0.55), (1.25, -1.6), (1.75, -2.35), (2.35, -2.25), (2.55, -1.5), (2.2, 0.1), (x - 0.35, y - 1.5),
        (x + 0.42, y - 0.88), (x - 0.2, y - 0.35), (x - 0.95, y - 0.3), (x - 1.1, y - 1.5), (1.35, 0.6), (0.9 * t, 0.5),
    ]  # fmt: skip
    rods = (
        ([(x - 0.75, y + 0.1), (x - 1.55, y + 0.55), (0.42, y + 0.75), (0.3, y + 1.2)], 0.62),  # pubis
        ([(0.3, y + 0.7), (0.28, y + 1.8), (0.35, y + 2.9)], 0.62),  # along the symphysis
        ([(x - 0.55, y + 0.1), (x - 0.5, y + 1.6), (x - 0.25, y + 2.75)], 0.72),  # ischium
        ([(0.35, y + 2.75), (1.1, y + 3.0), (x - 0.2, y + 2.7), (x + 0.3, y + 2.6)], 0.72),
    )
    put([closed(ilium, 70), *(rod(curve(path, 24), width * t) for path, width in rods)], 0.3, 0.09, 0.32)
    hip, head = _joint(put, shape, socket, grade, rng)
    _femur(put, shape, head, hip.outline[:48], grade, rng)
    return Hip(hip.angle, hip.cover, hip.gap, hip.arthrosis, hip.outline * flip)


def _joint(
    put: Put, shape: HipShape, socket: np.ndarray, grade: float, rng: np.random.Generator
) -> tuple[Hip, np.ndarray]:
    """The socket and the head in it, or partly out of it; returns both on the right side of the image."""
    r = HEAD * shape.thick * rng.uniform(0.95, 1.05)
    sick = grade > 0
    angle = float(rng.uniform(106, 115)) if not sick else float(104 - 8 - 22 * grade + rng.normal(0, 1.0))
    gap = float(rng.uniform(0.0, 0.05)) if not sick else float((0.16 + 0.62 * grade) * rng.uniform(0.9, 1.1))
    head = socket + np.array([gap * r / HEAD * 1.0, -0.25 * gap])
    # the rim lies where the line from the middle of the head makes the Norberg angle with the line through both heads
    turn = math.radians(180 - angle)
    rim = head + (r + 0.1) * np.array([math.cos(turn), -math.sin(turn)])
    depth = r * (1.12 - (0.28 * grade if sick else 0.0))
    floor = socket - (depth * 0.97, -0.05)
    front = moved(socket, -0.55 * r, -1.05 * r)
    rear = moved(socket, -0.35 * r, 1.12 * r)
    wall = curve(np.array([rim, (rim + front) / 2 + (0, -0.07 * r * (1 - 0.6 * grade)), front, floor, rear]), 40)
    put(rod(wall, 0.2 * shape.thick), 0.55, 0.07, 0.12)
    back = curve(
        np.array([moved(socket, 0.42 * r, -0.7 * r), moved(socket, 0.15 * r, 0.1), moved(socket, 0.3 * r, 0.95 * r)]),
        20,
    )
    put(rod(back, 0.2), 0.3, 0.05, 0.1)
    wear = float(rng.uniform(0, 1) * grade)
    flat = 1 - 0.14 * wear
    ball = wobble(oval((float(head[0]), float(head[1])), (r * flat, r), 20, 48), 0.012 + 0.03 * wear, rng)
    put(ball, 0.13, 0.07, r)
    for _ in range(int(5 * wear)):  # spurs
        at = head + r * np.array([rng.uniform(0.2, 0.9), rng.choice([-1, 1]) * rng.uniform(0.5, 0.9)])
        put(
            wobble(oval((float(at[0]), float(at[1])), (0.14, 0.09), rng.uniform(0, 180), 14), 0.02, rng), 0.4, 0.06, 0.1
        )
    # covered: the part of the head on the inner side of the line from the rim across it
    h = float(np.clip((rim[0] - head[0]) / r, -1, 1))
    cover = (math.pi - math.acos(h) + h * math.sqrt(1 - h * h)) / math.pi
    ring = np.concatenate([ball, wall])
    return Hip(angle, round(float(cover), 3), gap, wear, ring), head


def _femur(
    put: Put, shape: HipShape, head: np.ndarray, ball: np.ndarray, grade: float, rng: np.random.Generator
) -> None:
    """Neck, trochanter and shaft of a femur, straight back; a dysplastic hip has a straighter, thicker neck."""
    t = shape.thick
    lean = rng.normal(0.0, 0.25)
    root = moved(head, 1.45 * t, 1.25)
    neck = curve([moved(head, 0.1, 0.05), (head + root) / 2 + (0.05, -0.1), moved(root, 0.1, 0.15)], 16)
    knee = root + np.array([-0.2 + lean, 9.0])
    shaft = curve(np.array([moved(root, 0.05, -0.3), moved(root, 0.0, 1.2), (root + knee) / 2 + (0.12, 0), knee]), 50)
    u = np.linspace(0, 1, 50)
    width = t * (0.92 + 0.3 * np.exp(-(((u - 0.06) / 0.09) ** 2)) + 0.7 * np.exp(-(((1 - u) / 0.1) ** 2)))
    thick = np.linspace(0.95, 1.3, 16) * t * (1 + 0.15 * grade)
    trochanter = root + np.array([(-0.25, 0.6), (-0.1, -0.65), (0.3, -1.1), (0.62, -0.55), (0.58, 0.9)])
    put([ball, rod(neck, thick), rod(shaft, width), closed(trochanter, 30)], 0.26, 0.15 * t, 0.48 * t)
    put(closed(trochanter, 30), 0.09, 0.06, 0.35)
    put(oval((float(root[0] - 0.62 * t), float(root[1] + 1.05)), (0.26, 0.36), 20), 0.14, 0.05, 0.25)
    crest = curve([moved(root, -0.35, -0.35), moved(root, -0.1, 0.3), moved(root, -0.4, 0.95)], 12)
    put(rod(crest, 0.12), 0.2, 0.04, 0.08)
