"""Training samples: image and bit-planes on the working grid, decoded once, augmented differently each epoch."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.data import Dataset, Sampler, get_worker_info

from ..augment.device import WarpMaps, warp_batch
from ..augment.draw import Crop, Draw, draw
from ..augment.pixels import PixelTransforms
from ..augment.warp import warp_drawn
from ..config import Augment, Data
from ..errors import DataError
from .cache import SampleCache
from .records import Record
from .worker import PIXELS, READ, SENT, WARP, WorkerProgress, failure, free_memory


class Batch(NamedTuple):
    """``images`` uint8[B, 1, S, S]; ``planes`` uint8[B, P, S, S], bit-planes; ``which`` int64[B] into records."""

    images: Tensor
    planes: Tensor
    which: Tensor


class Unwarped(NamedTuple):
    """A batch that is warped later, on the device (``augment.device=cuda``), with the draws of each image."""

    images: Tensor
    planes: Tensor
    which: Tensor
    maps: WarpMaps

    def warp(self, pairs: Sequence[tuple[int, int]]) -> Batch:
        """The batch to train on, on the device of this one."""
        return Batch(*warp_batch(self.images, self.planes, self.maps, pairs), self.which)


Sample = tuple[Tensor, Tensor, int] | tuple[Tensor, Tensor, int, Draw]
Key = tuple[int, ...]  # epoch, index and, for repetitions of an image within an epoch, their number


class TrainingSet(Dataset):
    """Samples by (epoch, index). All randomness of a sample comes from (seed, epoch, index): no state in workers.

    A repetition of an image within an epoch has the key (epoch, index, number), so that no two are warped alike.
    With ``data.crop`` a sample is a crop of that side.

    Args:
        cache: of prepared samples, which sets may share; the records are added to it.
    """

    def __init__(
        self,
        records: Sequence[Record],
        *,
        data: Data,
        augment: Augment,
        seed: int,
        cache: SampleCache,
        progress: bool = False,
    ):
        self.records, self.data, self.augment, self.seed = list(records), data, augment, seed
        self.pixels = PixelTransforms(augment.pixel)
        self.crop = Crop(data.crop, data.crop_foreground) if data.crop else None
        self.pairs = data.pair_indices
        self.cache, self.worker_progress = cache, WorkerProgress()
        cache.add(self.records, progress=progress)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: Key) -> "Sample | DataError":
        """The sample, or the error of its files: raised in a worker it would arrive as a traceback."""
        record, step = self.records[key[1]], READ
        try:
            self.worker_progress.note(key[1], step)
            image, runs, grid = self.cache(record)
            rng = np.random.default_rng((self.seed, *key))
            planes = runs.planes()
            self.worker_progress.note(key[1], step := WARP)
            drawn = draw(rng, self.augment, grid.content, image.shape[0], planes, self.crop)
            later = self.augment.device == "cuda"
            if not later:
                image, planes = warp_drawn(drawn, image, planes, self.pairs)
            self.worker_progress.note(key[1], step := PIXELS)
            image = self.pixels(image, rng)
            self.worker_progress.note(key[1], step := SENT)
            apart = np.empty((planes.shape[2], *planes.shape[:2]), np.uint8)
            cv2.split(planes, list(apart))  # three times as fast as numpy's transpose
            sample = torch.from_numpy(image)[None], torch.from_numpy(apart), key[1]
            return (*sample, drawn) if later else sample
        except DataError as error:
            return error
        except Exception as error:
            return failure(error, record.image, step)


class Batches(Sampler[list[Key]]):
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


def collate(samples: "list[Sample | DataError]") -> Batch | Unwarped | DataError:
    """Stacks samples into a batch; if a sample failed, returns its error for the training loop to raise."""
    whole = []
    for sample in samples:
        if isinstance(sample, DataError):
            return sample
        whole.append(sample)
    try:
        images, planes, index, *draws = zip(*whole, strict=True)
        batch = Batch(torch.stack(images), torch.stack(planes), torch.tensor(index))
        found = Unwarped(*batch, WarpMaps.of(draws[0])) if draws else batch
        if get_worker_info() is not None:  # here, since a failure in the sending thread would go unreported
            for part in tree_leaves(found):
                part.share_memory_()
        return found
    except Exception as error:
        return DataError(
            f"a batch of {len(whole)} images could not be handed over ({type(error).__name__}: "
            f"{' '.join(str(error).split())}). {free_memory()} Enlarge /dev/shm (docker run --shm-size=8g), or lower "
            "workers= or batch="
        )
