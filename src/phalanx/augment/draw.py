"""Parameters of a warp, drawn from a sample's generator only; ``warp.py`` and ``device.py`` apply the same draw."""

from typing import NamedTuple

import numpy as np

from ..config import Augment
from ..masks.planes import present_classes

UPSIDE_DOWN, TRANSPOSED = np.diag([1.0, -1.0]), np.array([[0.0, 1.0], [1.0, 0.0]])


class Crop(NamedTuple):
    """A square window of ``side`` pixels; the fraction ``foreground`` of them is around a pixel of some class."""

    side: int
    foreground: float


class Window(NamedTuple):
    """The part of the warped grid to compute, in pixels."""

    top: int
    left: int
    height: int
    width: int


class AxisDistortion(NamedTuple):
    """A grid distortion along one axis: piecewise linear, from knots ``output`` to knots ``source``."""

    output: np.ndarray
    source: np.ndarray

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Source coordinates of output pixels; outside the content nothing moves, and no border pixel fades."""
        inside = (pixels > self.output[0]) & (pixels < self.output[-1])
        moved = np.clip(np.interp(pixels, self.output, self.source), self.source[0] + 0.5, self.source[-1] - 0.5)
        return np.where(inside, moved, pixels)

    def inverse(self) -> "AxisDistortion":
        """From source to output."""
        return AxisDistortion(self.source, self.output)


class Draw(NamedTuple):
    """One warp: output pixel p shows source pixel matrix(distortions(p)) + field(p), for the pixels of the window.

    ``matrix`` float64[2, 3] from output to source (x, y). ``field`` float32[2, K, K], displacements (x, y) in pixels
    at control points spread over a square of ``side`` pixels: all 0 if no elastic deformation was drawn, K = 0
    if the recipe has none. ``content``: rows and columns, the centre of which is that of rotation.
    """

    flipped: bool
    matrix: np.ndarray
    field: np.ndarray
    distortions: tuple[AxisDistortion, AxisDistortion] | None
    window: Window
    side: int
    content: tuple[int, int]

    def lines(self) -> tuple[np.ndarray, np.ndarray]:
        """Float32[2, height] and [2, width] of the window: without the field, source (x, y) = the sum of both."""
        top, left, height, width = self.window
        rows, columns = np.arange(top, top + height, dtype=float), np.arange(left, left + width, dtype=float)
        if self.distortions is not None:
            rows, columns = self.distortions[0](rows), self.distortions[1](columns)
        a, b, c = (self.matrix[:, i : i + 1] for i in range(3))
        return (b * rows + c).astype(np.float32), (a * columns).astype(np.float32)


def draw(
    rng: np.random.Generator,
    augment: Augment,
    content: tuple[int, int],
    side: int,
    planes: np.ndarray,
    crop: Crop | None = None,
) -> Draw:
    """A warp of a grid of ``side`` pixels.

    Args:
        content: rows and columns of the grid that the image covers; flips and rotations are about its centre.
        planes: bit-planes uint8[H, W, P], in which a crop finds its foreground.
    """
    flipped, matrix = draw_affine(rng, augment, content)
    field = draw_elastic(rng, augment, side)
    distortions = draw_grid_distortion(rng, augment, content)
    window = Window(0, 0, side, side)
    if crop is not None:
        top, left = draw_corner(rng, crop, planes, content, matrix, distortions)
        window = Window(top, left, crop.side, crop.side)
    return Draw(flipped, matrix, field, distortions, window, side, content)


def draw_affine(rng: np.random.Generator, augment: Augment, content: tuple[int, int]) -> tuple[bool, np.ndarray]:
    """Whether the image is mirrored, and the matrix float64[2, 3] from output to source pixels (x, y)."""
    rows, columns = content
    centre = np.array([(columns - 1) / 2, (rows - 1) / 2])
    flipped = rng.random() < augment.flip
    linear = np.diag([-1.0 if flipped else 1.0, 1.0])
    for chance, mirror in ((augment.vflip, UPSIDE_DOWN), (augment.transpose, TRANSPOSED)):
        if chance and rng.random() < chance:  # recipes without it draw as they did before it existed
            flipped, linear = not flipped, linear @ mirror
    shift = np.zeros(2)
    if rng.random() < augment.warp:
        angle = np.deg2rad(rng.uniform(-augment.rotate, augment.rotate))
        factor = rng.uniform(1 - augment.scale, 1 + augment.scale)
        cos, sin = np.cos(angle) / factor, np.sin(angle) / factor
        linear = linear @ np.array([[cos, -sin], [sin, cos]])
        shift = rng.uniform(-augment.shift, augment.shift, 2) * (columns, rows)
    # output p comes from source: linear (p - centre - shift) + centre
    return flipped, np.column_stack([linear, centre - linear @ (centre + shift)])


def draw_elastic(rng: np.random.Generator, augment: Augment, side: int) -> np.ndarray:
    """Displacements float32[2, K, K] in pixels at control points; all 0 if not drawn, K = 0 if not in the recipe."""
    elastic = augment.elastic
    due = rng.random() < elastic.p
    cells = max(2, round(1 / max(elastic.cell, 1 / side))) + 1 if elastic.p else 0
    if not due:
        return np.zeros((2, cells, cells), np.float32)
    return rng.normal(0, elastic.strength * side, (2, cells, cells)).astype(np.float32)


def draw_grid_distortion(
    rng: np.random.Generator, augment: Augment, content: tuple[int, int]
) -> tuple[AxisDistortion, AxisDistortion] | None:
    """Grid distortion of rows and of columns: every strip of the grid wider or narrower; None if none is drawn."""
    grid = augment.grid_distortion
    if not grid.p or rng.random() >= grid.p:  # recipes without it draw as they did before it existed
        return None
    rows, columns = (_distortion(rng.uniform(1 - grid.limit, 1 + grid.limit, grid.steps), n) for n in content)
    return rows, columns


def _distortion(widths: np.ndarray, length: int) -> AxisDistortion:
    """Strips of the given relative widths, together as long as before: the frame does not move."""
    knots = np.concatenate([[0], np.cumsum(widths)]) / widths.sum()
    return AxisDistortion(np.linspace(0, 1, len(knots)) * length - 0.5, knots * length - 0.5)


def draw_corner(
    rng: np.random.Generator,
    crop: Crop,
    planes: np.ndarray,
    content: tuple[int, int],
    matrix: np.ndarray,
    distortions: tuple[AxisDistortion, AxisDistortion] | None,
) -> tuple[int, int]:
    """Top and left of a crop within the content of the warped image.

    A crop around foreground contains a random pixel of a random class that is present, so that small bones are seen
    as often as large ones; the pixel is in the crop's central half, as far as the frame allows.
    """
    target = None
    if rng.random() < crop.foreground:
        target = _foreground(rng, planes)
    corner = []
    if target is not None:
        # where the warp moves the pixel; elastic deformation is ignored, as it is small against a quarter of a crop
        x, y = np.linalg.solve(matrix[:, :2], target - matrix[:, 2])
        if distortions is not None:
            y, x = (float(one.inverse()(np.array(value))) for one, value in zip(distortions, (y, x), strict=True))
        corner = [value - rng.uniform(0.25, 0.75) * crop.side for value in (y, x)]
    else:
        corner = [rng.uniform(0, max(0, length - crop.side) + 1) for length in content]
    most = [max(0, length - crop.side) for length in content]
    top, left = (int(np.clip(np.floor(value), 0, limit)) for value, limit in zip(corner, most, strict=True))
    return top, left


def _foreground(rng: np.random.Generator, planes: np.ndarray) -> np.ndarray | None:
    """x, y of a random pixel of a random class of bit-planes uint8[H, W, P]; None if no class is present."""
    classes = present_classes(planes)
    if not len(classes):
        return None
    plane, bit = divmod(int(rng.choice(classes)), 8)
    places = np.flatnonzero(planes[:, :, plane] & (1 << bit))
    y, x = divmod(int(rng.choice(places)), planes.shape[1])
    return np.array([x, y], float)
