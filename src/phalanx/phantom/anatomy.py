"""The shape and the pose of a hand: 29 bone outlines drawn from the statistics of real hand X-rays.

All geometry lives on a canvas of 2048 x 2048 pixels. A hand is built in its own frame (origin: centroid of the
Capitate, x to the ulnar side, y down), where left and right are the same, and is mirrored when it is placed.

Every finger is a chain of bones that turn about their joints; the carpal bones turn about the Capitate with the
wrist; the forearm stays. Upright and rotated hands start from two different mean poses, because a deviated wrist
is not a rotated image: the forearm stays vertical and the carpal bones show other outlines.
"""

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np

FINGERS = tuple(f"finger-{n}" for n in range(1, 20))
CARPALS = ("Trapezium", "Trapezoid", "Capitate", "Hamate", "Scaphoid", "Lunate", "Triquetrum", "Pisiform")
FOREARM = ("Radius", "Ulna")
HAND_CLASSES = FINGERS + CARPALS + FOREARM
# metacarpal to tip, thumb to little finger
RAYS = tuple(
    tuple(f"finger-{n}" for n in ray) for ray in ((3, 2, 1), *((m, m - 1, m - 2, m - 3) for m in (7, 11, 15, 19)))
)

CANVAS = 2048
ROTATED_FROM = 33.0  # degrees of the vector Ulna -> finger-16 from vertical
ROTATION_RANGES = {
    False: (3.0, 27.0),
    True: (35.0, 62.0),
}  # of synthetic hands in degrees, by rotated: both groups far from 33
LENGTH_SPREAD, WIDTH_SPREAD = (
    0.053,
    0.060,
)  # of log size over people; with bone noise, areas vary by 12 to 13 %
PROXIMAL_ROW = {
    "Scaphoid": 0.7,
    "Lunate": 0.7,
    "Triquetrum": 0.8,
    "Pisiform": 0.8,
}  # turn less than the wrist


@lru_cache(maxsize=1)
def geometry() -> dict[str, Any]:
    """The shipped statistics and outlines; see its keys ``provenance`` and ``units``."""
    return json.loads(resources.files(__package__).joinpath("hand_geometry.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Bone:
    """One bone on the canvas.

    ``outline``: float64[N, 2], x and y in canvas pixels, possibly outside the lower border (forearm).
    ``centre``: float64[2]; ``axis``: float64[2], unit vector towards the finger tips; ``width``, ``length`` in pixels.
    """

    outline: np.ndarray
    centre: np.ndarray
    axis: np.ndarray
    width: float
    length: float


@dataclass(frozen=True)
class Hand:
    """One posed hand. ``bones`` by class name; ``rotated``: the group; ``right``: thumb on the left of the image."""

    bones: dict[str, Bone]
    rotated: bool
    right: bool


def own_spread(name: str, group: str) -> np.ndarray:
    """float64[2]: spread of a bone's log length and log width among people whose hands are equally large.

    The part of the measured spread that the common size does not explain. Fingers take the upright group for both,
    because in rotated hands the source's failures on finger tips inflate it.
    """
    measured = geometry()["measured"][name][group]
    total = np.array([measured[axis][1] / measured[axis][0] for axis in ("major_axis", "minor_axis")])
    return np.sqrt(np.clip(total**2 - (LENGTH_SPREAD**2, WIDTH_SPREAD**2), 0.014**2, 0.09**2))


class SharedNormals:
    """A stream of standard normal numbers, shared by the hands of a patient up to small differences.

    Both hands draw in the same order, so the n-th number has the same meaning in both.
    """

    def __init__(self, patient: np.random.Generator, hand: np.random.Generator, *, shrink: float = 1.0) -> None:
        self.patient, self.hand, self.shrink = patient, hand, shrink

    def draw(self, count: int, alike: float) -> np.ndarray:
        """float64[count] within 2.5 deviations; ``alike``: correlation between the two hands."""
        both = math.sqrt(alike) * self.patient.standard_normal(count)
        own = math.sqrt(1 - alike) * self.hand.standard_normal(count)
        return np.clip(both + own, -2.5, 2.5) * self.shrink


def spline(points: np.ndarray, count: int) -> np.ndarray:
    """Closed Catmull-Rom curve through float[K, 2] as float64[count, 2]."""
    points = np.asarray(points, np.float64)
    at = np.arange(count) * len(points) / count
    index = at.astype(int)
    t = (at - index)[:, None]
    a, b, c, d = (points[(index + j) % len(points)] for j in (-1, 0, 1, 2))
    return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)


def turn(degrees: float) -> np.ndarray:
    """Matrix M for ``points @ M``: positive turns the upper end to +x, as a positive tilt does."""
    a = math.radians(degrees)
    return np.array([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]])


def area_and_centroid(outline: np.ndarray) -> tuple[float, np.ndarray]:
    """Area and float64[2] centroid of a polygon float[N, 2] (shoelace formula)."""
    x, y = outline.T
    x1, y1 = np.roll(x, -1), np.roll(y, -1)
    cross = x * y1 - x1 * y
    area = cross.sum() / 2
    return abs(area), np.array([((x + x1) * cross).sum(), ((y + y1) * cross).sum()]) / (6 * area)


def cut_below(outline: np.ndarray, limit: float) -> np.ndarray:
    """The part of a polygon above the row ``limit`` (Sutherland-Hodgman; one piece, as forearm bones are)."""
    if outline[:, 1].max() <= limit:
        return outline
    above = []
    for here, after in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        if here[1] <= limit:
            above.append(here)
        if (here[1] <= limit) != (after[1] <= limit):
            fraction = (limit - here[1]) / (after[1] - here[1])
            above.append(here + fraction * (after - here))
    return np.array(above)


def rotation(bones: dict[str, Bone]) -> float:
    """Degrees of the vector Ulna centroid -> finger-16 centroid from vertical; >= 33 means a rotated hand."""
    ulna = area_and_centroid(cut_below(bones["Ulna"].outline, CANVAS - 1))[1]
    tip = area_and_centroid(bones["finger-16"].outline)[1]
    return math.degrees(math.atan2(abs(tip[0] - ulna[0]), ulna[1] - tip[1]))


def pose_hand(
    patient_seed: np.random.SeedSequence,
    hand: np.random.Generator,
    *,
    rotated: bool,
    right: bool,
    size_z: float,
) -> Hand:
    """One hand of a patient.

    Args:
        patient_seed: the same for both hands; what they have in common is drawn from it.
        hand: generator of what only this hand has.
        size_z: standard normal; the log area of the patient's bones in standard deviations.
    """
    low, high = ROTATION_RANGES[rotated]
    for attempt in range(40):
        # each attempt moves towards the mean pose, whose angle is far from the threshold
        normals = SharedNormals(np.random.default_rng(patient_seed), hand, shrink=0.9**attempt)
        bones = _place(_shape_and_pose(normals, rotated, size_z), normals, rotated, right)
        if low <= rotation(bones) <= high:
            break
    return Hand(bones, rotated, right)


def _shape_and_pose(normals: SharedNormals, rotated: bool, size_z: float) -> dict[str, Bone]:
    """All bones in the frame of the hand."""
    group = "rotated" if rotated else "upright"
    shapes, poses = geometry()["outlines"], geometry()["pose"]
    length_z, width_z = 0.97 * size_z + 0.24 * normals.draw(2, 0.95)
    length, width = math.exp(LENGTH_SPREAD * length_z), math.exp(WIDTH_SPREAD * width_z)
    wrist, spread = normals.draw(2, 0.75)
    wrist_turn = wrist * (4.5 if rotated else 2.4)
    bones = {}
    for number, ray in enumerate(RAYS):
        middle = np.array([poses[name][group][:2] for name in ray])
        sizes, tilts, spreads = np.array([poses[name][group][3:] for name in ray]).T
        along = math.exp(0.012 * normals.draw(1, 0.97)[0])
        own = np.array([own_spread(name, "upright") for name in ray]).T
        own_length = length * along * np.exp(own[0] * normals.draw(len(ray), 0.95))
        own_width = width * np.exp(own[1] * normals.draw(len(ray), 0.95))
        # a finger's deviation: wrist, spreading of all fingers, its own; each joint adds a little
        bends = normals.draw(len(ray), 0.6)
        deviation = [0.72 * wrist + 0.4 * spread * (number - 2) / 1.5 + 0.5 * bends[0]]
        for z in bends[1:]:
            deviation.append(0.85 * deviation[-1] + 0.5 * z)
        turns = [turn(z * s) for z, s in zip(deviation, spreads, strict=True)]
        axis = np.array([math.sin(math.radians(tilts[0])), -math.cos(math.radians(tilts[0]))])
        anchor = middle[0] - axis * sizes[0] * 0.4
        at = (anchor * length) @ turn(wrist_turn)
        before = anchor
        for k, name in enumerate(ray):
            centre = at + (middle[k] - before) * own_length[k] @ turns[k]
            if k + 1 < len(ray):
                before = middle[k] + (middle[k + 1] - middle[k]) * sizes[k] / (sizes[k] + sizes[k + 1])
                at = centre + (before - middle[k]) * own_length[k] @ turns[k]
            bones[name] = _bone(
                shapes[name]["upright"],
                centre,
                tilts[k] + deviation[k] * spreads[k],
                poses[name][group][2] * own_width[k],
                sizes[k] * own_length[k],
                normals,
            )
    for name in CARPALS:
        x, y, minor, major, tilt, tilt_spread = poses[name][group]
        turned = wrist_turn * PROXIMAL_ROW.get(name, 1.0)
        centre = np.array([x, y]) * length @ turn(turned)
        if name != "Capitate":
            centre = centre + normals.draw(2, 0.8) * (10.0 if name == "Pisiform" else 4.5)
        own_tilt = math.sqrt(max(min(tilt_spread, 11.0) ** 2 - (2.4 if not rotated else 4.5) ** 2, 1.0))
        grow = np.exp(own_spread(name, group) * normals.draw(2, 0.95))
        bones[name] = _bone(
            shapes[name][group],
            centre,
            tilt + turned + own_tilt * normals.draw(1, 0.8)[0],
            minor * width * grow[1],
            major * length * grow[0],
            normals,
        )
    lean, shift = normals.draw(2, 0.6) * (2.0, 5.0)
    for name in FOREARM:
        outline = spline(np.array(shapes[name][group]), 150)
        centre_x = area_and_centroid(outline)[1][0]
        own_width = width * math.exp(0.03 * normals.draw(1, 0.95)[0])
        outline = np.stack([centre_x * length + (outline[:, 0] - centre_x) * own_width, outline[:, 1] * length], axis=1)
        outline = _wobble(outline, 150 * width, normals)
        pivot = np.array([0.0, 120.0]) * length
        leaning = lean - 1.0 + normals.draw(1, 0.7)[0]
        outline = (outline - pivot) @ turn(leaning) + pivot + (shift + 4 * normals.draw(1, 0.8)[0], 0)
        axis = np.array([0.0, -1.0]) @ turn(leaning)
        bones[name] = Bone(outline, area_and_centroid(outline)[1], axis, 150.0 * width, 1200.0 * length)
    return bones


def _bone(
    shape: list[list[float]], centre: np.ndarray, tilt: float, minor: float, major: float, normals: SharedNormals
) -> Bone:
    """One bone from its outline in units of its axes, half a pixel in: a mask includes the pixels of its outline."""
    outline = spline(np.array(shape), max(48, min(120, int(major / 4)))) * (minor - 1, major - 1)
    axis = np.array([0.0, -1.0]) @ turn(tilt)
    return Bone(_wobble(outline, minor, normals) @ turn(tilt) + centre, centre, axis, minor, major)


def _wobble(outline: np.ndarray, width: float, normals: SharedNormals) -> np.ndarray:
    """An outline pushed in and out along its normals by smooth waves: no two people have the same bone."""
    waves = np.arange(2, 8)
    strength = 0.016 * width / np.sqrt(waves - 1.0)
    size = normals.draw(2 * len(waves), 0.9).reshape(2, -1) * strength
    along = np.linspace(0, 2 * np.pi, len(outline), endpoint=False)[:, None] * waves
    push = np.cos(along) @ size[0] + np.sin(along) @ size[1]
    tangent = np.roll(outline, -1, axis=0) - np.roll(outline, 1, axis=0)
    normal = tangent[:, ::-1] * (1, -1) / np.maximum(np.hypot(*tangent.T), 1e-9)[:, None]
    return outline + normal * push[:, None]


def _place(bones: dict[str, Bone], normals: SharedNormals, rotated: bool, right: bool) -> dict[str, Bone]:
    """The hand on the canvas: mirrored for a left hand, moved, and inside all borders but the lower one."""
    x, y, x_spread, y_spread = geometry()["capitate"]["rotated" if rotated else "upright"]
    move = np.array([x, y]) + normals.draw(2, 0.5) * (x_spread, y_spread)
    side = np.array([1.0 if right else -1.0, 1.0])
    points = np.concatenate([bones[name].outline for name in FINGERS + CARPALS]) * side + move
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 88.0  # clear of the noise band
    move[0] += max(margin - low[0], 0) - max(high[0] - (CANVAS - margin), 0)
    move[1] += max(margin - low[1], 0)
    return {
        name: Bone(b.outline * side + move, b.centre * side + move, b.axis * side, b.width, b.length)
        for name, b in bones.items()
    }
