"""Long bones of a limb, whole or broken.

A bone is rendered straight, cut along the line of its fracture, and its pieces are moved. Lengths are in u, x across
and y along the limb.
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np

from .pet_canvas import Canvas, band, curve, oval, rod, wobble
from .pet_torso import hair


class Form(NamedTuple):
    """Width of a shaft, what it is wider by at its upper and lower end, how far the ends reach, and its bend."""

    shaft: float
    top: float
    bottom: float
    top_reach: float
    bottom_reach: float
    bend: float


LENGTH = 8.6
BONES = {  # of a limb: forms with their places across it
    "femur": ((Form(0.95, 0.85, 0.95, 0.11, 0.13, 0.35), 0.0),),
    "humerus": ((Form(0.98, 1.0, 0.75, 0.17, 0.11, 0.45), 0.0),),
    "tibia": ((Form(0.85, 1.15, 0.45, 0.16, 0.09, 0.4), 0.0), (Form(0.24, 0.16, 0.16, 0.06, 0.06, 0.1), 0.95)),
    "radius": ((Form(0.72, 0.32, 0.6, 0.08, 0.11, 0.35), 0.0), (Form(0.52, 0.45, -0.2, 0.2, 0.1, -0.2), 0.82)),
}
SLOPES = {  # of the line across the bone
    "transverse": (0.0, 0.25), "oblique": (0.6, 1.3), "spiral": (1.6, 2.6), "comminuted": (0.3, 1.0),
    "hairline": (0.2, 1.8),
}  # fmt: skip


@dataclass(frozen=True)
class Fracture:
    """``outline``: what its box encloses in u; ``at``: its place along the bone, 0 to 1."""

    kind: str
    at: float
    shift: float
    angle: float
    outline: np.ndarray


def draw_limb(canvas: Canvas, bone: str, broken: bool, young: bool, rng: np.random.Generator) -> Fracture | None:
    """A limb around a long bone, or two side by side; the fracture if there is one, in both bones or the first."""
    thick, density = float(rng.uniform(0.8, 1.2)), float(rng.uniform(0.85, 1.25))
    _flesh(canvas, bone, thick, rng)
    _neighbours(canvas, thick, density, rng)
    found: list[Fracture] = []
    plan = _plan(rng) if broken else None
    for k, (form, place) in enumerate(BONES[bone]):
        straight = _straight(canvas, form, thick, density, young, rng)
        own = plan if k == 0 or (plan is not None and rng.random() < 0.6) else None
        laid = _lay(canvas, straight, form, place * thick, own, thick, rng)
        found += [laid] if laid else []
    if not found:
        return None
    return replace(found[0], outline=np.concatenate([each.outline for each in found]))


def _flesh(canvas: Canvas, bone: str, thick: float, rng: np.random.Generator) -> None:
    """Muscle around the bone, thicker at the body's end."""
    upper = rng.uniform(2.2, 3.3) if bone in ("femur", "humerus") else rng.uniform(1.6, 2.3)
    lower = upper * rng.uniform(0.5, 0.7)
    right = curve(
        np.array(
            [
                (upper * 1.35, -9),
                (upper * 1.1, -4),
                (upper * 0.95, -1),
                (lower * 1.05, 3),
                (lower * 0.95, 5),
                (lower * 0.9, 9),
            ]
        ),
        40,
    )
    left = curve(
        np.array([(-upper * 1.2, -9), (-upper, -4), (-upper * 0.9, -1), (-lower, 3), (-lower, 5), (-lower * 0.95, 9)]),
        40,
    )
    outline = wobble(np.concatenate([right, left[::-1]]), 0.06, rng) * (thick, 1.0)
    canvas.add_soft(outline, 0.5, 0.75 * lower, 0.05)
    canvas.add_soft(outline, 0.06, 0.1, 0.0)
    muscle = curve(np.array([(0.4, -7), (0.9, -3), (0.6, 1), (0.2, 5)]) + rng.normal(0, 0.2, (4, 2)), 30)
    canvas.add_soft(band(muscle, np.linspace(1.8, 0.8, 30)), 0.07, 0.7, 0.15)
    hair(canvas, outline, rng)


def _neighbours(canvas: Canvas, thick: float, density: float, rng: np.random.Generator) -> None:
    """Ends of the bones of both joints."""
    for sign in (-1, 1):
        y = sign * (LENGTH / 2 + 0.42)
        wide = rng.uniform(1.35, 1.8) * thick
        path = curve(
            np.array(
                [(rng.normal(0, 0.05), y + sign * 0.1), (0.1, y + sign * 1.5), (rng.normal(0.2, 0.4), y + sign * 6)]
            ),
            24,
        )
        canvas.add_bone(
            rod(path, np.interp(np.linspace(0, 1, 24), [0, 0.25, 1], [wide, 0.62 * wide, 0.5 * wide])),
            0.3 * density,
            0.13,
            None,
        )
    for _ in range(int(rng.integers(0, 3))):  # kneecap, sesamoids
        sign = rng.choice([-1, 1])
        at = (sign * rng.uniform(0.9, 1.25) * thick, LENGTH / 2 * rng.choice([-1, 1]) + rng.normal(0, 0.2))
        canvas.add_bone(oval((float(at[0]), float(at[1])), (0.22, 0.4), rng.uniform(-15, 15), 24), 0.3 * density, 0.06)


def _straight(
    canvas: Canvas, form: Form, thick: float, density: float, young: bool, rng: np.random.Generator
) -> np.ndarray:
    """A straight bone, upright in the middle of a film of its own: its attenuation float32[H, W]."""
    u = np.linspace(0, 1, 80)
    flare = form.top * np.exp(-((u / form.top_reach) ** 2)) + form.bottom * np.exp(
        -(((1 - u) / form.bottom_reach) ** 2)
    )
    cap = np.sqrt(np.clip(1 - (1 - np.minimum(u, 1 - u) / 0.045) ** 2, 0, 1)) * 0.35 + 0.65
    width = (form.shaft + flare) * thick * np.where(np.minimum(u, 1 - u) < 0.045, cap, 1.0)
    width *= 1 + 0.02 * np.sin(u * rng.uniform(8, 20) + rng.uniform(0, 6))
    y = (u - 0.5) * LENGTH
    outline = np.concatenate([np.stack([width / 2, y], 1), np.stack([-width / 2, y], 1)[::-1]])
    scale = canvas.scale
    half = np.array([float(width.max()) / 2 + 0.3, LENGTH / 2 + 0.3])
    wide, high = np.ceil(half * 2 * scale).astype(int)
    points = (outline + half) * scale
    mask = np.zeros((high, wide), np.uint8)
    cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 1, shift=4)
    x = (np.arange(wide, dtype=np.float32) / scale - half[0])[None]
    at = (np.arange(high, dtype=np.float32) / scale - half[1]) / LENGTH + 0.5
    radius = np.interp(at, u, width / 2).astype(np.float32)[:, None]
    middle = np.clip(1.2 - 4.2 * (at - 0.5) ** 2 * 1.6, 0.12, 1)[:, None].astype(np.float32)
    wall = (0.05 + 0.17 * middle) * np.float32(thick) * min(form.shaft / 0.8, 1.15)
    outer = np.sqrt(np.maximum(radius**2 - x**2, 0))
    inner = np.sqrt(np.maximum(np.maximum(radius - wall, 0) ** 2 - x**2, 0))
    shown = (
        np.float32(0.46 * density)
        * (outer - (0.62 + 0.3 * middle) * inner)
        * np.minimum(0.9 / np.maximum(radius, 0.1), 1) ** 0.5
    )
    shown *= mask
    if young:  # growth plates: dark lines near both ends, which are no fractures
        for place in (0.085, 0.915):
            gap = np.abs(at[:, None] - place - 0.006 * np.sin(x * 4 + place)) * LENGTH
            shown *= 1 - np.float32(0.6) * np.exp(-((gap / 0.06) ** 2)).astype(np.float32)
    ends = np.exp(-((np.minimum(at, 1 - at) * LENGTH / 0.1) ** 2))[:, None].astype(np.float32)
    return shown * (1 + 0.3 * ends)


def _plan(rng: np.random.Generator) -> tuple[str, float, float, float, float]:
    """Kind of a fracture, its place, slope of its line, shift and angle of the lower piece."""
    kind = str(rng.choice(list(SLOPES), p=(0.25, 0.28, 0.17, 0.17, 0.13)))
    at = float(rng.uniform(0.22, 0.8) if kind in ("transverse", "hairline") else rng.uniform(0.32, 0.68))
    slope = rng.uniform(*SLOPES[kind]) * rng.choice([-1, 1])
    if kind == "hairline":
        return kind, at, float(slope), 0.0, 0.0
    shift = float(rng.uniform(0.1, 0.7) * rng.choice([-1, 1]))
    return kind, at, float(slope), shift, float(np.clip(rng.normal(0, 3.5), -6, 6))


def _lay(
    canvas: Canvas, straight: np.ndarray, form: Form, place: float,
    plan: "tuple[str, float, float, float, float] | None", thick: float, rng: np.random.Generator,
) -> Fracture | None:  # fmt: skip
    """Adds a straight bone to the film in one piece or in several."""
    scale, (high, wide) = canvas.scale, straight.shape
    half = np.array([wide, high]) / (2 * scale)
    if plan is None:
        _move(canvas, straight, half, form, place, 0.0, 0.0, 0.0, 0.0)
        return None
    kind, at, slope, shift, angle = plan
    x = np.arange(wide) / scale - half[0]
    y0 = (at - 0.5) * LENGTH
    jag = np.interp(x, np.linspace(-half[0], half[0], 13), rng.normal(0, 0.05, 13))
    line = y0 + slope * x + (0.35 * slope * np.sin(2.2 * x) if kind == "spiral" else 0) + jag
    rows = (np.arange(high) / scale - half[1])[:, None]
    gap = 0.035 if kind == "hairline" else rng.uniform(0.02, 0.1)
    soft = 0.5 / scale + 0.01
    upper = np.clip((line - gap / 2 - rows) / soft + 0.5, 0, 1).astype(np.float32)
    lower = np.clip((rows - line - gap / 2) / soft + 0.5, 0, 1).astype(np.float32)
    if kind == "hairline":
        fade = np.clip((x + half[0] * rng.uniform(-0.4, 0.2)) * 4, 0, 1) if rng.random() < 0.5 else np.ones(wide)
        keep = np.maximum(upper + lower, 1 - 0.75 * fade.astype(np.float32))
        _move(canvas, straight * keep, half, form, place, 0.0, 0.0, 0.0, 0.0)
        moved = [(line, 0.0, 0.0)]
    else:
        override = float(rng.uniform(0.0, 0.7)) if abs(shift) > 0.55 * form.shaft * thick else 0.0
        _move(canvas, straight * upper, half, form, place, 0.0, 0.0, 0.0, y0)
        _move(canvas, straight * lower, half, form, place, shift, -override, angle, y0)
        moved = [(line, 0.0, 0.0), (line, shift, -override)]
    radius = form.shaft * thick / 2 * (1.1 + 0.9 * (abs(at - 0.5) > 0.25))
    near = np.abs(x) <= radius
    base = _bent(form, place, y0)
    points = np.concatenate([np.stack([x[near] + base + dx, lines[near] + dy], 1) for lines, dx, dy in moved])
    if kind == "comminuted":
        points = np.concatenate([points, _splinters(canvas, np.array([base + shift / 2, y0]), thick, rng)])
    return Fracture(kind, at, shift, angle, np.concatenate([points - 0.22, points + 0.22]))


def _bent(form: Form, place: float, y: "np.ndarray | float") -> "np.ndarray | float":
    """Middle of a bone across the limb, at places along it."""
    return place + form.bend * (0.25 - (np.asarray(y) / LENGTH) ** 2)


def _move(
    canvas: Canvas, piece: np.ndarray, half: np.ndarray, form: Form, place: float, shift: float, slide: float,
    angle: float, pivot: float,
) -> None:  # fmt: skip
    """Adds a piece, bent as the bone is, turned about ``pivot`` and shifted."""
    scale, side = canvas.scale, canvas.side
    a = math.radians(angle)
    # from the film back to the piece: undo the view, the shift, the turn, the bend
    corners = canvas.place(np.array([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)]))
    basis = np.linalg.inv(np.stack([corners[1] - corners[0], corners[2] - corners[0]]))
    rows, columns = np.mgrid[0:side, 0:side].astype(np.float32)
    columns -= np.float32(corners[0][0])
    rows -= np.float32(corners[0][1])
    x = columns * np.float32(basis[0, 0]) + rows * np.float32(basis[1, 0]) - np.float32(shift)
    y = columns * np.float32(basis[0, 1]) + rows * np.float32(basis[1, 1]) - np.float32(slide + pivot)
    x -= np.float32(_bent(form, place, pivot))
    c, s = np.float32(math.cos(a)), np.float32(math.sin(a))
    x, y = c * x + s * y, c * y - s * x + np.float32(pivot)
    x += (
        np.float32(_bent(form, place, pivot))
        - np.float32(place)
        - np.float32(form.bend) * (np.float32(0.25) - (y / np.float32(LENGTH)) ** 2)
    )
    canvas.bone += cv2.remap(
        piece, (x + np.float32(half[0])) * np.float32(scale), (y + np.float32(half[1])) * np.float32(scale),
        cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0,
    )  # fmt: skip


def _splinters(canvas: Canvas, centre: np.ndarray, thick: float, rng: np.random.Generator) -> np.ndarray:
    """Loose pieces around a fracture; returns their points."""
    points = []
    for _ in range(int(rng.integers(2, 6))):
        at = centre + rng.normal(0, (0.42, 0.4)) * thick
        size = rng.uniform(0.12, 0.4) * thick
        shard = wobble(
            oval((float(at[0]), float(at[1])), (size, size * rng.uniform(0.3, 0.6)), rng.uniform(40, 140), 14),
            0.12 * size,
            rng,
        )
        canvas.add_bone(shard, rng.uniform(0.35, 0.6), 0.3 * size)
        points.append(shard)
    return np.concatenate(points)
