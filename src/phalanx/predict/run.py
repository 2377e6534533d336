"""From images to a submission: members streamed image by image into one mean, then threshold and RLE."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from ..data.images import read_grey
from ..data.records import Record
from ..errors import ConfigError, DataError
from ..masks.stack import Stack
from ..runtime.files import own_folder
from ..runtime.provenance import digest
from ..runtime.sidecar import merged_hashes, read_sidecar
from ..submission import table
from ..voting.agreement import Watch
from .decided import Decided
from .journal import Journal, Row, append, claimed, map_in
from .maps import Mean, Size, stack_of_parts
from .shards import Opener, helped
from .soft import SoftMember
from .stored import FORMAT, MapsFolder, check_maps, remove_maps, write_about, write_map


class Vote(NamedTuple):
    """How members become masks."""

    members: Sequence[SoftMember]
    weights: Sequence[float]
    threshold: float


def mean_of(
    vote: Vote,
    records: Sequence[Record],
    images: Sequence[np.ndarray],
    sizes: Sequence[Size],
    watch: Watch | None = None,
) -> list[Mean]:
    """The weighted mean of the members' maps of each image; one member's maps are held at a time."""
    means = [Mean(size) for size in sizes]
    alone: list[list[Stack]] = [[] for _ in records]
    for member, weight in zip(vote.members, vote.weights, strict=True):
        for number, maps in enumerate(member.maps(records, images)):
            means[number].add(maps, weight)
            if watch is not None:
                alone[number].append(stack_of_parts([(maps, 1.0)], sizes[number], vote.threshold))
    if watch is not None:
        for record, size, stacks in zip(records, sizes, alone, strict=True):
            watch(record.name, size, stacks)
    return means


def stream(
    vote: Vote, groups: Sequence[Sequence[Record]], watch: Watch | None = None
) -> Iterator[list[tuple[Record, Mean]]]:
    """Groups of images with the means of their members' maps. The next group is decoded meanwhile."""
    if not groups:
        return
    with ThreadPoolExecutor(1) as reader:
        ahead: Future = reader.submit(_read, vote.members, groups[0])
        for number, group in enumerate(groups):
            images, sizes = ahead.result()
            if number + 1 < len(groups):
                ahead = reader.submit(_read, vote.members, groups[number + 1])
            yield list(zip(group, mean_of(vote, group, images, sizes, watch), strict=True))


def _read(members: Sequence[SoftMember], records: Sequence[Record]) -> tuple[list[np.ndarray], list[Size]]:
    """Images and their sizes; no images where stored maps tell the sizes and there is nothing to compare with."""
    if records[0].image == Path():
        told = next(member for member in members if isinstance(member, MapsFolder))
        return [], [told.sizes[record.name] for record in records]
    images = [read_grey(record.image) for record in records]
    return images, [(image.shape[0], image.shape[1]) for image in images]


class Work(NamedTuple):
    """What the processes of one prediction share."""

    folder: Path  # the journal's
    threshold: float
    weights: Sequence[float]
    about: Mapping[str, object] | None  # of maps to keep: classes and run hashes
    decided: Decided | None = None

    def do(
        self,
        members: Sequence[SoftMember],
        groups: Sequence[Sequence[Record]],
        writer: int,
        done: Callable[[int], None],
        watch: Watch | None = None,
    ) -> None:
        """Predicts groups of images into the journal. Masks are encoded and maps written while the model goes on.

        Args:
            done: is told how many images were finished, and may raise to stop.
        """
        vote = Vote(members, self.weights, self.threshold)
        with ThreadPoolExecutor(1) as encoder:
            waiting: Future | None = None
            for found in stream(vote, groups, watch):
                if waiting is not None:
                    done(waiting.result())
                waiting = encoder.submit(self._keep, found, writer)
            if waiting is not None:
                done(waiting.result())

    def _keep(self, found: Sequence[tuple[Record, Mean]], writer: int) -> int:
        rows = []
        for record, mean in found:
            digest_of_map = None
            if self.about is not None:
                digest_of_map = write_map(
                    map_in(self.folder, record.name), mean.on_finest(), image=record.name, size=mean.size,
                    threshold=self.threshold, **self.about,  # type: ignore[arg-type]
                )  # fmt: skip
            stack = self.decided.stack(mean.parts(), mean.size) if self.decided else mean.stack(self.threshold)
            rows.append(Row(record.name, mean.size, stack.texts(), digest_of_map))
        append(self.folder, writer, rows)
        return len(rows)


def write_submission(
    path: Path,
    members: Sequence[SoftMember],
    records: Sequence[Record],
    *,
    threshold: float,
    batch: int,
    weights: Sequence[float] | None = None,
    decided: Decided | None = None,
    watch: Watch | None = None,
    maps_folder: Path | None = None,
    vote: Mapping[str, Any] | None = None,
    kept: bool = False,
    helpers: Sequence[Opener] = (),
    progress: bool = True,
) -> None:
    """Predicts the records, each image by all members, and writes ``path`` with its sidecar. Killed, the same call goes
    on after the images that were done.

    Args:
        batch: images at once; a group of them is predicted together whoever does it, so the rows do not depend on it.
        weights: of each member in the mean; equal by default.
        decided: thresholds by class and what is done with the masks; its votes stand in ``weights``.
        watch: sees each member's masks of the first images, before any later image is predicted.
        maps_folder: also store the averaged maps there, for soft votes later; replaces those of an earlier call.
        vote: what the sidecar tells of a vote; the agreement that ``watch`` saw is added.
        kept: leaves ``path`` as it is where the same call has finished it before.
        helpers: a process each, which opens the same members and takes its share of the images.

    Raises:
        ConfigError: ``maps_folder`` holds something else, or a member. DataError: members of different classes or
            images, an image that cannot be read. PhalanxError: another process is writing the same file.
        OutputError: a link or a file of another program in the place of something that is to be written or removed.
    """
    table.check_target(path)
    if maps_folder is not None and maps_folder.exists() and not (maps_folder / "maps.json").is_file():
        raise ConfigError(f"{maps_folder}: exists and is no folder of probability maps; move it away, or change out=")
    if any(maps_folder and Path(member.name).resolve() == maps_folder.resolve() for member in members):
        raise ConfigError(f"out={path}: its maps would take the place of the member {maps_folder}; change out=")
    if maps_folder is not None:
        check_maps(maps_folder)
    check_alike(members, records)
    weights = list(weights or [1.0] * len(members))
    classes = members[0].classes
    hashes = merged_hashes((member.name, member.hashes) for member in members)
    key = digest([
        FORMAT, [member.key for member in members], weights, threshold, maps_folder is not None,
        decided and decided.model_dump(mode="json", exclude={"verdicts"}),
        [[record.name, *_state(record)] for record in records],
    ])  # fmt: skip
    about = {"classes": classes, "run_hashes": hashes} if maps_folder is not None else None
    groups = [records[first : first + batch] for first in range(0, len(records), batch)]
    with claimed(path):
        if kept and _finished(path, key, maps_folder):
            print(f"{path}: finished before; delete it to predict anew", flush=True)
            return
        journal = Journal(path, key)
        work = Work(journal.folder, threshold, weights, about, decided)
        if about is not None:
            own_folder(journal.maps)
        done = {record.name for record in records if journal.has(record.name, with_map=about is not None)}
        left = [group for group in groups if not done.issuperset(record.name for record in group)]
        if len(left) < len(groups):
            print(f"{path}: continues after {len(records) - sum(map(len, left))} of {len(records)} images", flush=True)
        with tqdm(
            total=len(records), initial=len(records) - sum(map(len, left)), desc=path.stem, unit="image",
            disable=not progress,
        ) as bar:  # fmt: skip
            if watch is not None and not journal.note("watched"):
                first = groups[: -(-watch.wanted // batch)]
                work.do(members, first, 0, lambda n: None, watch)
                journal.write_note("watched", watch.agreement and watch.agreement.to_json())
                bar.update(sum(len(group) for group in first if group in left))
                left = [group for group in left if group not in first]
            helped(work, members, left, helpers, bar)
        for file in journal.folder.glob("rows.*"):
            journal.look_up(file)
        names = [record.name for record in records]
        sizes = {name: journal.places[name].size for name in names}
        if vote is not None:
            vote = {**vote, "agreement": next(iter(journal.note("watched")), None)}
        table.write(path, journal.rows(names), classes, sizes, hashes, vote, key)
        if maps_folder is not None:
            write_about(journal.maps, classes, hashes, sizes, key, threshold)
            remove_maps(maps_folder)
            journal.maps.rename(maps_folder)
        journal.finish()


def _finished(path: Path, key: str, maps_folder: Path | None) -> bool:
    """Whether a CSV of this key lies there whole, with its maps."""
    try:
        sidecar, _ = read_sidecar(path)
        if sidecar is None or sidecar.key != key:
            return False
        if maps_folder is None:
            return True
        stored = MapsFolder(maps_folder)
    except DataError:
        return False
    return stored.key == key and all(stored.path_of(name).is_file() for name in stored.sizes)


def check_alike(members: Sequence[SoftMember], records: Sequence[Record]) -> None:
    """Raises DataError where members have other classes, or stored maps lack an image or have it in another size."""
    first = members[0]
    for member in members[1:]:
        if member.classes != first.classes:
            raise DataError(f"{member.name}: has other classes than {first.name}; they cannot vote together")
    stored = [member for member in members if isinstance(member, MapsFolder)]
    for member in stored:
        lacking = [record.name for record in records if record.name not in member.sizes]
        if lacking:
            raise DataError(
                f"{member.name}: holds no map of {lacking[0]} ({len(lacking)} of {len(records)} images are missing); "
                "members must cover the same images"
            )
        for record in records:
            if member.sizes[record.name] != stored[0].sizes[record.name]:
                raise DataError(
                    f"{member.name}: has {record.name} in another size than {stored[0].name}; predict it again"
                )


def _state(record: Record) -> tuple[int, int]:
    """What tells an image file from another of its name; nothing for an image that only stored maps know."""
    if record.image == Path():
        return 0, 0
    try:
        state = record.image.stat()
    except OSError as error:
        raise DataError(f"{record.image}: cannot be read ({error.strerror}); restore it") from None
    return state.st_size, state.st_mtime_ns
