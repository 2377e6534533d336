"""Training samples: an image with its bit-planes or labels, decoded once, augmented differently each epoch."""

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
from ..augment.warp import resample, swap_classes, warp_drawn
from ..config import Augment, ClassifyData, SegmentData
from ..errors import DataError
from .cache import SampleCache
from .classes import mirrored
from .prepared import Prepared, channels_first
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


class LabelledBatch(NamedTuple):
    """``images`` uint8[B, 1 or 3, S, S]; ``labels`` float32[B, C], NaN where not labelled; ``rows`` int64[B].

    ``regions``: bit-planes uint8[B, P, S, S] warped as the images, or an empty tuple if they are not used.
    """

    images: Tensor
    labels: Tensor
    rows: Tensor
    regions: Tensor | tuple[()] = ()

    def to(self, device: torch.device) -> "LabelledBatch":
        """The batch on a device, but for ``rows``."""
        return _to(self, device)

    def split(self, most: int) -> "Iterator[LabelledBatch]":
        """Its parts of at most ``most`` images, in order."""
        return _split(self, most)


def _each(values: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A tuple of tensors, or of such tuples, with each tensor changed."""
    return change(values) if isinstance(values, Tensor) else type(values)(*(_each(value, change) for value in values))


def _to(batch: Any, device: torch.device) -> Any:
    return _each(batch, lambda tensor: tensor.to(device, non_blocking=True))._replace(rows=batch.rows)


def _split(batch: Any, most: int) -> Iterator[Any]:
    for first in range(0, len(batch.rows), most):
        yield _each(batch, lambda tensor, first=first: tensor[first : first + most])  # type: ignore[misc]


Sample = tuple[Tensor, Tensor, int] | tuple[Tensor, Tensor, int, Draw]
Labelled = tuple[Tensor | int | bool, ...]  # image, row, flipped and, if they are used, planes of regions
NO_AUGMENT = Augment()
NO_PLANES = np.zeros((1, 1, 1), np.uint8)
Key = tuple[int, ...]  # epoch, index and, for repetitions of an image within an epoch, their number


class ImageSet(Dataset):
    """Samples by (epoch, index). All randomness of a sample comes from (seed, epoch, index): no state in workers.

    A repetition of an image within an epoch has the key (epoch, index, number), so that no two are warped alike.

    Args:
        cache: of prepared samples, which sets may share; the records are added to it.
        channels: of the images.
    """

    def __init__(
        self,
        records: Sequence[Record],
        *,
        augment: Augment,
        seed: int,
        cache: SampleCache,
        progress: bool = False,
        channels: int = 1,
    ):
        self.records, self.augment, self.seed = list(records), augment, seed
        self.pixels = PixelTransforms(augment.pixel, channels)
        self.cache, self.worker_progress = cache, WorkerProgress()
        cache.add(self.records, progress=progress)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: Key) -> Any:
        """The sample, or the error of its files as an object: raised in a worker it would arrive as a traceback."""
        record, step = self.records[key[1]], READ

        def note(now: int) -> None:
            nonlocal step
            step = now
            self.worker_progress.note(key[1], now)

        try:
            note(READ)
            # with copies_only the first appearance in an epoch is as it is
            plain = self.augment.copies_only and len(key) < 3
            rng = np.random.default_rng((self.seed, *key))
            return self.sample(key[1], self.cache(record), rng, note, NO_AUGMENT if plain else self.augment)
        except DataError as error:
            return error
        except Exception as error:
            return failure(error, record.image, step)

    def sample(
        self, index: int, prepared: Prepared, rng: np.random.Generator, note: Callable[[int], None], augment: Augment
    ) -> Any:
        """The sample of a prepared image.

        Args:
            note: called with each step before it is taken, for the message if it fails.
            augment: this sample's augmentation.
        """
        raise NotImplementedError

    def collate(self, samples: list[Any]) -> Any:
        """A batch of samples, or the error of one of them; see :func:`stacked`."""
        raise NotImplementedError

    def reporting(self) -> AbstractContextManager[None]:
        """Raises what ends a loader process as an error that names the image and what was done to it."""
        return worker_errors(self.records, self.worker_progress)


class TrainingSet(ImageSet):
    """Images with their bit-planes, warped together. With ``data.crop`` a sample is a crop of that side."""

    def __init__(self, records: Sequence[Record], *, data: SegmentData, augment: Augment, **common: Any):
        super().__init__(records, augment=augment, **common)
        self.crop = Crop(data.crop, data.crop_foreground) if data.crop else None
        self.pairs = data.pair_indices

    def sample(
        self, index: int, prepared: Prepared, rng: np.random.Generator, note: Callable[[int], None], augment: Augment
    ) -> Sample:
        image, runs, grid = prepared
        planes = runs.planes()
        note(WARP)
        drawn = draw(rng, augment, grid.content, image.shape[0], planes, self.crop)
        later = augment.device == "cuda"
        if not later:
            image, planes = warp_drawn(drawn, image, planes, self.pairs)
        note(PIXELS)
        image = image if augment is NO_AUGMENT else self.pixels(image, rng)
        note(SENT)
        apart = np.empty((planes.shape[2], *planes.shape[:2]), np.uint8)
        cv2.split(planes, list(apart))  # three times as fast as numpy's transpose
        sample = torch.from_numpy(image)[None], torch.from_numpy(apart), index
        return (*sample, drawn) if later else sample

    def collate(self, samples: "list[Sample | DataError]") -> "Batch | Unwarped | DataError":
        """As :func:`collate`."""
        return collate(samples)


class LabelledSet(ImageSet):
    """Images with labels, of which only the images are warped, and their regions if they are asked for. A flip swaps
    the labels and regions of ``data.pairs``.

    Args:
        labels: float32[N, C], NaN where not labelled.
        regions: whether batches have the bit-planes of data/regions.py.
    """

    def __init__(
        self,
        records: Sequence[Record],
        *,
        labels: np.ndarray,
        data: ClassifyData,
        augment: Augment,
        regions: bool = False,
        **common: Any,
    ):
        super().__init__(records, augment=augment, channels=3 if data.colour else 1, **common)
        self.labels, self.regions = torch.from_numpy(labels), regions
        self.mirrored = mirrored(len(data.classes), data.pair_indices)
        # one region of all classes has no partner: its planes stay as they are
        self.pairs = data.pair_indices if data.region_count == len(data.classes) else []

    def sample(
        self, index: int, prepared: Prepared, rng: np.random.Generator, note: Callable[[int], None], augment: Augment
    ) -> "Labelled":
        image, runs, grid = prepared
        note(WARP)
        drawn = draw(rng, augment, grid.content, image.shape[0], NO_PLANES)
        sources = [(image, cv2.INTER_LINEAR), *([(runs.planes(), cv2.INTER_NEAREST)] if self.regions else [])]
        image, *planes = resample(drawn, sources)
        if drawn.flipped and self.pairs:
            planes = [swap_classes(one, self.pairs) for one in planes]
        image = image if augment is NO_AUGMENT else self.pixels(image, rng)
        note(SENT)
        parts = (torch.from_numpy(np.ascontiguousarray(one.transpose(2, 0, 1))) for one in planes)
        return (torch.from_numpy(channels_first(image)), index, drawn.flipped, *parts)

    def collate(self, samples: "list[Labelled | DataError]") -> "LabelledBatch | DataError":
        def batch(images: Any, index: Any, flipped: Any, *planes: Sequence[Tensor]) -> LabelledBatch:
            rows, labels = torch.tensor(index), self.labels[list(index)]
            labels = torch.where(torch.tensor(flipped)[:, None], labels[:, self.mirrored], labels)
            regions = torch.stack(list(planes[0])) if planes else ()
            return LabelledBatch(torch.stack(list(images)), labels, rows, regions)

        return stacked(samples, batch)


def collate(samples: "list[Sample | DataError]") -> Batch | Unwarped | DataError:
    """Stacks samples into a batch; if a sample failed, returns its error for the training loop to raise."""

    def batch(images: Sequence[Tensor], planes: Sequence[Tensor], index: Sequence[int], *draws: Any) -> Any:
        plain = Batch(torch.stack(list(images)), torch.stack(list(planes)), torch.tensor(index))
        return Unwarped(*plain, WarpMaps.of(draws[0])) if draws else plain

    return stacked(samples, batch)


def stacked(samples: Sequence[Any], make: Callable[..., Any]) -> Any:
    """What ``make`` makes of the columns of samples; if a sample failed, its error, for the training loop to raise."""
    whole = []
    for sample in samples:
        if isinstance(sample, DataError):
            return sample
        whole.append(sample)
    try:
        found = make(*zip(*whole, strict=True))
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
