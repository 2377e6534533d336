"""The order of an epoch's images, cut into batches and steps, and shared out among processes."""

import math
from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

Key = tuple[int, ...]  # epoch, number of the image and, from its second time in an epoch on, the times before


class BatchOrder(Sampler[list[Key]]):
    """Batches of (epoch, index) in an order that depends only on (seed, epoch), starting from any batch.

    The last batch of an epoch may be smaller. Without weights each image comes once. With them an image of weight w
    comes w times on average and at least floor(w) times; all epochs have the same length (``images``).

    If several processes train together, each step has the same images, split over the processes; the length (``len``)
    is that of a single process.

    Args:
        weights: float64[count], mean appearances of each image per epoch; None: once.
        accumulate: batches per step.
        process: rank of this process and number of processes.
    """

    def __init__(
        self,
        count: int,
        batch: int,
        seed: int,
        weights: np.ndarray | None = None,
        *,
        accumulate: int = 1,
        process: tuple[int, int] = (0, 1),
    ):
        self.batch, self.seed, self.accumulate, self.process = batch, seed, accumulate, process
        self.ends = None if weights is None else np.cumsum(weights)
        self.count = count
        self.images = count if self.ends is None else math.ceil(self.ends[-1] - 1e-9)
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return -(-self.images // self.batch)

    def __iter__(self) -> Iterator[list[Key]]:
        keys = self._keys()
        for _, own in self.steps():
            for low, high in own:
                yield keys[low:high]

    def steps(self) -> Iterator[tuple[int, list[tuple[int, int]]]]:
        """Images per step from ``start`` on, and the ranges of this process's batches in the epoch's order.

        The first process has the most images; in a short step the last ones may have none.
        """
        (rank, size), span = self.process, self.batch * self.accumulate
        for first in range(self.start * self.batch, self.images, span):
            images = min(span, self.images - first)
            low, high = (first + -(-images * number // size) for number in (rank, rank + 1))
            yield images, [(at, min(at + self.batch, high)) for at in range(low, high, self.batch)]

    def _keys(self) -> list[Key]:
        """All keys of the epoch in order."""
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(self.images)
        if self.ends is None:
            return [(self.epoch, int(i)) for i in order]
        # systematic sampling: evenly spaced marks over the cumulated weights, from a random start
        marks = (np.arange(self.images) + rng.random()) * (self.ends[-1] / self.images)
        drawn = np.minimum(np.searchsorted(self.ends, marks, side="right"), self.count - 1)
        times = np.arange(self.images) - np.searchsorted(drawn, drawn)
        return [(self.epoch, int(drawn[i]), *([int(times[i])] if times[i] else [])) for i in order]
