"""The mean of all members image by image, and its rows in the journal. Images are read and rows written meanwhile."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np

from ..config.loss import Head
from ..data.images import read_grey
from ..data.records import Record
from ..masks.stack import Stack
from ..runtime.processes import cores
from ..voting.agreement import AgreementMonitor
from ..voting.maps_guard import MapsGuard
from .exclusive import masks_of
from .journal import PredictedRow, append, map_in, plain_places
from .map_file import write_map
from .maps import MapsMean, Size
from .postprocess import PostProcessing
from .soft import SoftMember
from .stored import MapsFolder


class Vote(NamedTuple):
    """How members become masks."""

    members: Sequence[SoftMember]
    weights: Sequence[float]
    threshold: float

    @property
    def head(self) -> Head:
        """That of all members."""
        return self.members[0].head


def mean_of(
    vote: Vote,
    records: Sequence[Record],
    images: Sequence[np.ndarray],
    sizes: Sequence[Size],
    monitor: AgreementMonitor | None = None,
) -> list[MapsMean]:
    """The weighted mean of the members' maps of each image; one member's maps are held at a time."""
    means = [MapsMean(size) for size in sizes]
    alone: list[list[Stack]] = [[] for _ in records]
    for member, weight in zip(vote.members, vote.weights, strict=True):
        for number, maps in enumerate(member.maps(records, images)):
            means[number].add(maps, weight)
            if len(vote.members) > 1:
                means[number].places.append(maps.places(sizes[number], vote.threshold))
            if monitor is not None:
                alone[number].append(masks_of([(maps, 1.0)], sizes[number], vote.threshold, vote.head))
    if monitor is not None:
        for record, size, stacks in zip(records, sizes, alone, strict=True):
            monitor(record.name, size, stacks)
    return means


def stream(
    vote: Vote, groups: Sequence[Sequence[Record]], monitor: AgreementMonitor | None = None
) -> Iterator[list[tuple[Record, MapsMean]]]:
    """Groups of images with the means of their members' maps. The next group is decoded meanwhile."""
    if not groups:
        return
    with ThreadPoolExecutor(1) as reader:
        ahead: Future = reader.submit(_read, vote.members, groups[0])
        for number, group in enumerate(groups):
            images, sizes = ahead.result()
            if number + 1 < len(groups):
                ahead = reader.submit(_read, vote.members, groups[number + 1])
            yield list(zip(group, mean_of(vote, group, images, sizes, monitor), strict=True))


def _read(members: Sequence[SoftMember], records: Sequence[Record]) -> tuple[list[np.ndarray], list[Size]]:
    """Images and their sizes; no images if stored maps record the sizes and there is nothing to compare with."""
    if records[0].image == Path():
        stored = next(member for member in members if isinstance(member, MapsFolder))
        return [], [stored.sizes[record.name] for record in records]
    images = [read_grey(record.image) for record in records]
    return images, [(image.shape[0], image.shape[1]) for image in images]


class Predictor(NamedTuple):
    """What the processes of one prediction share; writes the rows of groups of images into the journal."""

    folder: Path  # the journal's
    key: str
    threshold: float
    weights: Sequence[float]
    about: Mapping[str, object] | None  # of maps to save: classes and run hashes
    postprocess: PostProcessing | None = None
    guard: MapsGuard | None = None  # of a vote, in the process that holds it

    def run(
        self,
        members: Sequence[SoftMember],
        groups: Sequence[Sequence[Record]],
        writer: int,
        done: Callable[[int], None],
        monitor: AgreementMonitor | None = None,
    ) -> None:
        """Predicts groups of images into the journal.

        Masks are encoded and maps written while the model goes on: of one group, or of several if a GPU predicts.

        Args:
            done: receives the number of images that were finished; may raise to stop.
        """
        vote = Vote(members, self.weights, self.threshold)
        encoders, one_writes = encoder_threads(members), Lock()
        with ThreadPoolExecutor(encoders) as encoder:
            waiting: deque[Future] = deque()
            for found in stream(vote, groups, monitor):
                if len(waiting) == encoders:
                    done(waiting.popleft().result())
                if self.guard is not None:
                    for record, mean in found:
                        self.guard.see(record.name, mean.size, np.stack(mean.places))
                waiting.append(encoder.submit(self._write_group, found, writer, one_writes, vote.head))
            while waiting:
                done(waiting.popleft().result())

    def _write_group(self, found: Sequence[tuple[Record, MapsMean]], writer: int, one_writes: Lock, head: Head) -> int:
        rows = []
        for record, mean in found:
            digest_of_map = None
            if self.about is not None:
                digest_of_map = write_map(
                    map_in(self.folder, record.name), mean.on_finest_grid(), image=record.name, size=mean.size,
                    threshold=self.threshold, **self.about,  # type: ignore[arg-type]
                )  # fmt: skip
            parts = mean.parts()
            stack = (
                self.postprocess.stack(parts, mean.size)
                if self.postprocess
                else masks_of(parts, mean.size, self.threshold, head)
            )
            rows.append(PredictedRow(record.name, mean.size, stack.texts(), digest_of_map, plain_places(mean.places)))
        with one_writes:
            append(self.folder, writer, rows, self.key)
        return len(rows)


def encoder_threads(members: Sequence[SoftMember]) -> int:
    """Threads that encode masks: one next to a computing CPU, up to four next to a GPU."""
    return min(4, max(1, cores() - 1)) if any(member.on_gpu for member in members) else 1
