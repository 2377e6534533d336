"""One geometric warp: crop, flip, shift, scale, rotation, elastic and grid distortion in one map, applied once.

The image is resampled bilinearly and all bit-planes together by nearest neighbour, through the same map, so
mask and image stay in step and 29 classes cost as much as 4 channels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from ..config import Augment
from ..data.planes import swap_classes


class Crop(NamedTuple):
    """A square window of ``side`` pixels; the share ``foreground`` of them is laid around a pixel of some class."""

    side: int
    foreground: float


class Stretch(NamedTuple):
    """A grid distortion along one axis: piecewise linear, ``source`` = where the knots ``output`` come from."""

    output: np.ndarray
    source: np.ndarray

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Source coordinates of output pixels; beside the content nothing moves, and no border pixel fades."""
        inside = (pixels > self.output[0]) & (pixels < self.output[-1])
        moved = np.clip(np.interp(pixels, self.output, self.source), self.source[0] + 0.5, self.source[-1] - 0.5)
        return np.where(inside, moved, pixels)

    def inverse(self) -> "Stretch":
        """From source to output."""
        return Stretch(self.source, self.output)


def warp(
    image: np.ndarray,
    planes: np.ndarray,
    content: tuple[int, int],
    rng: np.random.Generator,
    augment: Augment,
    pairs: Sequence[tuple[int, int]],
    crop: Crop | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """A random warp of image uint8[S, S] and planes uint8[S, S, P]; with a crop both have its side.

    Args:
        content: rows and columns of the grid that hold the image; flips and rotations turn about its centre.
        pairs: classes that a mirror exchanges.
        crop: the window of the warped image to give; only its pixels are computed.
    """
    side = image.shape[0]
    flipped, matrix = draw_affine(rng, augment, content)
    bend = draw_elastic(rng, augment, side)
    stretches = draw_grid(rng, augment, content)
    top, left, size = 0, 0, side
    if crop is not None:
        size = crop.side
        top, left = draw_corner(rng, crop, planes, content, matrix, stretches)
    if bend is None and stretches is None and np.array_equal(matrix, np.eye(2, 3)):
        if crop is None:
            return image, planes
        window = np.s_[top : top + size, left : left + size]
        return np.ascontiguousarray(image[window]), planes[window]
    x, y = affine_map(matrix, np.arange(top, top + size), np.arange(left, left + size), stretches)
    if bend is not None:
        x += bend[0, top : top + size, left : left + size]
        y += bend[1, top : top + size, left : left + size]
    image = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    # OpenCV remaps at most four channels at a time
    quads = [np.ascontiguousarray(planes[:, :, i : i + 4]) for i in range(0, planes.shape[2], 4)]
    parts = [cv2.remap(quad, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT) for quad in quads]
    planes = np.concatenate([part.reshape(*image.shape, -1) for part in parts], axis=2)
    return image, swap_classes(planes, pairs) if flipped else planes


def draw_affine(rng: np.random.Generator, augment: Augment, content: tuple[int, int]) -> tuple[bool, np.ndarray]:
    """Whether the image is mirrored, and the matrix float64[2, 3] from output to source pixels (x, y)."""
    rows, columns = content
    centre = np.array([(columns - 1) / 2, (rows - 1) / 2])
    flipped = rng.random() < augment.flip
    linear = np.diag([-1.0 if flipped else 1.0, 1.0])
    shift = np.zeros(2)
    if rng.random() < augment.warp:
        angle = np.deg2rad(rng.uniform(-augment.rotate, augment.rotate))
        factor = rng.uniform(1 - augment.scale, 1 + augment.scale)
        cos, sin = np.cos(angle) / factor, np.sin(angle) / factor
        linear = linear @ np.array([[cos, -sin], [sin, cos]])
        shift = rng.uniform(-augment.shift, augment.shift, 2) * (columns, rows)
    # output p comes from source: linear (p - centre - shift) + centre
    return flipped, np.column_stack([linear, centre - linear @ (centre + shift)])


def draw_elastic(rng: np.random.Generator, augment: Augment, side: int) -> np.ndarray | None:
    """Displacements float32[2, S, S] in pixels: a coarse random field, smoothly enlarged; None where none is due."""
    elastic = augment.elastic
    if rng.random() >= elastic.p:
        return None
    cells = max(2, round(1 / max(elastic.cell, 1 / side))) + 1
    field = rng.normal(0, elastic.strength * side, (2, cells, cells)).astype(np.float32)
    return np.stack([cv2.resize(part, (side, side), interpolation=cv2.INTER_CUBIC) for part in field])


def draw_grid(rng: np.random.Generator, augment: Augment, content: tuple[int, int]) -> tuple[Stretch, Stretch] | None:
    """Grid distortion of rows and of columns: every strip of the grid wider or narrower; None where none is due."""
    grid = augment.grid
    if not grid.p or rng.random() >= grid.p:  # recipes without it keep the draws they had before it existed
        return None
    rows, columns = (_stretch(rng.uniform(1 - grid.limit, 1 + grid.limit, grid.steps), n) for n in content)
    return rows, columns


def _stretch(widths: np.ndarray, length: int) -> Stretch:
    """Strips of the relative widths drawn, together as long as before: the frame stays where it is."""
    knots = np.concatenate([[0], np.cumsum(widths)]) / widths.sum()
    return Stretch(np.linspace(0, 1, len(knots)) * length - 0.5, knots * length - 0.5)


def draw_corner(
    rng: np.random.Generator,
    crop: Crop,
    planes: np.ndarray,
    content: tuple[int, int],
    matrix: np.ndarray,
    stretches: tuple[Stretch, Stretch] | None,
) -> tuple[int, int]:
    """Top and left of a crop within the content of the warped image.

    A crop that prefers foreground lies around a random pixel of a random class that is there, so that small bones
    are seen as often as large ones; the pixel falls into the crop's central half, as far as the frame allows.
    """
    target = None
    if rng.random() < crop.foreground:
        target = _foreground(rng, planes)
    corner = []
    if target is not None:
        # where the warp takes the pixel; elastic deformation is left out, being small beside a quarter of a crop
        x, y = np.linalg.solve(matrix[:, :2], target - matrix[:, 2])
        if stretches is not None:
            y, x = (float(one.inverse()(np.array(value))) for one, value in zip(stretches, (y, x), strict=True))
        corner = [value - rng.uniform(0.25, 0.75) * crop.side for value in (y, x)]
    else:
        corner = [rng.uniform(0, max(0, length - crop.side) + 1) for length in content]
    most = [max(0, length - crop.side) for length in content]
    top, left = (int(np.clip(np.floor(value), 0, limit)) for value, limit in zip(corner, most, strict=True))
    return top, left


def _foreground(rng: np.random.Generator, planes: np.ndarray) -> np.ndarray | None:
    """x, y of a random pixel of a random class of bit-planes uint8[S, S, P]; None where no class is there."""
    present = np.bitwise_or.reduce(planes, axis=(0, 1))
    classes = np.flatnonzero(np.unpackbits(present, bitorder="little"))
    if not len(classes):
        return None
    plane, bit = divmod(int(rng.choice(classes)), 8)
    places = np.flatnonzero(planes[:, :, plane] & (1 << bit))
    y, x = divmod(int(rng.choice(places)), planes.shape[1])
    return np.array([x, y], float)


def affine_map(
    matrix: np.ndarray, rows: np.ndarray, columns: np.ndarray, stretches: tuple[Stretch, Stretch] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Source coordinates x, y float32[rows, columns] of output pixels: stretched by axis, then float64[2, 3]."""
    if stretches is not None:
        rows, columns = stretches[0](rows), stretches[1](columns)
    down, along = rows.astype(np.float32), columns.astype(np.float32)
    (a, b, c), (d, e, f) = matrix.astype(np.float32)
    return a * along + (b * down + c)[:, None], d * along + (e * down + f)[:, None]
