"""The film on which an animal is drawn: path lengths of soft tissue and of bone add up, as in an X-ray.

Geometry is in units of one vertebra of the middle chest with its disc ("u"): x from head to tail, y from back to
belly, the origin where the first thoracic vertebra begins.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from .anatomy import spline

Crop = tuple[slice, slice]
Outline = np.ndarray | list[np.ndarray]


@dataclass(frozen=True)
class View:
    """How the film lies: ``centre`` in u, ``width`` of the film in u, ``turn`` in degrees."""

    centre: tuple[float, float]
    width: float
    turn: float


def fine_side(size: int) -> int:
    """Side of the film that an image of ``size`` is reduced from."""
    return 2 * size if size <= 256 else size * 3 // 2 if size <= 512 else size


class Canvas:
    """Attenuation float32[F, F] of soft tissue (``soft``) and of bone (``bone``); ``scale``: pixels per u."""

    def __init__(self, fine: int, view: View) -> None:
        self.side, self.view = fine, view
        self.scale = fine / view.width
        angle = math.radians(view.turn)
        self._turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        self.soft = np.zeros((fine, fine), np.float32)
        self.bone = np.zeros((fine, fine), np.float32)

    def place(self, points: np.ndarray) -> np.ndarray:
        """Points in u as float64[N, 2] in pixels of the film."""
        return (np.asarray(points, np.float64) - self.view.centre) @ self._turn * self.scale + self.side / 2

    def mask(self, outline: Outline, margin: float = 0.0) -> tuple[Crop, np.ndarray] | None:
        """A filled outline, or the union of several, as uint8 0 or 1 with the part of the film it is on.

        None if it is off the film.
        """
        parts = [self.place(part) for part in (outline if isinstance(outline, list) else [outline])]
        points = np.concatenate(parts)
        low = np.maximum(np.floor(points.min(0) - margin).astype(int) - 2, 0)
        high = np.minimum(np.ceil(points.max(0) + margin).astype(int) + 3, self.side)
        if (low >= high).any():
            return None
        mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        for part in parts:
            cv2.fillPoly(mask, [np.round((part - low) * 16).astype(np.int32)], 1, shift=4)
        return (slice(low[1], high[1]), slice(low[0], high[0])), mask

    def depth(self, outline: np.ndarray, edge: float, soften: float = 0.0) -> tuple[Crop, np.ndarray] | None:
        """Depth float32 of a body from 0 at its outline to 1 from ``edge`` (u) on, as of a circle of that radius.

        Args:
            soften: blur in u.
        """
        found = self.mask(outline, 3 * soften * self.scale)
        if found is None:
            return None
        crop, mask = found
        inside: np.ndarray = cv2.distanceTransform(mask, cv2.DIST_L2, 3)
        inside = inside * np.float32(1 / max(edge * self.scale, 1e-3))
        np.minimum(inside, 1, out=inside)
        profile = cv2.sqrt(inside * (2 - inside))
        if soften * self.scale > 0.4:
            profile = cv2.GaussianBlur(profile, (0, 0), soften * self.scale)
        return crop, profile

    def add_soft(
        self, outline: np.ndarray, amount: float, edge: float, soften: float = 0.03, within: np.ndarray | None = None
    ) -> None:
        """Adds a soft organ, or a gas if ``amount`` is negative; ``within``: float32[F, F] that it is multiplied by."""
        found = self.depth(outline, edge, soften)
        if found:
            crop, profile = found
            if within is not None:
                profile = profile * within[crop]
            self.soft[crop] += np.float32(amount) * profile

    def add_bone(self, outline: Outline, amount: float, wall: float, edge: float | None = None) -> None:
        """Adds a bone with a dense wall of ``wall`` u around a spongy core.

        Args:
            amount: attenuation of the wall per u of its path.
            edge: radius in u of its round edge; None for half its thickness where it is thickest.
        """
        found = self.mask(outline)
        if found is None:
            return
        crop, mask = found
        d: np.ndarray = cv2.distanceTransform(mask, cv2.DIST_L2, 3)
        d = d * np.float32(1 / self.scale)
        radius = np.float32(edge if edge is not None else max(float(d.max()), 1e-3))
        thick = np.float32(wall)
        off = np.maximum(radius - d, 0)
        outer = cv2.sqrt(np.maximum(radius * radius - off * off, 0))
        inner = cv2.sqrt(np.maximum(np.maximum(radius - thick, 0) ** 2 - off * off, 0))
        self.bone[crop] += np.where(mask > 0, np.float32(2 * amount) * (outer - np.float32(0.72) * inner), 0)

    def spots(self, centres: np.ndarray, radii: np.ndarray) -> np.ndarray:
        """Discs of the given radii (u) as float32[F, F] from 0 to 1."""
        layer = np.zeros((self.side, self.side), np.uint8)
        for (x, y), r in zip(np.round(self.place(centres) * 16).astype(int), radii * self.scale, strict=True):
            cv2.circle(layer, (int(x), int(y)), max(int(r * 16), 10), 255, -1, cv2.LINE_AA, shift=4)
        return layer.astype(np.float32) * np.float32(1 / 255)

    def lines(self, paths: list[np.ndarray], widths: list[np.ndarray], soften: float = 0.0) -> np.ndarray:
        """Curves of changing width (u) as float32[F, F] from 0 to 1."""
        layer = np.zeros((self.side, self.side), np.uint8)
        for path, width in zip(paths, widths, strict=True):
            points = np.round(self.place(path) * 16).astype(int)
            pixels = np.maximum(np.asarray(width) * self.scale, 1)
            grey = np.minimum(np.asarray(width) * self.scale, 1) * 255  # thinner than a pixel: fainter
            for k in range(len(points) - 1):
                cv2.line(
                    layer, tuple(map(int, points[k])), tuple(map(int, points[k + 1])), int(grey[k]),
                    round(float(pixels[k])), cv2.LINE_AA, shift=4,
                )  # fmt: skip
        shown = layer.astype(np.float32) * np.float32(1 / 255)
        return cv2.GaussianBlur(shown, (0, 0), soften * self.scale) if soften * self.scale > 0.4 else shown


def moved(points: np.ndarray, right: "float | np.ndarray", down: "float | np.ndarray") -> np.ndarray:
    """Points shifted by some u."""
    return points + np.array([right, down])


@lru_cache(maxsize=256)
def _catmull_rom(points: int, count: int) -> np.ndarray:
    """Weights float64[count, points] of an open Catmull-Rom curve whose end points are reflected."""
    at = np.linspace(0, points - 1, count)
    index = np.minimum(at.astype(int), points - 2)
    t = at - index
    weights = np.zeros((count, points + 2))
    rows = np.arange(count)
    for k, part in enumerate((-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2)):
        weights[rows, index + k] += 0.5 * part
    inner = weights[:, 1:-1].copy()
    for end, near, far in ((0, 0, 1), (-1, -1, -2)):
        inner[:, near] += 2 * weights[:, end]
        inner[:, far] -= weights[:, end]
    return inner


def curve(points: "np.ndarray | Sequence[Any]", count: int = 40) -> np.ndarray:
    """Open Catmull-Rom curve through float[K, 2] as float64[count, 2]."""
    points = np.asarray(points, np.float64)
    return _catmull_rom(len(points), count) @ points


def closed(points: "np.ndarray | Sequence[Any]", count: int = 48) -> np.ndarray:
    """Closed smooth outline float64[count, 2] through float[K, 2]; see :func:`.anatomy.spline`."""
    return spline(np.asarray(points, np.float64), count)


def normals(path: np.ndarray) -> np.ndarray:
    """Unit normals float64[N, 2] of an open curve: to the right as seen along it on the film, y down."""
    tangent = np.empty_like(path)
    tangent[1:-1] = path[2:] - path[:-2]
    tangent[0], tangent[-1] = path[1] - path[0], path[-1] - path[-2]
    tangent /= np.maximum(np.sqrt((tangent**2).sum(1)), 1e-9)[:, None]
    return np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)


def band(path: np.ndarray, widths: "np.ndarray | float") -> np.ndarray:
    """Outline float64[2N, 2] of a curve of the given widths."""
    half = normals(path) * (np.broadcast_to(widths, len(path))[:, None] / 2)
    return np.concatenate([path + half, (path - half)[::-1]])


def rod(path: np.ndarray, widths: "np.ndarray | float", blunt: float = 0.6) -> np.ndarray:
    """As :func:`band`, with round ends; ``blunt``: how far they reach beyond the path, in half widths."""
    across = normals(path)
    half = np.broadcast_to(np.asarray(widths, float) / 2, len(path))
    sides = across * half[:, None]
    turn = np.linspace(0, np.pi, 9)[1:-1, None]
    along = np.stack([across[:, 1], -across[:, 0]], axis=1)  # the tangent
    tip = path[-1] + half[-1] * (np.cos(turn) * across[-1] + blunt * np.sin(turn) * along[-1])
    tail = path[0] + half[0] * (-np.cos(turn) * across[0] - blunt * np.sin(turn) * along[0])
    return np.concatenate([path + sides, tip, (path - sides)[::-1], tail])


def oval(
    centre: tuple[float, float], axes: tuple[float, float], degrees: float = 0.0, count: int = 48, pear: float = 0.0
) -> np.ndarray:
    """Outline of an ellipse of the given half axes; ``pear``: how much narrower its far end is."""
    t = np.linspace(0, 2 * np.pi, count, endpoint=False)
    x, y = axes[0] * np.cos(t), axes[1] * np.sin(t) * (1 - pear * np.cos(t))
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.stack([centre[0] + c * x - s * y, centre[1] + s * x + c * y], axis=1)


def wobble(outline: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """A closed outline pushed in and out along its normals by smooth waves of ``amount`` u."""
    waves = np.arange(2, 7)
    size = rng.standard_normal((2, 5)) * amount / np.sqrt(waves)
    along = np.linspace(0, 2 * np.pi, len(outline), endpoint=False)[:, None] * waves
    push = np.cos(along) @ size[0] + np.sin(along) @ size[1]
    tangent = np.roll(outline, -1, axis=0) - np.roll(outline, 1, axis=0)
    tangent /= np.maximum(np.sqrt((tangent**2).sum(1)), 1e-9)[:, None]
    return outline + np.stack([tangent[:, 1], -tangent[:, 0]], axis=1) * push[:, None]
