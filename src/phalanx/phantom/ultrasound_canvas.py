"""A scan plane in millimetres: which tissue is where, and which organ.

Tissues are painted over each other as polygons and strokes. The beam (``ultrasound_beam``) reads four properties of
each: echo, impedance, loss and mottle. Origin: middle of the probe's surface; x to the right, z into the body.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np

ORGANS = ("AC", "BPD", "FL", "AFI", "3D")
ROWS = 400  # of a canvas: 0.2 to 0.6 mm per pixel
ABOVE = 12.0  # mm above the middle of the probe's surface, where the ends of a curved probe are
SHIFT = 4  # fractional bits of drawn coordinates


class Tissue(NamedTuple):
    """Properties of a tissue.

    ``echo``: mean backscatter in dB, 0 for placenta; ``impedance``: relative, only its steps matter, bone about 5;
    ``loss``: attenuation there and back in dB per mm beyond what the machine makes up for, negative in fluid;
    ``mottle``: spread in dB of the backscatter over a few mm.
    """

    echo: float
    impedance: float
    loss: float = 0.0
    mottle: float = 0.0


FLUID = Tissue(-46, 0.0, -0.07)
BLOOD = Tissue(-38, 0.1, -0.05)
SOFT = Tissue(-8, 0.36, 0.0, 2.6)
MUSCLE = Tissue(-13, 0.42, 0.02, 2.4)
FAT = Tissue(-5, 0.6, 0.04, 2.2)
SKIN = Tissue(1, 0.95, 0.05, 1.0)
FASCIA = Tissue(3, 1.3, 0.03, 2.0)
WALL = Tissue(-9, 0.45, 0.02, 2.0)
PLACENTA = Tissue(-3, 0.4, 0.0, 2.8)
LIVER = Tissue(-8, 0.38, 0.0, 1.6)
GUT = Tissue(-4, 0.5, 0.02, 4.5)
LUNG = Tissue(-3, 0.45, 0.0, 2.0)
BRAIN = Tissue(-19, 0.3, -0.02, 2.6)
CARTILAGE = Tissue(-19, 0.4, 0.0, 1.0)
BONE = Tissue(13, 5.0, 3.2, 1.5)
SKULL = Tissue(8, 5.0, 0.9, 1.5)
AIR = Tissue(2, 3.5, 2.2, 4.0)


@dataclass(frozen=True)
class Measure:
    """What a sonographer measures of an organ: ``ends`` of a distance, float64[2, 2], or an ellipse by its
    ``centre``, half ``axes`` and ``angle`` in degrees; all in mm. ``name``: as on the screen."""

    organ: str
    name: str
    ends: np.ndarray | None = None
    centre: np.ndarray | None = None
    axes: tuple[float, float] = (0.0, 0.0)
    angle: float = 0.0

    @property
    def value(self) -> float:
        """Length of the distance, or circumference of the ellipse (Ramanujan's first approximation), in mm."""
        if self.ends is not None:
            return float(np.hypot(*(self.ends[1] - self.ends[0])))
        a, b = self.axes
        return math.pi * (3 * (a + b) - math.sqrt((3 * a + b) * (a + 3 * b)))


class Canvas:
    """Tissues and organs of one scan plane.

    Attributes:
        labels: uint8[ROWS, W], index into ``tissues``.
        regions: uint8[ROWS, W], bit per class of ``ORGANS`` in order.
        scale: pixels per mm.
        measures: what can be measured, in the order of painting.
    """

    def __init__(self, depth: float, width: float, background: Tissue) -> None:
        """``depth``, ``width``: of the plane in mm."""
        self.depth, self.width = depth, width
        self.scale = ROWS / (depth + ABOVE)
        self.labels = np.zeros((ROWS, math.ceil(width * self.scale)), np.uint8)
        self.regions = np.zeros_like(self.labels)
        self.tissues = [background]
        self.measures: list[Measure] = []

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """float64[..., 2] in pixels of the canvas from mm."""
        return (np.asarray(points, float) + np.array([self.width / 2, ABOVE])) * self.scale - 0.5

    def _fixed(self, points: np.ndarray) -> np.ndarray:
        return np.round(self.pixels(points) * 2**SHIFT).astype(np.int32)

    def tissue(self, tissue: Tissue) -> int:
        """Label of a tissue; a plane has at most 256."""
        if tissue not in self.tissues:
            assert len(self.tissues) < 256
            self.tissues.append(tissue)
        return self.tissues.index(tissue)

    def fill(self, points: np.ndarray, tissue: Tissue, organ: str | None = None) -> None:
        """Paints a polygon float64[N, 2] in mm; ``organ``: it is the region of that class."""
        fixed = [self._fixed(points)]
        cv2.fillPoly(self.labels, fixed, self.tissue(tissue), shift=SHIFT)
        if organ is not None:
            self.mark(points, organ)

    def mark(self, points: np.ndarray, organ: str) -> None:
        """Makes a polygon the region of a class, in front of others, without painting."""
        cv2.fillPoly(self.regions, [self._fixed(points)], 1 << ORGANS.index(organ), shift=SHIFT)

    def unmark(self, points: np.ndarray) -> None:
        """Takes a polygon out of all regions: something else is in front."""
        cv2.fillPoly(self.regions, [self._fixed(points)], 0, shift=SHIFT)

    def stroke(self, points: np.ndarray, width: float, tissue: Tissue, closed: bool = False) -> None:
        """Paints a line of ``width`` mm along float64[N, 2]; it is at least as wide as a pixel."""
        thickness = max(1, round(width * self.scale))
        cv2.polylines(self.labels, [self._fixed(points)], closed, self.tissue(tissue), thickness, shift=SHIFT)

    def shift(self, angle: float, by: np.ndarray) -> None:
        """Turns all by ``angle`` degrees about the middle of the plane and moves it by ``by`` mm: another look."""
        pivot = np.array([0.0, self.depth / 2])
        matrix = np.zeros((2, 3))
        matrix[:, 0], matrix[:, 1] = unit(angle), unit(angle + 90)
        middle, moved = self.pixels(pivot), self.pixels(pivot + by)
        matrix[:, 2] = moved - matrix[:, :2] @ middle
        height, width = self.labels.shape
        for name in ("labels", "regions"):
            edge = cv2.BORDER_REPLICATE if name == "labels" else cv2.BORDER_CONSTANT
            part = cv2.warpAffine(
                getattr(self, name), matrix, (width, height), flags=cv2.INTER_NEAREST, borderMode=edge
            )
            setattr(self, name, part)
        self.measures = [
            replace(
                m,
                ends=None if m.ends is None else place(m.ends - pivot, pivot + by, angle),
                centre=None if m.centre is None else place(m.centre[None] - pivot, pivot + by, angle)[0],
                angle=m.angle + angle,
            )
            for m in self.measures
        ]

    def properties(self) -> np.ndarray:
        """float32[ROWS, W, 4]: echo, impedance, loss, mottle."""
        return np.array(self.tissues, np.float32)[self.labels]


def unit(degrees: float) -> np.ndarray:
    """float64[2]: direction in the plane, 0 to the right, 90 into the body."""
    return np.array([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])


def blob(
    centre: np.ndarray,
    axes: tuple[float, float],
    angle: float,
    rng: np.random.Generator,
    wobble: float = 0.03,
    n: int = 72,
) -> np.ndarray:
    """float64[n, 2]: an ellipse whose radius varies smoothly by about ``wobble``, as grown things do."""
    t = np.linspace(0, 2 * np.pi, n, endpoint=False)
    radius = np.ones(n)
    for order in range(2, 7):
        amplitude, phase = rng.normal(0, wobble * 1.4 / order), rng.uniform(0, 2 * np.pi)
        radius += amplitude * np.cos(order * t + phase)
    local = np.stack([axes[0] * np.cos(t), axes[1] * np.sin(t)], axis=1) * radius[:, None]
    return place(local, centre, angle)


def place(points: np.ndarray, centre: np.ndarray, angle: float) -> np.ndarray:
    """Points turned by ``angle`` degrees about the origin, then moved to ``centre``."""
    along, across = unit(angle), unit(angle + 90)
    return np.asarray(centre) + points[:, :1] * along + points[:, 1:] * across


def curve(points: Sequence[Sequence[float] | np.ndarray], n: int = 40) -> np.ndarray:
    """float64[n, 2]: a smooth line through points (Catmull-Rom)."""
    p = np.asarray(points, float)
    p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    t = np.linspace(0, len(p) - 3 - 1e-9, n)
    i = t.astype(int)
    u = (t - i)[:, None]
    a, b, c, d = p[i], p[i + 1], p[i + 2], p[i + 3]
    return 0.5 * (2 * b + (c - a) * u + (2 * a - 5 * b + 4 * c - d) * u**2 + (3 * b - a - 3 * c + d) * u**3)


def shrink(outline: np.ndarray, factor: float) -> np.ndarray:
    """An outline scaled about its centre."""
    centre = outline.mean(axis=0)
    return centre + (outline - centre) * factor


def wave(xs: np.ndarray, rng: np.random.Generator, amplitude: float, period: float) -> np.ndarray:
    """float64[N]: a smooth random line over positions in mm."""
    total = np.zeros(len(xs))
    for k in range(1, 4):
        total += rng.normal(0, amplitude / k) * np.sin(2 * np.pi * k * xs / period + rng.uniform(0, 2 * np.pi))
    return total
