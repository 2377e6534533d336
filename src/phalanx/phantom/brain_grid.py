"""A plane through the head and signed distances on it, in millimetres.

Coordinates are x to the patient's left, y to the front, z up; the origin is in the middle of the brain. A plane is
aligned with two axes, so that a coordinate is a row, a column or a number, and most arithmetic is one-dimensional.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

PLANES = ("axial", "coronal", "sagittal")
Centre = Sequence[float]
Point = tuple[float, float, float]
Box = tuple[slice, slice]


@dataclass(frozen=True)
class Grid:
    """Pixel centres of one plane. ``x``, ``y``, ``z`` broadcast to ``shape``; ``mm``: size of a pixel.

    ``at``: position of the plane on its own axis, before tilting.
    """

    plane: str
    at: float
    mm: float
    shape: tuple[int, int]
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray

    @property
    def ax(self) -> np.ndarray:
        """Distance from the midline."""
        return np.abs(self.x)

    def rows_columns(self) -> tuple[np.ndarray, np.ndarray]:
        """The in-plane coordinates that increase or decrease along rows and along columns."""
        return {"axial": (self.y, self.x), "coronal": (self.z, self.x), "sagittal": (self.z, self.y)}[self.plane]

    def box(self, centre: Centre, radii: Centre, margin: float, *, mirrored: bool) -> Box | None:
        """Rows and columns in which an ellipsoid with a margin in mm can be; None if there are none."""
        rows, columns = np.ones(self.shape[0], bool), np.ones(self.shape[1], bool)
        for values, c, r in zip((self.ax if mirrored else self.x, self.y, self.z), centre, radii, strict=True):
            near = np.abs(values - c) <= r + margin
            if values.shape[0] > 1:
                rows &= near[:, 0]
            elif values.shape[1] > 1:
                columns &= near[0]
            elif not near[0, 0]:
                return None
        if not (rows.any() and columns.any()):
            return None
        i, j = np.flatnonzero(rows), np.flatnonzero(columns)
        return slice(int(i[0]), int(i[-1]) + 1), slice(int(j[0]), int(j[-1]) + 1)

    def crop(self, box: Box) -> "Grid":
        """The part of the plane in a box."""

        def part(values: np.ndarray) -> np.ndarray:
            return values[
                box[0] if values.shape[0] > 1 else slice(None), box[1] if values.shape[1] > 1 else slice(None)
            ]

        shape = (box[0].stop - box[0].start, box[1].stop - box[1].start)
        return Grid(self.plane, self.at, self.mm, shape, part(self.x), part(self.y), part(self.z))


def make_grid(plane: str, at: float, tilt: float, centre: tuple[float, float], fov: float, pixels: int) -> Grid:
    """A square plane of ``pixels`` per side.

    Args:
        at: position on the axis across the plane in mm.
        tilt: slope of the plane: mm along its own axis per mm along y (axial, sagittal) or z (coronal).
        centre: the in-plane coordinates (row axis, column axis) at the centre of the image.
        fov: side in mm.
    """
    mm = fov / pixels
    offset = ((np.arange(pixels) - (pixels - 1) / 2) * mm).astype(np.float32)
    rows, columns = (centre[0] - offset)[:, None], (centre[1] + offset)[None, :]
    one = np.full((1, 1), at, np.float32)
    if plane == "axial":
        axes = columns, rows, one + np.float32(tilt) * rows
    elif plane == "coronal":
        axes = columns, one + np.float32(tilt) * rows, rows
    else:
        columns = (centre[1] - offset)[None, :]  # the face to the left
        axes = one + np.float32(tilt) * columns, columns, rows
    return Grid(plane, at, mm, (pixels, pixels), *axes)


def ellipsoid(grid: Grid, centre: Centre, radii: Centre, *, mirrored: bool = True) -> np.ndarray:
    """Approximate signed distance to an ellipsoid, float32; ``mirrored``: one on each side of the midline.

    Distance over gradient of the implicit function, which is exact to first order at the surface.
    """
    inner = outer = np.zeros((1, 1), np.float32)
    for values, c, r in zip((grid.ax if mirrored else grid.x, grid.y, grid.z), centre, radii, strict=True):
        square = np.square((values - np.float32(c)) / np.float32(r))
        inner = inner + square
        outer = outer + square / np.float32(r * r)
    inner = np.broadcast_to(np.sqrt(inner), grid.shape)
    return inner * (inner - 1) / np.sqrt(outer + np.float32(1e-9))


def egg(grid: Grid, centre: Centre, radii: Centre, taper: float, power: float) -> np.ndarray:
    """Radial signed distance to a superellipsoid that narrows to the front, float32.

    Args:
        taper: relative decrease of the width per mm along y.
        power: 2 is an ellipsoid; more is boxier.
    """
    x, y, z = (values - np.float32(c) for values, c in zip((grid.x, grid.y, grid.z), centre, strict=True))
    wide = x / (1 - np.float32(taper) * np.clip(y, -100, 100))
    total = sum(
        np.power(np.abs(v) / np.float32(r), np.float32(power)) for v, r in zip((wide, y, z), radii, strict=True)
    )
    inner = np.maximum(np.power(total, np.float32(1 / power)), np.float32(0.02))
    length = np.sqrt(np.square(x) + np.square(y) + np.square(z))
    return np.broadcast_to(length * (1 - 1 / inner), grid.shape)


def point(values: Sequence[float] | np.ndarray) -> Point:
    """Three numbers as plain floats."""
    x, y, z = (float(v) for v in values)
    return x, y, z


def capsule(grid: Grid, a: Centre, b: Centre, radius_a: float, radius_b: float, flat: Centre = (1, 1, 1)) -> np.ndarray:
    """Signed distance to a mirrored capsule from ``a`` to ``b`` whose radius changes evenly, float32.

    ``flat``: factors of the three axes; below 1 makes it wider along that axis.
    """
    f = np.asarray(flat, np.float32)
    start, end = np.asarray(a, np.float32) * f, np.asarray(b, np.float32) * f
    along = end - start
    x, y, z = grid.ax * f[0] - start[0], grid.y * f[1] - start[1], grid.z * f[2] - start[2]
    t = np.clip((x * along[0] + y * along[1] + z * along[2]) / max(float(along @ along), 1e-6), 0, 1)
    distance = np.sqrt(np.square(x - t * along[0]) + np.square(y - t * along[1]) + np.square(z - t * along[2]))
    return np.broadcast_to(distance - (np.float32(radius_a) + t * np.float32(radius_b - radius_a)), grid.shape)


def smooth_min(a: np.ndarray, b: np.ndarray, k: float) -> np.ndarray:
    """Union of two signed distances whose seam is rounded over about ``k`` mm (Quilez's quadratic minimum)."""
    h = np.maximum(np.float32(k) - np.abs(a - b), 0)
    return np.minimum(a, b) - h * h * np.float32(0.25 / k)


def smooth_max(a: np.ndarray, b: np.ndarray, k: float) -> np.ndarray:
    """Intersection of two signed distances with a rounded edge."""
    return -smooth_min(-a, -b, k)


def noise_volumes(rng: np.random.Generator, n: int, waves: Sequence[tuple[float, float]]) -> list[np.ndarray]:
    """Periodic noise float32[n, n, n] of unit variance, one volume per (wavelength in cells, relative bandwidth)."""
    spectrum = np.fft.rfftn(rng.standard_normal((n, n, n), dtype=np.float32))
    f = np.fft.fftfreq(n).astype(np.float32)
    radius = np.sqrt(np.square(f)[:, None, None] + np.square(f)[:, None] + np.square(f[: n // 2 + 1]))
    volumes = []
    for wave, width in waves:
        band = np.exp(-0.5 * np.square((radius * np.float32(wave) - 1) / np.float32(width)))
        band[0, 0, 0] = 0
        volume = np.fft.irfftn(spectrum * band, s=(n, n, n), axes=(0, 1, 2)).astype(np.float32)
        volumes.append(volume / volume.std())
    return volumes


def sample_noise(
    volume: np.ndarray, grid: Grid, cell: float, maps: tuple[np.ndarray, np.ndarray] | None = None
) -> np.ndarray:
    """A plane of a periodic noise volume, float32[H, W].

    Args:
        volume: float32[n, n, n] with axes x, y, z.
        cell: mm per cell.
        maps: in-plane coordinates (along rows, along columns) in mm; default the grid's own.
    """
    axis = {"axial": 2, "coronal": 1, "sagittal": 0}[grid.plane]
    n = len(volume)
    place = (grid.at / cell) % n
    low = int(place)
    part = np.float32(place - low)
    plane = np.take(volume, low % n, axis) * (1 - part) + np.take(volume, (low + 1) % n, axis) * part
    plane = np.ascontiguousarray(plane.T)  # rows are y or z, columns x or y
    rows, columns = grid.rows_columns() if maps is None else maps
    scale = np.float32(1 / cell)
    columns = np.ascontiguousarray(np.broadcast_to(columns * scale, grid.shape), np.float32)
    rows = np.ascontiguousarray(np.broadcast_to(rows * scale, grid.shape), np.float32)
    return cv2.remap(plane, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
