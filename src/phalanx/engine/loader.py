"""Brings the batches of an epoch to the device, step by step, from any place on, and knows how long that took."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from lightning.fabric.utilities.apply_func import move_data_to_device
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader

from ..config import Config
from ..data.dataset import Batch, Batches, Unwarped, collate
from ..runtime.distributed import Ranks
from ..runtime.processes import cores

Group = tuple[int, Iterator[Batch | Unwarped]]


class Feed:
    """Micro-batches of ``config.batch`` images, ``config.accumulate`` of them a step, made ahead by worker processes.

    They come on the device, but for ``which``. Where several processes train together, each gets its share of a step.

    ``batches``: the order of the images. The last step of an epoch may be smaller. ``waited``: seconds for which the
    loop has stood still for data.
    """

    def __init__(self, task: Any, config: Config, device: torch.device, ranks: Ranks | None = None):
        ranks = ranks or Ranks()
        self.config, self.device, self.waited = config, device, 0.0
        self.batches = Batches(
            len(task.training_set), config.batch, config.seed, task.weights,
            accumulate=config.accumulate, process=(ranks.rank, ranks.size),
        )  # fmt: skip
        self.steps_an_epoch = -(-len(self.batches) // config.accumulate)
        workers = loader_workers(config, device, ranks.size)
        self.loader: DataLoader = DataLoader(
            task.training_set,
            batch_sampler=self.batches,
            num_workers=workers,
            collate_fn=collate,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
            worker_init_fn=_one_thread,
        )

    def steps(self, epoch: int, batch: int) -> Iterator[Group]:
        """Each step's number of images, over all processes, and this process's micro-batches of it, from batch number
        ``batch`` of the epoch on.

        Raises:
            DataError: a sample could not be made.
        """
        self.batches.epoch, self.batches.start = epoch, batch
        stream = ahead(iter(self.loader), self.device)

        def take(number: int) -> Iterator[Batch | Unwarped]:
            for _ in range(number):
                began = time.monotonic()
                found = next(stream)
                self.waited += time.monotonic() - began
                if isinstance(found, Exception):
                    raise found
                yield found

        for images, own in self.batches.steps():
            yield images, take(len(own))


def ahead(batches: Iterator[Any], device: torch.device) -> Iterator[Any]:
    """The batches on the device. For a GPU a thread fetches and copies each while the one before is computed on."""
    if device.type != "cuda":
        yield from batches
        return
    side = torch.cuda.Stream(device)

    def fetch() -> Any:
        batch = next(batches, None)
        if batch is None or isinstance(batch, Exception):
            return batch, None
        with torch.cuda.stream(side):  # from pinned memory, so the copy waits for nothing and nothing for it
            moved = move_data_to_device(batch, device)._replace(which=batch.which)
            return moved, side.record_event()

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
                        leaf.record_stream(current)  # or its memory would be used anew while it is still read
            later = thread.submit(fetch)
            yield batch


def loader_workers(config: Config, device: torch.device, processes: int = 1) -> int:
    """Loader processes of each of some training processes: as configured, else one beside a computing CPU, and up to
    eight beside a GPU."""
    if config.workers >= 0:
        return config.workers
    own = max(1, cores() // processes)
    return min(8, max(1, own - 1)) if device.type == "cuda" else min(1, own - 1)


def waiting_advice(config: Config, device: torch.device, share: float) -> str:
    """What helps where a share of the time goes by without data."""
    remedies = ["more loader processes (workers=)"]
    if device.type == "cuda" and config.augment.device == "cpu":
        remedies.append("warping on the GPU (augment.device=cuda)")
    if config.data.cache == "ram":
        remedies.append("a larger cache (data.cache_gb=, or data.cache=disk)")
    elif config.data.cache == "none":
        remedies.append("a cache (data.cache=ram or disk)")
    return f"{share:.0%} of the epoch went by waiting for data; what may help: {', '.join(remedies)}"


def _one_thread(worker: int) -> None:
    import cv2

    cv2.setNumThreads(1)
