"""The grid that masks were predicted on, from their edges, and how many pixels off it they lie.

Probabilities are upsampled from a network's grid to the image by bilinear interpolation, and are steep where a mask
ends: so edges lie more often where two cells of the grid meet. If all runs are off by a pixel, so is that pattern. It
shows a shift even of weak members, whose masks differ by many pixels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..masks.stack import Stack
from ..runtime.sidecar import Size

CELLS = 16  # numbers of cells that are tried are multiples of it, as input sizes are
MIN_CELLS = 64  # along the long side: fewer are the spacing of what is in the image
MIN_STEP, MAX_STEP = 2, 4  # pixels of an edge between rows that count
MIN_PEAK = 0.015  # of all edges, that a grid must move together
MIN_PROMINENCE = 5.0  # of a peak over the median
MIN_EDGES = 2000
TOLERANCE = 0.3  # pixels: a whole number of them is off, no fraction


class Grid(NamedTuple):
    """The strongest pattern of edges along one axis."""

    cells: int  # along the long side
    offset: float  # pixels that edges lie right of or below the grid's cells


def edges(stacks: Sequence[Stack], size: Size) -> np.ndarray:
    """complex128[M, 2, L // 2 + 1]: Fourier sums of the places of edges, across and down, and first their number."""
    return np.stack([[_across(stack, size), _down(stack, size)] for stack in stacks])


def _across(stack: Stack, size: Size) -> np.ndarray:
    starts, ends = stack.runs[:, 0] % size[1], (stack.runs[:, 1] - 1) % size[1] + 1
    inner = np.concatenate([starts[starts > 0], ends[ends < size[1]]])
    return _sums(np.bincount(inner, minlength=max(size) + 1).astype(float), max(size))


def _down(stack: Stack, size: Size) -> np.ndarray:
    """Of runs in neighbouring rows, what one covers and the other does not is an edge between the rows. A single pixel
    is of a steep outline, which goes through all rows alike."""
    if not len(stack.runs):
        return _sums(np.zeros(max(size) + 1), max(size))
    rows = stack.runs[:, 0] // size[1]
    columns = stack.runs - (rows * size[1])[:, None]
    follows = (np.diff(rows) == 1) & (np.diff(stack.labels) == 0)
    steps = np.abs(np.diff(columns, axis=0))[follows]
    first, last = np.append(True, ~follows), np.append(~follows, True)
    lengths = columns[:, 1] - columns[:, 0]
    places = np.concatenate([np.repeat(rows[1:][follows], 2), rows[first], rows[last] + 1])
    weights = np.minimum(np.concatenate([steps.reshape(-1), lengths[first], lengths[last]]), MAX_STEP).astype(float)
    weights[(weights < MIN_STEP) | (places == 0) | (places >= size[0])] = 0
    return _sums(np.bincount(np.clip(places, 0, max(size)), weights=weights, minlength=max(size) + 1), max(size))


def _sums(counts: np.ndarray, long: int) -> np.ndarray:
    counts[0] += counts[long]
    return np.fft.rfft(counts[:long])


def grid_of(sums: np.ndarray, long: int) -> Grid | None:
    """The grid that edges show along one axis; None if there is no clear one.

    Args:
        sums: complex128[L // 2 + 1], as :func:`edges` returns them, added up over images.
    """
    total = sums[0].real
    if total < MIN_EDGES or len(sums) < 2 * MIN_CELLS:
        return None
    power = np.abs(sums) / total
    noise = np.median(power[MIN_CELLS:])
    clear = np.where((power >= MIN_PEAK) & (power >= MIN_PROMINENCE * noise), power, 0)
    clear[:MIN_CELLS] = 0
    clear[np.arange(len(clear)) % CELLS > 0] = 0
    cells = int(clear.argmax())
    if not clear[cells]:
        return None
    return Grid(cells, float(-np.angle(sums[cells]) * long / (2 * np.pi * cells)))


def pixels_off(one: Grid | None, other: Grid | None, long: int) -> int:
    """Whole pixels that the first member's masks lie farther right or down than the second's, by their grids; 0 if they
    do not show it. A member without a clear grid is taken to be in its place."""
    if one is None and other is None:
        return 0
    off = (one.offset if one else 0.0) - (other.offset if other else 0.0)
    whole = round(off)
    cell = long / max(grid.cells for grid in (one, other) if grid)
    return whole if whole and abs(off - whole) <= TOLERANCE and abs(whole) <= cell / 2 else 0
