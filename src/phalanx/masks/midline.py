"""The width of an elongated object along its midline, from its mask: of a trachea, of a vessel.

The midline is the path between the ends of the object that stays furthest from its border: the cheapest path over its
pixels, where a step costs its length divided by the squared distance to the border. Each pixel belongs to the nearest
place of the smoothed midline, and the width at a place is the area of its pixels divided by the length of midline that
they share. So it is precise to a fraction of a pixel, which twice the distance to the border is not.
"""

from typing import Any, NamedTuple

import numpy as np

ELONGATED = 4.0  # elongation from which an object has a midline worth the name; an ellipse of 3 to 1 has 2.4
# sigma of the Gaussian that smooths the midline, and the one of the widths, in median widths; the latter is smaller, as
# it fills up short narrowings
SMOOTHING, WIDTH_SMOOTHING = 0.5, 0.25
END = 0.5  # the ends, of so many median widths, are left out: there the outline closes


class Widths(NamedTuple):
    """Widths in pixels along a midline."""

    path: np.ndarray  # float64[N, 2], x and y of its places on pixel centres, a pixel apart, without the ends
    widths: np.ndarray  # float64[N]

    @property
    def least(self) -> float:
        """The least width."""
        return float(self.widths.min())

    @property
    def median(self) -> float:
        """The median width."""
        return float(np.median(self.widths))

    @property
    def ratio(self) -> float:
        """Least over median width: 1 for an even object, small where it narrows."""
        return self.least / self.median


def elongation(mask: np.ndarray) -> float:
    """Area of the largest part of a mask bool[H, W] over its squared largest width: length over width of a tube; 0 of
    an empty mask.

    >>> round(elongation(np.ones((5, 60), bool)), 1)
    12.0
    """
    part, _ = _largest(mask)
    if part is None:
        return 0.0
    widest = 2 * float(_depth(part).max()) - 1
    return float(part.sum() / widest**2)


def widths_along_midline(mask: np.ndarray) -> Widths | None:
    """Widths of the largest part of a mask bool[H, W]; None if it is too short to have any."""
    part, corner = _largest(mask)
    if part is None:
        return None
    path = _cheapest_path(part)
    if len(path) < 3:
        return None
    points = np.argwhere(part)
    rough = len(points) / max(1.0, _length(path))
    path = _even_steps(_smoothed(path, SMOOTHING * rough))
    if len(path) < 3:
        return None
    from scipy.spatial import cKDTree

    counts = np.bincount(cKDTree(path).query(points)[1], minlength=len(path)).astype(float)
    # the ends take all pixels beyond them: only what lies between is a width
    cut = max(1, round(END * float(np.median(counts))))
    if len(path) - 2 * cut < 3:
        return None
    widths = _smoothed(counts[:, None], WIDTH_SMOOTHING * float(np.median(counts)), cut)[cut:-cut, 0] / _step(path)
    return Widths(path[cut:-cut, ::-1] + corner, widths)


def _largest(mask: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """The largest connected part of a mask in the smallest frame with a margin of one pixel, None of an empty one; and
    the corner of that frame in the mask, x and y."""
    import cv2

    count, labels, stats, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(mask, np.uint8), connectivity=8)
    if count < 2:
        return None, np.zeros(2)
    k = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    left, top, width, height = stats[k, :4]
    return np.pad(labels[top : top + height, left : left + width] == k, 1), np.array([left - 1, top - 1])


def _depth(part: np.ndarray) -> np.ndarray:
    """Distance of each pixel's centre to the nearest one outside, float[H, W]."""
    import cv2

    return cv2.distanceTransform(part.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def _cheapest_path(part: np.ndarray) -> np.ndarray:
    """Rows and columns float64[N, 2] of the pixels of the midline, from one end to the other."""
    from scipy.sparse.csgraph import dijkstra

    inside = np.argwhere(part)
    lengths, costs = _graphs(part, inside)
    start = int(dijkstra(lengths, indices=0).argmax())
    start = int(dijkstra(lengths, indices=start).argmax())  # the ends are as far from each other as possible
    end = int(dijkstra(lengths, indices=start).argmax())
    before, place, path = dijkstra(costs, indices=start, return_predecessors=True)[1], end, [end]
    while place != start:
        place = int(before[place])
        path.append(place)
    return inside[path].astype(float)


def _graphs(part: np.ndarray, inside: np.ndarray) -> tuple[Any, Any]:
    """Graphs of neighbouring pixels: lengths of steps, and their costs."""
    from scipy.sparse import coo_array

    number = np.full(part.shape, -1)
    number[tuple(inside.T)] = np.arange(len(inside))
    depth, edges = _depth(part), []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        there = number[tuple((inside + np.array([down, right])).T)]  # within the frame, which has a margin
        one = np.flatnonzero(there >= 0)
        mean = (depth[tuple(inside[one].T)] + depth[tuple(inside[there[one]].T)]) / 2
        edges.append((one, there[one], np.full(len(one), np.hypot(down, right)), mean))
    first, second, length, mean = (np.concatenate(column) for column in zip(*edges, strict=True))
    shape = (len(inside), len(inside))
    both = np.concatenate([first, second]), np.concatenate([second, first])
    return tuple(coo_array((np.tile(each, 2), both), shape).tocsr() for each in (length, length / mean**2))


def _length(path: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())


def _step(path: np.ndarray) -> float:
    return _length(path) / (len(path) - 1)


def _even_steps(path: np.ndarray) -> np.ndarray:
    """The path with places about a pixel apart."""
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    places = np.linspace(0, along[-1], max(2, 1 + round(float(along[-1]))))
    return np.stack([np.interp(places, along, path[:, k]) for k in (0, 1)], axis=1)


def _smoothed(values: np.ndarray, sigma: float, cut: int = 0) -> np.ndarray:
    """Values [N, K] smoothed along N by a Gaussian. The first and last ``cut`` do not spread into the others."""
    from scipy.ndimage import gaussian_filter1d

    found = np.array(values, float)
    inner = found[cut : len(found) - cut]
    found[cut : len(found) - cut] = gaussian_filter1d(inner, max(sigma, 0.5), axis=0, mode="nearest")
    return found
