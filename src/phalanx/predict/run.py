"""From images to a submission, with all that a killed prediction needs to continue where it stopped."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.records import Record
from ..errors import ConfigError, DataError
from ..jobs.job import Job
from ..runtime.files import move, own_folder
from ..runtime.leftovers import clear
from ..runtime.progress import Progress
from ..runtime.provenance import digest
from ..runtime.sidecar import merged_hashes, read_sidecar
from ..runtime.terminal import say
from ..submission import table
from ..voting.agreement import AgreementMonitor
from ..voting.maps_guard import MapsGuard
from .journal import Journal, claimed, forget, is_map
from .map_file import FORMAT
from .postprocess import PostProcessing
from .predictor import Predictor
from .shards import Groups, run_in_parts
from .soft import SoftMember
from .stored import MapsFolder, check_maps, remove_maps, write_about


def write_submission(
    path: Path,
    members: Sequence[SoftMember],
    records: Sequence[Record],
    *,
    threshold: float,
    batch: int,
    weights: Sequence[float] | None = None,
    postprocess: PostProcessing | None = None,
    monitor: AgreementMonitor | None = None,
    guard: MapsGuard | None = None,
    maps_folder: Path | None = None,
    vote: Mapping[str, Any] | None = None,
    reuse_finished: bool = False,
    jobs: Sequence[Job] = (),
    part: tuple[int, int] | None = None,
    progress: bool = True,
) -> None:
    """Predicts the records, each image by all members, and writes ``path`` with its sidecar.

    After a kill, the same call continues after the images that were done.

    Args:
        batch: images at once; a group of them is predicted together by whichever process, so the rows do not depend on
            the number of processes.
        weights: of each member in the mean; equal by default.
        postprocess: thresholds by class and what is done with the masks; its votes are in ``weights``.
        monitor: sees each member's masks of the first images, before any later image is predicted.
        guard: compares the members in all images, before ``path`` is written.
        maps_folder: also store the averaged maps there, for later soft votes; replaces those of an earlier call.
        vote: what the sidecar records of a vote; the agreement that ``monitor`` found is added.
        reuse_finished: leaves ``path`` as it is if the same call has finished it before.
        jobs: each takes a part of the images: the same call with ``part``.
        part: number, from 1, and count; predicts only this part. The same call without it finds what parts
            predicted, and writes ``path``.

    Raises:
        ConfigError: ``maps_folder`` has something else in it, or is a member.
        DataError: members of different classes or images, an image that cannot be read.
        PhalanxError: another process is writing the same file.
        OutputError: a link or a file of another program in the place of something that is to be written or removed.
    """
    _check_places(path, maps_folder, members)
    check_compatible(members, records)
    weights, classes = list(weights or [1.0] * len(members)), members[0].classes
    hashes = merged_hashes((member.name, member.hashes) for member in members)
    key = digest([
        FORMAT, [member.key for member in members], weights, threshold, maps_folder is not None,
        postprocess and postprocess.model_dump(mode="json", exclude={"choices"}),
        [[record.name, *_state(record)] for record in records],
    ])  # fmt: skip
    about = {"classes": classes, "run_hashes": hashes} if maps_folder is not None else None
    groups = [records[first : first + batch] for first in range(0, len(records), batch)]
    if part is not None:
        number, count = part
        if _finished(path, key, maps_folder):
            return
        journal = Journal.share(path, key)
        if about is not None:
            own_folder(journal.maps)
        left = _missing(journal, groups[number % count :: count], with_map=about is not None)
        predictor = Predictor(journal.folder, key, threshold, weights, about, postprocess)
        predictor.run(members, left, number, lambda n: None)
        return
    with claimed(path):
        if reuse_finished and _finished(path, key, maps_folder):
            say(f"{path}: finished before; delete it to predict it again")
            forget(path, key)
            return
        journal = Journal(path, key)
        predictor = Predictor(journal.folder, key, threshold, weights, about, postprocess, guard)
        if about is not None:
            own_folder(journal.maps)
        _predict_missing(path, journal, predictor, members, groups, monitor, jobs, progress)
        names = [record.name for record in records]
        sizes = {name: journal.places[name].size for name in names}
        agreement = next(iter(journal.note("agreement")), None)
        if guard is not None:
            found = guard.finish((name, journal.places[name].size, journal.places[name].places) for name in names)
            agreement = agreement and {**agreement, "misaligned": agreement["misaligned"] or found}
        if vote is not None:
            vote = {**vote, "agreement": agreement}
        head = members[0].head if members[0].head == "softmax" else None
        table.write(path, journal.rows(names), classes, sizes, hashes, vote, key, head)
        if maps_folder is not None:
            options = members[0].options if len(members) == 1 else None
            write_about(journal.maps, classes, hashes, sizes, key, threshold, options, members[0].head)
            remove_maps(maps_folder)
            clear(journal.maps, is_map)
            move(journal.maps, maps_folder)
        journal.finish()


def _check_places(path: Path, maps_folder: Path | None, members: Sequence[SoftMember]) -> None:
    """Refuses places that may not be written, before the work is done. Raises as :func:`write_submission`."""
    table.check_target(path)
    if maps_folder is None:
        return
    if maps_folder.exists() and not (maps_folder / "maps.json").is_file():
        raise ConfigError(
            f"{maps_folder}: exists and is not a folder of probability maps; move it away, or change out="
        )
    if any(Path(member.name).resolve() == maps_folder.resolve() for member in members):
        raise ConfigError(f"out={path}: its maps would replace the member {maps_folder}; change out=")
    check_maps(maps_folder)


def _predict_missing(
    path: Path,
    journal: Journal,
    predictor: Predictor,
    members: Sequence[SoftMember],
    groups: Groups,
    monitor: AgreementMonitor | None,
    jobs: Sequence[Job],
    progress: bool,
) -> None:
    """Completes the journal: the images that ``monitor`` needs first, then all that have no row yet."""
    left = _missing(journal, groups, with_map=predictor.about is not None)
    images = sum(map(len, groups))
    finished = images - sum(map(len, left))
    if len(left) < len(groups):
        say(f"{path}: continues after {finished} of {images} images")
    with Progress(path.stem, images, initial=finished, unit="image", enabled=progress) as bar:
        if monitor is not None and not journal.note("agreement"):
            first = groups[: -(-monitor.wanted // max(1, len(groups[0])))]
            predictor.run(members, first, 0, lambda n: None, monitor)
            journal.write_note("agreement", monitor.agreement and monitor.agreement.to_json())
            bar.update(sum(len(group) for group in first if group in left))
            left = [group for group in left if group not in first]
        count, wanted = 1 + len(jobs), {group[0].name for group in left}
        parts = [[group for group in groups[n::count] if group[0].name in wanted] for n in range(count)]
        run_in_parts(predictor, members, parts, jobs, journal, bar)
    for file in journal.folder.glob("rows.*"):
        journal.index_file(file)


def _missing(journal: Journal, groups: Groups, *, with_map: bool) -> list[Sequence[Record]]:
    """The groups that lack the row of an image, or with maps its map."""
    return [group for group in groups if not all(journal.has(record.name, with_map=with_map) for record in group)]


def _finished(path: Path, key: str, maps_folder: Path | None) -> bool:
    """Whether there is a whole CSV of this key, with its maps."""
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


def check_compatible(members: Sequence[SoftMember], records: Sequence[Record]) -> None:
    """Raises DataError if members have other classes, or stored maps lack an image or have it in another size."""
    first = members[0]
    for member in members[1:]:
        if member.classes != first.classes:
            raise DataError(f"{member.name}: has other classes than {first.name}; they cannot vote together")
        if member.head != first.head:
            raise DataError(
                f"{member.name}: has a {member.head}, and {first.name} a {first.head}; their probabilities cannot be "
                "averaged, but their masks can be voted (mode=hard)"
            )
    stored = [member for member in members if isinstance(member, MapsFolder)]
    for member in stored:
        lacking = [record.name for record in records if record.name not in member.sizes]
        if lacking:
            raise DataError(
                f"{member.name}: has no map of {lacking[0]} ({len(lacking)} of {len(records)} images are missing); "
                "members must cover the same images"
            )
        for record in records:
            if member.sizes[record.name] != stored[0].sizes[record.name]:
                raise DataError(
                    f"{member.name}: has {record.name} in another size than {stored[0].name}; predict it again"
                )


def _state(record: Record) -> tuple[int, int]:
    """Size and time of an image file, by which a changed file is noticed; zeros for an image of stored maps alone."""
    if record.image == Path():
        return 0, 0
    try:
        state = record.image.stat()
    except OSError as error:
        raise DataError(f"{record.image}: cannot be read ({error.strerror}); restore it") from None
    return state.st_size, state.st_mtime_ns
