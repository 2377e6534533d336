"""Training samples: image and bit-planes on the working grid, decoded once, augmented differently each epoch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.data import Dataset, get_worker_info

from ..augment.device import WarpMaps, warp_batch
from ..augment.draw import Crop, Draw, draw
from ..augment.pixels import PixelTransforms
from ..augment.warp import warp_drawn
from ..config import Augment, SegmentData
from ..errors import DataError
from .cache import SampleCache
from .records import Record
from .worker import PIXELS, READ, SENT, WARP, WorkerProgress, failure, free_memory, worker_errors


class Batch(NamedTuple):
    """``images`` uint8[B, 1, S, S]; ``planes`` uint8[B, P, S, S], bit-planes; ``rows`` int64[B] into records."""

    images: Tensor
    planes: Tensor
    rows: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device, but for ``rows``."""
        return _to(self, device)

    def split(self, most: int) -> "Iterator[Batch]":
        """Its parts of at most ``most`` images, in order."""
        return _split(self, most)


class Unwarped(NamedTuple):
    """A batch that is warped later, on the device (``augment.device=cuda``), with the draws of each image."""

    images: Tensor
    planes: Tensor
    rows: Tensor
    maps: WarpMaps

    def to(self, device: torch.device) -> "Unwarped":
        """The batch on a device, but for ``rows``."""
        return _to(self, device)

    def split(self, most: int) -> "Iterator[Unwarped]":
        """Its parts of at most ``most`` images, in order."""
        return _split(self, most)

    def warp(self, pairs: Sequence[tuple[int, int]]) -> Batch:
        """The batch to train on, on the device of this one."""
        return Batch(*warp_batch(self.images, self.planes, self.maps, pairs), self.rows)


def _each(values: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A tuple of tensors, or of such tuples, with each tensor changed."""
    return change(values) if isinstance(values, Tensor) else type(values)(*(_each(value, change) for value in values))


def _to(batch: Any, device: torch.device) -> Any:
    return _each(batch, lambda tensor: tensor.to(device, non_blocking=True))._replace(rows=batch.rows)


def _split(batch: Any, most: int) -> Iterator[Any]:
    for first in range(0, len(batch.rows), most):
        yield _each(batch, lambda tensor, first=first: tensor[first : first + most])  # type: ignore[misc]


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
        data: SegmentData,
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

    @staticmethod
    def collate(samples: "list[Sample | DataError]") -> "Batch | Unwarped | DataError":
        """As :func:`collate`."""
        return collate(samples)

    def reporting(self) -> AbstractContextManager[None]:
        """Raises what ends a loader process as an error that names the image and what was done to it."""
        return worker_errors(self.records, self.worker_progress)


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
