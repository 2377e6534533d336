"""Objects and faults in hand X-rays: rings, implants, nail art, side markers, dead detector borders.

Metal is added as attenuation, before the exposure; the noise band is drawn on the finished image.
"""

import math

import cv2
import numpy as np

from .anatomy import CANVAS, Bone, Hand

PROBABILITIES = {
    "noise_band": 0.10,
    "ring": 0.06,
    "implant": 0.03,
    "nail_art": 0.04,
    "marker": 0.15,
    "collimation": 0.08,
}
BAND = 80  # canvas pixels of white noise at the top and the left
METAL = 1.6  # attenuation of a ring or plate seen face on


def draw_faults(rng: np.random.Generator) -> list[str]:
    """Names of the faults of one image, each with its probability."""
    return [name for name, probability in PROBABILITIES.items() if rng.random() < probability]


def add_metal(attenuation: np.ndarray, hand: Hand, faults: list[str], rng: np.random.Generator) -> None:
    """Adds the attenuation of the faults that are in the beam to float32[S, S], in place."""
    size = len(attenuation)
    scale = size / CANVAS
    for name, paint in (("ring", _ring), ("implant", _implant), ("nail_art", _nail_art), ("marker", _marker)):
        if name in faults:
            mask = np.zeros((size, size), np.uint8)
            strength = paint(mask, hand, scale, rng)
            attenuation += mask * np.float32(strength / 255)
    if "collimation" in faults:
        # lead leaves narrow dark or bright margins
        edge = np.full((size, size), rng.choice([0.5, 1.0]), np.float32)
        left, right, top = (int(rng.uniform(0, 50) * scale) for _ in range(3))
        edge[top:, left : size - right] = 0
        attenuation += edge


def add_noise_band(image: np.ndarray, rng: np.random.Generator) -> None:
    """White noise over the top and left ``BAND`` canvas pixels of uint8[S, S], in place."""
    size = len(image)
    width = max(round(BAND * size / CANVAS), 1)
    low = int(rng.integers(0, 200))
    image[:width] = rng.integers(low, 256, (width, size))
    image[:, :width] = rng.integers(low, 256, (size, width))


def _ring(mask: np.ndarray, hand: Hand, scale: float, rng: np.random.Generator) -> float:
    """A band around a finger, seen from the side and a little from above."""
    bone = hand.bones[rng.choice(["finger-6", "finger-10", "finger-14", "finger-14", "finger-18"])]
    centre = bone.centre + bone.axis * bone.length * rng.uniform(-0.2, 0.0)
    radius = bone.width * rng.uniform(0.72, 0.88)
    height = rng.uniform(14, 34)
    axes = (radius * scale, max(radius * rng.uniform(0.04, 0.25) * scale, 0.7))
    angle = math.degrees(math.atan2(bone.axis[1], bone.axis[0])) + 90
    box = (tuple(float(v) for v in centre * scale), (2 * axes[0], 2 * axes[1]), angle)
    cv2.ellipse(mask, box, 255, max(round(height * scale), 1), cv2.LINE_AA)
    return METAL * rng.uniform(0.8, 1.6)


def _implant(mask: np.ndarray, hand: Hand, scale: float, rng: np.random.Generator) -> float:
    """A plate with screws, a wire or a bone screw."""
    bone = hand.bones[rng.choice(["finger-7", "finger-11", "finger-19", "finger-10", "finger-6", "Radius", "Scaphoid"])]
    kind = "screw" if bone.length < 200 else rng.choice(["plate", "plate", "wire"])
    centre, length = bone.centre, 0.5 * bone.length
    if bone.length > 1000:
        top = bone.outline[:, 1].min()
        centre, length = bone.outline[bone.outline[:, 1] < top + 400].mean(axis=0), 320.0
    across = bone.axis[::-1] * (1, -1)
    if kind == "plate":
        width = rng.uniform(26, 40)
        middle = centre + across * rng.uniform(-0.15, 0.15) * min(bone.width, 150)
        _line(mask, middle - bone.axis * length / 2, middle + bone.axis * length / 2, width, 170, scale)
        for at in np.linspace(-0.44, 0.44, int(rng.integers(4, 7))):
            hole = middle + bone.axis * length * at
            _line(
                mask,
                hole - across * width * 0.1,
                hole + across * bone.width * rng.uniform(0.1, 0.4),
                12,
                255,
                scale,
            )
            x, y = np.round(hole * scale * 16).astype(int)
            cv2.circle(mask, (int(x), int(y)), int(11 * scale * 16), 255, -1, cv2.LINE_AA, shift=4)
        return METAL * rng.uniform(1.0, 1.6)
    half = bone.axis * length * (0.9 if kind == "wire" else 0.6) + across * bone.width * rng.uniform(-0.4, 0.4)
    _line(mask, centre - half, centre + half, 9 if kind == "wire" else 22, 255, scale)
    return METAL * rng.uniform(1.0, 1.6)


def _nail_art(mask: np.ndarray, hand: Hand, scale: float, rng: np.random.Generator) -> float:
    """Small dense stones or lacquer on some nails."""
    for name in ("finger-1", "finger-4", "finger-8", "finger-12", "finger-16"):
        if rng.random() < 0.7:
            bone: Bone = hand.bones[name]
            centre = bone.centre + bone.axis * bone.length * rng.uniform(0.15, 0.4)
            for _ in range(int(rng.integers(1, 5))):
                x, y = np.round((centre + rng.normal(0, 14, 2)) * scale * 16).astype(int)
                radius = rng.uniform(4, 14)
                cv2.circle(mask, (int(x), int(y)), max(int(radius * scale * 16), 8), 255, -1, cv2.LINE_AA, shift=4)
    return rng.uniform(0.4, 1.3)


def _marker(mask: np.ndarray, hand: Hand, scale: float, rng: np.random.Generator) -> float:
    """A lead letter in an upper corner, on the side of the thumb where there is room."""
    letter = "R" if hand.right else "L"
    left = rng.random() < 0.5
    x = rng.uniform(110, 200) if left else rng.uniform(1780, 1900)
    height = rng.uniform(50, 90)
    thick = max(round(height * 0.16 * scale), 1)
    cv2.putText(
        mask,
        letter,
        (int(x * scale), int(rng.uniform(180, 320) * scale)),
        cv2.FONT_HERSHEY_SIMPLEX,
        height * scale / 22,
        255,
        thick,
        cv2.LINE_AA,
    )
    return rng.uniform(0.8, 1.8)


def _line(mask: np.ndarray, a: np.ndarray, b: np.ndarray, width: float, grey: int, scale: float) -> None:
    ends = [tuple(int(v) for v in np.round(p * scale * 16)) for p in (a, b)]
    cv2.line(mask, ends[0], ends[1], grey, max(round(width * scale), 1), cv2.LINE_AA, shift=4)
