"""Where masks are and how large they are, from their runs alone, for every image of a vote."""

from collections.abc import Sequence

import numpy as np

from ..masks.stack import Stack

# float[..., 3] of a mask: x and y of its centre of mass and its area, in pixels; NaN, NaN, 0 for an empty one
Places = np.ndarray

MIN_STEPS = 50  # neighbouring runs that must agree on the width of an image of unknown size
AGREEING_STEPS = 0.5  # fraction of them


def places(stacks: Sequence[Stack], width: int) -> Places:
    """float64[M, C, 3]: centre and area of each member's masks of one image. A run may cross rows."""
    ends = np.cumsum([len(stack.runs) for stack in stacks])
    firsts = np.stack([stack.splits[:-1] + end - len(stack.runs) for stack, end in zip(stacks, ends, strict=True)])
    runs = np.empty((2, ends[-1]), np.int64)  # contiguous: half the time
    np.concatenate([stack.runs.T for stack in stacks], axis=1, out=runs)
    starts = runs[0]
    sums = np.zeros((3, len(starts) + 1))  # areas, sums of y, sums of the places on the line of pixels
    areas, below, along = sums[:, :-1]
    np.subtract(runs[1], starts, out=areas)
    rows = starts // width
    np.multiply(rows, areas, out=below)
    np.add(starts, (areas - 1) / 2, out=along)
    along *= areas
    crossing = np.flatnonzero(runs[1] > (rows + 1) * width)
    if len(crossing):
        below[crossing] = _up_to(runs[1, crossing], width) - _up_to(starts[crossing], width)
    found = np.add.reduceat(sums, firsts.reshape(-1), axis=1)
    counts = np.diff(firsts.reshape(-1), append=len(starts))
    found[:, counts == 0] = 0
    area, y, line = found
    with np.errstate(invalid="ignore"):
        x, y = (line - y * width) / area, y / area  # the sums are whole numbers and halves, so this is exact
    return np.stack([x, y, area], axis=1).reshape(*firsts.shape, 3)


def _up_to(ends: np.ndarray, width: int) -> np.ndarray:
    """float64[N]: the sum of y over all pixels before each place."""
    rows, columns = np.divmod(ends, width)
    return width * (rows * (rows - 1) / 2) + rows * columns


def guess_width(stacks: Sequence[Stack]) -> int | None:
    """Width of an image of unknown size, from the steps between runs of neighbouring rows; None if they differ.

    The middles of a mask's runs are one row apart, give or take a pixel, and as often more as less.
    """
    steps = []
    for stack in stacks:
        middles = stack.runs.sum(axis=1)
        within = np.diff(stack.labels) == 0
        steps.append(np.diff(middles)[within])
    found = np.concatenate(steps) / 2
    found = found[found > 1]
    if len(found) < MIN_STEPS:
        return None
    width = round(float(np.median(found)))
    close = np.abs(found - width) <= max(2.0, 0.01 * width)
    return width if close.mean() >= AGREEING_STEPS else None


def median(values: np.ndarray) -> np.ndarray:
    """Median over the last axis without NaN; NaN if all are."""
    ordered = np.sort(values, axis=-1)  # NaN last
    count = np.isfinite(ordered).sum(axis=-1, keepdims=True)
    low, high = (
        np.take_along_axis(ordered, at, -1)
        for at in (np.maximum(count - 1, 0) // 2, np.minimum(count // 2, ordered.shape[-1] - 1))
    )
    return ((low + high) / 2)[..., 0]


def quantile(values: np.ndarray, part: float) -> float:
    """Quantile of all values that are not NaN; NaN if all are."""
    found = values[np.isfinite(values)]
    return float(np.quantile(found, part)) if len(found) else float("nan")


def cycles(to: list[int]) -> list[list[int]]:
    """The cycles of a permutation.

    >>> cycles([1, 0, 2])
    [[0, 1], [2]]
    """
    found, left = [], set(range(len(to)))
    while left:
        cycle = [min(left)]
        while to[cycle[-1]] != cycle[0]:
            cycle.append(to[cycle[-1]])
        found.append(cycle)
        left -= set(cycle)
    return found
