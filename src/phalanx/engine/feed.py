"""Brings the batches of an epoch, step by step, from any place on."""

import os
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from ..config import Config
from ..data.dataset import Batch, Batches, Unwarped, collate

Group = tuple[int, Iterator[Batch | Unwarped]]


class Feed:
    """Micro-batches of ``config.batch`` images, ``config.accumulate`` of them a step, made ahead by worker processes.

    ``batches``: the order of the images. The last step of an epoch may be smaller.
    """

    def __init__(self, task: Any, config: Config, device: torch.device):
        self.config = config
        self.batches = Batches(len(task.training_set), config.batch, config.seed, task.weights)
        self.steps_an_epoch = -(-len(self.batches) // config.accumulate)
        workers = loader_workers(config, device)
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
        """Each step's number of images and its micro-batches, from batch number ``batch`` of the epoch on.

        Raises:
            DataError: a sample could not be made.
        """
        config, count = self.config, self.batches.images
        self.batches.epoch, self.batches.start = epoch, batch
        stream = iter(self.loader)

        def take(number: int) -> Iterator[Batch | Unwarped]:
            for _ in range(number):
                found = next(stream)
                if isinstance(found, Exception):
                    raise found
                yield found

        span = config.batch * config.accumulate
        for first in range(batch * config.batch, count, span):
            images = min(span, count - first)
            yield images, take(-(-images // config.batch))


def loader_workers(config: Config, device: torch.device) -> int:
    """Loader processes: as configured, else one beside a computing CPU, and up to eight beside a GPU."""
    if config.workers >= 0:
        return config.workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, max(1, cores - 1)) if device.type == "cuda" else min(1, cores - 1)


def _one_thread(worker: int) -> None:
    import cv2

    cv2.setNumThreads(1)
