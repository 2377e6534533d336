"""One geometric warp: flip, shift, scale, rotation and elastic deformation composed into one map, applied once.

The image is resampled bilinearly and all bit-planes together by nearest neighbour, through the same map, so
mask and image stay in step and 29 classes cost as much as 4 channels.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from ..config import Augment
from ..data.planes import swap_classes


def warp(
    image: np.ndarray,
    planes: np.ndarray,
    content: tuple[int, int],
    rng: np.random.Generator,
    augment: Augment,
    pairs: Sequence[tuple[int, int]],
) -> tuple[np.ndarray, np.ndarray]:
    """A random warp of image uint8[S, S] and planes uint8[S, S, P].

    Args:
        content: rows and columns of the grid that hold the image; flips and rotations turn about its centre.
        pairs: classes that a mirror exchanges.
    """
    flipped, matrix = draw_affine(rng, augment, content)
    bend = draw_elastic(rng, augment, image.shape[0])
    if bend is None and np.array_equal(matrix, np.eye(2, 3)):
        return image, planes
    x, y = affine_map(matrix, image.shape[0])
    if bend is not None:
        x, y = x + bend[0], y + bend[1]
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


def affine_map(matrix: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Source coordinates x, y float32[S, S] of every output pixel under a matrix float64[2, 3]."""
    axis = np.arange(side, dtype=np.float32)
    (a, b, c), (d, e, f) = matrix.astype(np.float32)
    return a * axis + (b * axis + c)[:, None], d * axis + (e * axis + f)[:, None]
