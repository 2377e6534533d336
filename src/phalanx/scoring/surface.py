"""The distance of outlines: surface Dice at a tolerance, and the 95% Hausdorff distance.

These need pixels, but only those of the box that holds both masks. The surface of a mask is its pixels with one of
their four neighbours outside it; beyond the frame is outside.
"""

import numpy as np

from ..masks.stack import Stack
from ..runtime.sidecar import Size


def surface_scores(a: Stack, b: Stack, size: Size, tolerance: float) -> np.ndarray:
    """float64[C, 2]: surface Dice and 95% Hausdorff distance, in pixels, of every class of two stacks.

    Surface Dice (Nikolov et al., 2018) is the fraction of both surfaces' pixels within ``tolerance`` pixels of
    the other surface: 1 if both masks are empty, 0 if one is. The distance is the larger of the two 95th
    percentiles, from either surface to the other; NaN if a mask is empty.
    """
    scores = np.empty((a.classes, 2))
    for c in range(a.classes):
        pair = [stack.runs[stack.splits[c] : stack.splits[c + 1]] for stack in (a, b)]
        empty = [not len(runs) for runs in pair]
        scores[c] = (float(all(empty)), np.nan) if any(empty) else _pair(*_boxes(pair, size[1]), tolerance)
    return scores


def _boxes(pair: list[np.ndarray], width: int) -> tuple[np.ndarray, np.ndarray]:
    """The masks bool[h, w] of runs int64[N, 2], in the rows and columns that hold either."""
    top = min(runs[0, 0] for runs in pair) // width
    bottom = (max(runs[-1, 1] for runs in pair) - 1) // width + 1
    masks = np.zeros((2, (bottom - top) * width), bool)
    for mask, runs in zip(masks, pair, strict=True):
        for start, end in (runs - top * width).tolist():
            mask[start:end] = True
    shaped = masks.reshape(2, bottom - top, width)
    columns = np.flatnonzero(shaped.any(axis=(0, 1)))
    a, b = shaped[:, :, columns[0] : columns[-1] + 1]
    return a, b


def _pair(a: np.ndarray, b: np.ndarray, tolerance: float) -> tuple[float, float]:
    from scipy.ndimage import binary_erosion, distance_transform_edt

    surfaces = [mask & ~binary_erosion(mask) for mask in (a, b)]
    to_b, to_a = (distance_transform_edt(~surface) for surface in reversed(surfaces))
    gaps = [to_b[surfaces[0]], to_a[surfaces[1]]]
    close = sum(int((gap <= tolerance).sum()) for gap in gaps)
    return close / sum(map(len, gaps)), max(float(np.percentile(gap, 95)) for gap in gaps)
