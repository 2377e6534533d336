"""Soft tissue of a posed hand: how much flesh the X-rays pass through, in canvas pixels of path."""

from dataclasses import dataclass

import cv2
import numpy as np

from .anatomy import CANVAS, RAYS, Hand


@dataclass(frozen=True)
class Flesh:
    """``finger``: skin half-width over bone width; ``palm``: margin around palm and wrist in canvas pixels;
    ``depth``: thickness of the palm, ``roundness``: distance from the edge at which it is reached;
    ``softness``: blur of the skin line."""

    finger: float
    palm: float
    depth: float
    roundness: float
    softness: float


def draw_flesh(rng: np.random.Generator, weight_z: float) -> Flesh:
    """Flesh of one patient; ``weight_z``: standard normal, heavier people have thicker hands."""
    thick = 1 + 0.05 * weight_z
    return Flesh(
        finger=rng.uniform(0.74, 1.18) * thick,
        palm=rng.uniform(30, 60) * thick,
        depth=rng.uniform(170, 230) * thick,
        roundness=rng.uniform(80, 150),
        softness=float(rng.uniform(4, 9) if rng.random() < 0.6 else rng.uniform(9, 26)),
    )


def flesh_path(hand: Hand, flesh: Flesh, size: int, rng: np.random.Generator) -> np.ndarray:
    """Path length through soft tissue, float32[size, size] in canvas pixels.

    Fingers are round (a chord of a circle), palm and forearm are round at the edge and flat inside. It is computed
    on a coarse grid, because flesh has no fine detail.
    """
    grid = min(max(size // 2, 192), 512)
    scale = grid / CANVAS
    path = np.zeros((grid, grid), np.float32)
    body = np.zeros((grid, grid), np.uint8)
    bones = hand.bones
    for ray in RAYS:
        finger = np.zeros((grid, grid), np.uint8)
        # metacarpal head or, for the thumb, its whole bone; then each joint; then beyond the tip bone
        at = [bones[name].centre - bones[name].axis * bones[name].length * 0.42 for name in ray[1:]]
        tip = bones[ray[-1]]
        at.append(tip.centre + tip.axis * tip.length * 0.36)
        widths = [bones[name].width for name in ray[1:]] + [tip.width]
        widths[0] *= 0.92
        widths[-1] *= 1.05
        for k in range(len(at) - 1):
            _capsule(
                finger,
                at[k] * scale,
                at[k + 1] * scale,
                *(w * flesh.finger * scale for w in widths[k : k + 2]),
            )
        path = np.maximum(path, _chord(finger, scale, 0.95 * widths[0] * flesh.finger, 1.0))
        hand_bone = bones[ray[0]]
        half = hand_bone.axis * hand_bone.length * 0.42
        radius = (0.45 * hand_bone.width + flesh.palm * (1.1 if ray[0] == "finger-3" else 0.8)) * scale
        _capsule(body, (hand_bone.centre - half) * scale, (hand_bone.centre + half) * scale, radius, radius)
        _capsule(
            body,
            (hand_bone.centre + half) * scale,
            (at[0] + (at[1] - at[0]) * 0.35) * scale,
            radius,
            radius * 0.8,
        )
    _hull(body, [bones[n].outline for n in ("finger-7", "finger-11", "finger-15", "finger-19")], scale)
    web = bones["finger-3"], bones["finger-7"]
    _hull(
        body,
        [np.array([b.centre - b.axis * b.length * 0.4, b.centre + b.axis * b.length * 0.1]) for b in web],
        scale,
    )
    # wrist and forearm: the two bones and the carpus with a margin
    for low, high, margin in ((-1e9, 200.0, 0.9), (100.0, 500.0, 1.0), (350.0, 2000.0, 1.25)):
        wrist = bones["Capitate"].centre[1]
        parts = [bones[n].outline for n in ("Radius", "Ulna", "Scaphoid", "Triquetrum", "Hamate", "Trapezium")]
        inside = np.concatenate(parts)
        inside = inside[(inside[:, 1] - wrist > low) & (inside[:, 1] - wrist < high)]
        _hull(body, [inside], scale, grow=flesh.palm * margin * scale)
    soft = cv2.GaussianBlur(body * np.float32(255), (0, 0), 22 * scale)
    body = (soft > 127).astype(np.uint8)
    palm = _chord(body, scale, flesh.roundness, flesh.depth / (2 * flesh.roundness))
    thumb = bones["finger-3"]
    y, x = np.mgrid[:grid, :grid].astype(np.float32)
    thenar = (thumb.centre + thumb.axis * -0.1 * thumb.length) * scale
    distance = ((x - thenar[0]) ** 2 + (y - thenar[1]) ** 2) / (2 * (130 * scale) ** 2)
    palm *= 1 + np.float32(rng.uniform(0.05, 0.3)) * np.exp(-distance)
    # muscles and fat: slow waves of a few per cent
    waves = cv2.resize(rng.standard_normal((12, 12)).astype(np.float32), (grid, grid), interpolation=cv2.INTER_CUBIC)
    path = np.maximum(path, palm) * (1 + np.float32(rng.uniform(0.01, 0.05)) * waves)
    path = cv2.GaussianBlur(path, (0, 0), max(flesh.softness * scale, 0.7))
    return cv2.resize(path, (size, size), interpolation=cv2.INTER_CUBIC if size > grid else cv2.INTER_AREA)


def _chord(mask: np.ndarray, scale: float, radius: float, flatness: float) -> np.ndarray:
    """Depth of a body whose edge is a circle of ``radius``, from uint8[H, W] to float32[H, W] in canvas pixels."""
    inside = np.minimum(cv2.distanceTransform(mask, cv2.DIST_L2, 5) / np.float32(scale * radius), 1)
    return 2 * radius * np.float32(flatness) * np.sqrt(inside * (2 - inside))


def _capsule(mask: np.ndarray, a: np.ndarray, b: np.ndarray, radius_a: float, radius_b: float) -> None:
    """Two circles and what lies between."""
    along = (b - a) / max(float(np.hypot(*(b - a))), 1e-6)
    across = np.array([-along[1], along[0]])
    corners = [a + across * radius_a, b + across * radius_b, b - across * radius_b, a - across * radius_a]
    cv2.fillPoly(mask, [np.round(np.array(corners) * 16).astype(np.int32)], 1, shift=4)
    for centre, radius in ((a, radius_a), (b, radius_b)):
        x, y = np.round(centre * 16).astype(int)
        cv2.circle(mask, (int(x), int(y)), int(radius * 16), 1, -1, shift=4)


def _hull(mask: np.ndarray, parts: list[np.ndarray], scale: float, grow: float = 0.0) -> None:
    """The convex hull of some points, perhaps with a margin."""
    hull = cv2.convexHull(np.round(np.concatenate(parts) * scale * 16).astype(np.int32))
    cv2.fillPoly(mask, [hull], 1, shift=4)
    if grow:
        cv2.polylines(mask, [hull], True, 1, max(int(2 * grow), 1), shift=4)
