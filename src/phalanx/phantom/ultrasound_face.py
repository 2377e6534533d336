"""The 3-D class: a shaded surface of the fetal face from a volume scan, and surfaces that show no face.

A surface is a height over the image plane (x to the right, y down, z to the viewer; half the side is 1), the highest
of several bodies. It is lit from above and from the viewer, darker in hollows and with depth.
"""

import math

import cv2
import numpy as np

from .ultrasound_beam import tile

SIDE = 176  # of the heights
# across, down (of the half axes of the face), height, spread across and down; mirrored if across is not 0
FEATURES = (
    (0.0, -0.50, 0.07, 0.45, 0.25),  # forehead
    (0.34, -0.20, 0.045, 0.22, 0.07),  # brow
    (0.38, -0.04, -0.100, 0.17, 0.10),  # socket
    (0.38, -0.02, 0.085, 0.12, 0.07),  # closed lids
    (0.38, 0.03, -0.03, 0.13, 0.018),  # their slit
    (0.0, -0.06, 0.05, 0.08, 0.14),  # bridge of the nose
    (0.0, 0.20, 0.16, 0.11, 0.10),  # its tip
    (0.15, 0.24, 0.08, 0.075, 0.06),  # its wings
    (0.08, 0.31, -0.06, 0.042, 0.026),  # nostrils
    (0.0, 0.43, 0.085, 0.15, 0.048),  # upper lip
    (0.0, 0.49, -0.075, 0.17, 0.02),  # mouth
    (0.0, 0.55, 0.085, 0.12, 0.045),  # lower lip
    (0.0, 0.645, -0.04, 0.18, 0.035),
    (0.0, 0.76, 0.09, 0.17, 0.10),  # chin
    (0.52, 0.38, 0.14, 0.24, 0.24),  # cheeks
    (0.27, 0.40, -0.035, 0.04, 0.11),  # folds beside nose and mouth
)  # fmt: skip
FLOOR = -1.0  # height where there is no surface


def face(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A rendered face: float32[SIDE, SIDE] from 0 to 1, and bool[SIDE, SIDE], where the fetus is."""
    x, y = _plane()
    turn, yaw, pitch = math.radians(rng.normal(0, 26)), math.radians(rng.normal(0, 22)), rng.normal(0.0, 0.09)
    scale, (left, up) = rng.uniform(0.66, 0.98), rng.normal(0, 0.13, 2)
    u = ((x - left) * math.cos(turn) + (y - up) * math.sin(turn)) / scale
    v = (-(x - left) * math.sin(turn) + (y - up) * math.cos(turn)) / scale
    wide = rng.uniform(0.72, 0.84)
    jaw = 1 - 0.16 * np.clip(v, 0, 1) ** 2
    uneven = np.ones_like(u)
    for order in (2, 3, 4, 5):
        uneven += np.float32(rng.normal(0, 0.05 / order)) * np.cos(order * np.arctan2(v, u) + rng.uniform(0, 6))
    uneven += 0.02 * cv2.GaussianBlur(tile(2, u.shape, rng), (0, 0), 3)
    inside = uneven - (u / (wide * jaw)) ** 2 - (v / np.where(v < 0, np.float32(rng.uniform(0.8, 0.95)), 1)) ** 2
    height = 0.72 * np.sqrt(np.maximum(inside, 0))
    strength = rng.uniform(0.5, 1.6)
    for across, down, up_, sx, sy in FEATURES:
        for side in (-1, 1) if across else (1,):
            angle = math.asin(side * across) + yaw
            middle, broad = math.sin(angle) * wide, max(math.cos(angle), 0.3) * sx * wide
            spot = down + pitch
            height += np.float32(strength * up_) * np.exp(-0.5 * (((u - middle) / broad) ** 2 + ((v - spot) / sy) ** 2))
    surface = np.where(inside > 0, height * scale, FLOOR).astype(np.float32)
    angle = turn + math.pi / 2 + rng.normal(0, 0.3)
    neck = np.array([left, up]) + np.array([math.cos(angle), math.sin(angle)]) * scale * 0.95
    chest = neck + rng.normal(0, 0.3, 2) + np.array([0, 0.4])
    surface = _join(surface, _capsule(neck, chest, rng.uniform(0.35, 0.55), -0.2))
    if rng.random() < 0.5:
        surface = _hand(surface, np.array([left, up]), scale, rng)
    around = _surroundings(rng, rng.uniform(0.62, 0.95), left, up)
    fetus = (surface > FLOOR) & (surface >= around)
    return _shade(_join(surface, around), rng, rng.uniform(0.2, 0.8)), fetus


def lumps(rng: np.random.Generator) -> np.ndarray:
    """A rendered volume without a face: limbs, cord and placenta, float32[SIDE, SIDE] from 0 to 1."""
    surface = _surroundings(rng, rng.uniform(0.35, 0.9))
    if rng.random() < 0.5:  # a head from behind or above
        middle = rng.normal(0, 0.15, 2)
        surface = _join(surface, _capsule(middle, middle + rng.normal(0, 0.12, 2), rng.uniform(0.45, 0.7), -0.1))
    for _ in range(int(rng.integers(3, 8))):
        a = rng.uniform(-0.6, 0.6, 2)
        b = a + rng.normal(0, 0.35, 2)
        surface = _join(surface, _capsule(a, b, rng.uniform(0.1, 0.4), rng.uniform(-0.3, 0.2)))
    return _shade(surface, rng, rng.uniform(0.6, 1.8))


def _join(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The higher of two surfaces, rounded where they meet."""
    top, apart = np.maximum(one, other), np.abs(one - other)
    return top + np.float32(0.045) * np.exp(-apart * np.float32(16)) * (np.minimum(one, other) > FLOOR)


def _plane() -> tuple[np.ndarray, np.ndarray]:
    axis = np.linspace(-1, 1, SIDE, dtype=np.float32)
    return np.meshgrid(axis, axis)


def _capsule(a: np.ndarray, b: np.ndarray, radius: float, base: float) -> np.ndarray:
    """Height of a limb from a to b; FLOOR beside it."""
    x, y = _plane()
    along = b - a
    t = np.clip(((x - a[0]) * along[0] + (y - a[1]) * along[1]) / max(float(along @ along), 1e-6), 0, 1)
    square = radius**2 - (x - a[0] - t * along[0]) ** 2 - (y - a[1] - t * along[1]) ** 2
    return np.where(square > 0, base + np.sqrt(np.maximum(square, 0)), FLOOR).astype(np.float32)


def _hand(surface: np.ndarray, middle: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
    """The surface with an arm and fingers beside or before the face."""
    side = rng.choice([-1, 1])
    palm = middle + np.array([side * rng.uniform(0.5, 0.8), rng.uniform(-0.1, 0.55)]) * scale
    elbow = palm + np.array([side * rng.uniform(0.1, 0.5), rng.uniform(0.4, 0.7)])
    size = scale * rng.uniform(0.8, 1.1)
    surface = _join(surface, _capsule(elbow, palm, 0.2 * size, 0.15))
    surface = _join(surface, _capsule(palm, palm + np.array([0.05, -0.06]), 0.2 * size, 0.22))
    heading = -math.pi / 2 - side * rng.uniform(0.2, 0.9)
    for k in range(4):
        angle = heading + 0.24 * (k - 1.5) + rng.normal(0, 0.06)
        tip = palm + np.array([math.cos(angle), math.sin(angle)]) * rng.uniform(0.36, 0.44) * size
        surface = _join(surface, _capsule(palm + (tip - palm) * 0.4, tip, 0.068 * size, 0.32))
    return surface


def _surroundings(rng: np.random.Generator, distance: float, left: float = 0.0, up: float = 0.0) -> np.ndarray:
    """Ragged tissue around a hollow of about ``distance`` around ``left``, ``up``; here and there higher
    than a face."""
    x, y = _plane()
    radius = np.hypot((x - left) * rng.uniform(0.8, 1.1), (y - up) * rng.uniform(0.8, 1.1))
    radius = radius + np.float32(rng.normal(0, 0.14)) * (x - left) + np.float32(rng.normal(0, 0.14)) * (y - up)
    rough = 0.32 * cv2.GaussianBlur(tile(2, (SIDE, SIDE), rng), (0, 0), 9) * 2.6 + 0.03 * tile(1, (SIDE, SIDE), rng)
    height = -0.5 + 1.3 * (radius - distance) + 0.55 * rough
    there = (radius + 0.5 * rough > distance) & (height > FLOOR)
    return np.where(there, np.minimum(height, 0.45), FLOOR).astype(np.float32)


def _shade(surface: np.ndarray, rng: np.random.Generator, rough: float) -> np.ndarray:
    """float32[SIDE, SIDE] from 0 to 1: light, hollows and depth; black where there is no surface."""
    there = cv2.GaussianBlur((surface > FLOOR).astype(np.float32), (0, 0), rng.uniform(1.2, 2.2))
    grain = (
        0.011 * tile(1, surface.shape, rng) + 0.004 * tile(0, surface.shape, rng) + 0.02 * tile(2, surface.shape, rng)
    )
    height = np.maximum(surface, -0.8) + np.float32(rough) * grain
    height = cv2.GaussianBlur(height, (0, 0), rng.uniform(1.3, 2.2)) * np.float32(SIDE / 2)
    dx, dy = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=0.125)
    norm = np.sqrt(dx * dx + dy * dy + 1)
    aside, above = rng.normal(0, 0.4), rng.uniform(0.25, 0.8)
    light = np.maximum((-dx * aside + dy * above + 1.0) / (norm * math.sqrt(aside**2 + above**2 + 1)), 0)
    hollow = np.clip((height - cv2.GaussianBlur(height, (0, 0), 8)) / 8, -0.7, 0.3)
    depth = np.clip(0.72 + 0.0062 * height, 0.16, 1.05)
    grey = (0.06 + 0.66 * light**1.8 + 0.07 * (1 / norm) ** 6 + 0.5 * hollow) * depth
    grey *= 1 + 0.05 * tile(0, surface.shape, rng)
    return np.clip(grey * np.clip(1.6 * there - 0.5, 0, 1), 0, 1).astype(np.float32)
