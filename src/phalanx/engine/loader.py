"""Brings the batches of an epoch to the device, step by step, from any place on, and measures how long that took."""

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader

from ..config import Config
from ..runtime.distributed import Ranks
from ..runtime.leftovers import current_temporary_folder
from ..runtime.processes import begin_child, cores
from ..runtime.progress import Progress
from ..runtime.stopping import deferred
from .order import BatchOrder
from .task import Batch, Part, Task


class BatchLoader:
    """Micro-batches of ``config.batch`` images, ``config.accumulate`` per step, prepared ahead by loader processes.

    They are on the device, but for ``rows``. If several processes train together, each gets its part of a step.

    Attributes:
        order: the order of the images. The last step of an epoch may be smaller.
        waited: seconds for which training has waited for data.
    """

    def __init__(self, task: Task, config: Config, device: torch.device, ranks: Ranks | None = None):
        ranks = ranks or Ranks()
        self.device, self.waited = device, 0.0
        self.order = BatchOrder(
            len(task.training_set), config.batch, config.seed, task.weights,
            accumulate=config.accumulate, process=(ranks.rank, ranks.size),
        )  # fmt: skip
        self.steps_per_epoch = -(-len(self.order) // config.accumulate)
        workers = loader_workers(config, device, ranks.size)
        self.loader: DataLoader = DataLoader(
            task.training_set,  # type: ignore[arg-type]
            batch_sampler=self.order,
            num_workers=workers,
            collate_fn=task.training_set.collate,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
            worker_init_fn=partial(_begin_worker, current_temporary_folder()),
        )

    @property
    def has_single_images(self) -> bool:
        """Whether one of an epoch's micro-batches in this process is a single image."""
        return any(high - low == 1 for _, own in self.order.steps() for low, high in own)

    def steps(self, epoch: int, batch: int) -> Iterator[tuple[int, Iterator[Batch]]]:
        """Each step's number of images, over all processes, and this process's micro-batches of it, from batch number
        ``batch`` of the epoch on.

        Raises:
            DataError: a sample could not be made.
        """
        self.order.epoch, self.order.start = epoch, batch
        with forking():
            batches = iter(self.loader)
        stream = ahead(batches, self.device)

        def take(number: int) -> Iterator[Batch]:
            for _ in range(number):
                began = time.monotonic()
                found = next(stream)
                self.waited += time.monotonic() - began
                if isinstance(found, Exception):
                    raise found
                yield found

        for images, own in self.order.steps():
            yield images, take(len(own))


@contextmanager
def forking() -> Iterator[None]:
    """Around a fork of loader processes, which signals do not interrupt.

    OpenCV's threads, which drawing and resizing in this process start, are joined before: a child might wait forever
    for threads that it does not have. They start again when they are needed.
    """
    library: Any = sys.modules.get("cv2")
    with deferred():
        threads = library.getNumThreads() if library else 1
        if threads > 1:
            library.setNumThreads(1)
        try:
            yield
        finally:
            if threads > 1:
                library.setNumThreads(threads)


def evaluated(task: Task, part: Part, config: Config, device: torch.device, ranks: Ranks) -> Iterator[Any]:
    """This process's batches, on the device, of a part of the images that are not trained on; a bar shows how many.

    The loader processes of a part stay: ``task.loaders`` has them.

    Raises:
        DataError: a sample could not be made.
    """
    examined = task.evaluated[part]
    if part not in task.loaders:
        task.loaders[part] = evaluation_loader(task, part, config, device, ranks)
    with forking():
        batches = iter(task.loaders[part])
    own = len(range(ranks.rank, len(examined), ranks.size))
    name = {"held_out": "validation", "monitored": "monitored images"}[part]
    shown = Progress(name, own, unit="image", enabled=config.progress and ranks.first)
    with examined.reporting(), shown:
        for batch in ahead(batches, device):
            if isinstance(batch, Exception):
                raise batch
            yield batch
            shown.update(len(batch.rows))


def evaluation_loader(task: Task, part: Part, config: Config, device: torch.device, ranks: Ranks) -> DataLoader:
    """This process's batches of a part of the images that are not trained on, in order, again at each iteration.

    For a GPU they are prepared by loader processes, which stay; a computing CPU has none to spare.
    """
    images = task.evaluated[part]
    keys = [(0, i) for i in range(ranks.rank, len(images), ranks.size)]
    batches = -(-len(keys) // config.predict.batch)
    workers = min(batches, loader_workers(config, device, ranks.size)) if device.type == "cuda" else 0
    return DataLoader(
        images,  # type: ignore[arg-type]
        config.predict.batch,
        sampler=keys,
        num_workers=workers,
        collate_fn=images.collate,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
        worker_init_fn=partial(_begin_worker, current_temporary_folder()),
    )


def ahead(batches: Iterator[Any], device: torch.device) -> Iterator[Any]:
    """The batches on the device. For a GPU a thread loads and copies each during the computation of the one before."""
    if device.type != "cuda":
        yield from batches
        return
    side = torch.cuda.Stream(device)

    def fetch() -> Any:
        batch = next(batches, None)
        if batch is None or isinstance(batch, Exception):
            return batch, None
        with torch.cuda.stream(side):  # from pinned memory, so that the copy and the computation overlap
            return batch.to(device), side.record_event()

    with ThreadPoolExecutor(1, "feed") as thread:
        later = thread.submit(fetch)
        while True:
            batch, copied = later.result()
            if batch is None:
                return
            if copied is not None:
                current = torch.cuda.current_stream(device)
                current.wait_event(copied)
                for leaf in pytree.tree_leaves(batch):
                    if leaf.is_cuda:
                        leaf.record_stream(current)  # or its memory would be reused while it is still read
            later = thread.submit(fetch)
            yield batch


def loader_workers(config: Config, device: torch.device, processes: int = 1) -> int:
    """Loader processes of each of some training processes: as configured, else one with a computing CPU, and up to
    eight with a GPU."""
    if config.workers >= 0:
        return config.workers
    own = max(1, cores() // processes)
    return min(8, max(1, own - 1)) if device.type == "cuda" else min(1, own - 1)


def waiting_advice(config: Config, device: torch.device, fraction: float) -> str:
    """What helps if a fraction of the time is spent waiting for data."""
    remedies = ["more loader processes (workers=)"]
    if device.type == "cuda" and config.augment.device == "cpu":
        remedies.append("warping on the GPU (augment.device=cuda)")
    if config.data.cache == "ram":
        remedies.append("a larger cache (data.cache_gb=, or data.cache=disk)")
    elif config.data.cache == "none":
        remedies.append("a cache (data.cache=ram or disk)")
    return f"{fraction:.0%} of the epoch was spent waiting for data; what may help: {', '.join(remedies)}"


def _begin_worker(temporary: Path | None, worker: int) -> None:
    import cv2

    begin_child(temporary)
    cv2.setNumThreads(1)
