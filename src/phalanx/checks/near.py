"""Pairs of images that look alike, among any number: exact, without comparing each with each.

Two thumbnails correlate by at least c only if their normed values are no farther apart than sqrt(2 - 2 c), and no
projection of them is. So images are sorted into boxes of their main projections, and only boxes that are near enough
are compared: first by the bits of the hashes, then by the thumbnails themselves.
"""

from collections.abc import Callable, Iterator

import numpy as np

AXES = 8  # projections
BOX = 256  # images
COLUMNS = 2048  # that are compared at once with those of a box
SAMPLE = 2048  # images that the axes are found by

Thumbs = Callable[[np.ndarray], np.ndarray]  # uint8[K, P] of the images with the given numbers


def near_rows(
    hashes: np.ndarray, thumbs: Thumbs, bits: int, correlation: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Numbers of images whose hashes differ by at most ``bits``, and which may correlate by ``correlation``: pairs
    int64[K] and int64[K], the lesser first, each once.

    Args:
        hashes: uint64[N].
        thumbs: reads thumbnails.
    """
    count = len(hashes)
    order, boxes = np.arange(count), [(0, count)]
    points, low, high = (np.zeros((size, 0), np.float32) for size in (count, 1, 1))
    if count > BOX:
        points = projected(count, thumbs)
        order, boxes = split(points)
        low = np.stack([points[order[a:b]].min(axis=0) for a, b in boxes])
        high = np.stack([points[order[a:b]].max(axis=0) for a, b in boxes])
    reach = 2 - 2 * correlation + 1e-3  # squared; thumbnails are projected in single precision
    codes = hashes[order]
    for number, (begin, end) in enumerate(boxes):
        apart = np.maximum(0, np.maximum(low[number:] - high[number], low[number] - high[number:]))
        near = number + np.flatnonzero((apart**2).sum(axis=1) <= reach)
        columns = np.concatenate([np.arange(*boxes[other]) for other in near.tolist()])
        for first in range(0, len(columns), COLUMNS):
            some = columns[first : first + COLUMNS]
            differing = np.bitwise_count(codes[begin:end, None] ^ codes[None, some])
            i, j = np.nonzero(differing <= bits)
            i, j = i + begin, some[j]
            i, j = order[i[i < j]], order[j[i < j]]
            close = ((points[i] - points[j]) ** 2).sum(axis=1) <= reach
            i, j = i[close], j[close]
            if len(i):
                yield np.minimum(i, j), np.maximum(i, j)


def projected(count: int, thumbs: Thumbs) -> np.ndarray:
    """float32[N, AXES]: the normed thumbnails on the axes along which they vary most."""
    sample = normed(thumbs(np.unique(np.linspace(0, count - 1, min(count, SAMPLE)).astype(int))))
    rest = sample - sample.mean(axis=0)
    axes = np.linalg.eigh(rest.T @ rest)[1][:, -AXES:].astype(np.float32)
    points = np.empty((count, AXES), np.float32)
    for first in range(0, count, SAMPLE):
        rows = np.arange(first, min(first + SAMPLE, count))
        points[rows] = normed(thumbs(rows)) @ axes
    return points


def normed(thumbs: np.ndarray) -> np.ndarray:
    """float32[K, P] without their means, of length 1."""
    values = thumbs.astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)


def split(points: np.ndarray) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """An order of the points, and boxes of at most BOX of them as ranges of it, halved along their widest axis."""
    order = np.arange(len(points))
    pending, boxes = [(0, len(points))], []
    while pending:
        begin, end = pending.pop()
        if end - begin <= BOX:
            boxes.append((begin, end))
            continue
        inside = order[begin:end]  # one axis at a time: of a million images, all are 32 MB
        axis = int(np.argmax([np.ptp(points[inside, axis]) for axis in range(points.shape[1])]))
        middle = (end - begin) // 2
        order[begin:end] = inside[np.argpartition(points[inside, axis], middle)]
        pending += [(begin, begin + middle), (begin + middle, end)]
    return order, sorted(boxes)
