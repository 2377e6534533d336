"""Where a drawn warp moves points: the inverse of the map that images are resampled through."""

import cv2
import numpy as np

from .draw import Draw

ITERATIONS = 50  # at most, of the fixed point that undoes an elastic deformation, whose slope is below 1
ENOUGH = 0.01  # pixels: smaller moves end it


def warp_points(drawn: Draw, points: np.ndarray) -> np.ndarray:
    """Points float64[N, 2] (x, y) of the grid to where the warped window shows them; perhaps outside it.

    Both are on pixel edges: the centre of the first pixel is 0.5, 0.5.
    """
    source = np.asarray(points, np.float64).reshape(-1, 2) - 0.5
    inverse = np.linalg.inv(drawn.matrix[:, :2])

    def undone(moved: np.ndarray) -> np.ndarray:
        found = (moved - drawn.matrix[:, 2]) @ inverse.T
        if drawn.distortions is not None:
            rows, columns = (one.inverse() for one in drawn.distortions)
            found = np.column_stack([columns(found[:, 0]), rows(found[:, 1])])
        return found

    place = undone(source)
    if len(source) and drawn.field.any():
        bend = cv2.resize(drawn.field.transpose(1, 2, 0), (drawn.side, drawn.side), interpolation=cv2.INTER_CUBIC)
        for _ in range(ITERATIONS):
            before, place = place, undone(source - _sampled(bend, place))
            if np.abs(place - before).max() < ENOUGH:
                break
    return place - (drawn.window.left, drawn.window.top) + 0.5


def _sampled(field: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Values float64[N, 2] of a field float32[S, S, 2] at points; beyond its border those of the border."""
    at = points.astype(np.float32)[:, None, :]
    found = np.empty((len(at), 2))
    for first in range(0, len(at), 32_000):  # as many rows as OpenCV takes
        part = np.ascontiguousarray(at[first : first + 32_000])
        found[first : first + 32_000] = cv2.remap(
            field, part[..., 0], part[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        ).reshape(-1, 2)
    return found
