"""Predicting runs and voting them: what ``infer.sh`` and ``ensemble.sh`` do."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import SegmentData, SegmentPredict
from ..config.words import join_list, words_of
from ..errors import ConfigError, DataError, shown
from ..jobs.job import Job
from ..runs.ledger import note_vote
from ..runtime.sidecar import is_csv
from .options import EnsembleOptions, InferOptions
from .reports import report_agreement, report_all, report_verdict
from .retrained import note_retrained

if TYPE_CHECKING:
    from ..voting.agreement import Agreement
    from ..voting.guard import Verdict


def infer_run(name: str, options: InferOptions, members: Sequence[Any] | None = None) -> Path:
    """Predicts with one run into its CSV; returns the CSV's path.

    Args:
        members: the run if it is open already, as :func:`opened` returns it.
    """
    from ..submission.table import check_target

    out = options.out or Path("submissions") / f"{Path(name).name}.csv"
    check_target(out)
    return predict_members([name], options, out, reuse_finished=True, members=members)


def vote(options: EnsembleOptions) -> Path:
    """Votes members into a CSV; returns its path. A vote into ``submissions/`` gets a row in the ledger there."""
    from ..submission.table import check_name, check_target

    out = options.out or Path("submissions") / f"{options.mode}.csv"
    check_name(out)
    for name in options.members:
        if Path(name).resolve() == out.resolve():
            raise ConfigError(f"out={out}: would replace the member {name}; give another name")
    check_target(out)
    check_members(options.members, options.runs, options.weights)
    if options.part is not None:
        return predict_members(options.members, options, out, votes=options.votes, flat=options.average == "flat")
    if options.mode == "soft":
        soft_vote(options, out)
    else:
        from .hard import hard_vote

        hard_vote(
            options.members,
            out,
            predict=lambda name, path: predict_members([name], options, path, reuse_finished=True),
            on_agreement=lambda agreement: report_agreement(agreement, allow_misaligned=options.allow_misaligned),
            on_all=lambda agreement: report_all(agreement, allow_misaligned=options.allow_misaligned),
            sizes=sizes_of(options),
            quorum=options.quorum,
            votes=options.votes,
            how=described(options),
        )
    if options.out_of_fold:
        from .vote_oof import add_score
        from .vote_oof_masks import score_vote

        add_score(out, lambda: score_vote(options))
    note_vote(out, options.members, described(options))
    return out


def sizes_of(options: EnsembleOptions) -> Any:
    """(height, width) of CSV members' images, by image or one for all; None if the options give none."""
    if options.images is None:
        return options.size
    from ..data.images import image_size
    from ..data.records import scan

    return {record.name: image_size(record.image) for record in scan(options.images)}


def described(options: EnsembleOptions) -> str:
    """The vote in words, for the ledger."""
    given = {
        "weights": ",".join(map(str, options.votes)) if options.votes else None,
        "quorum": options.quorum,
        "average": options.average if options.mode == "soft" else None,
        "postprocess": options.postprocess,
    }
    return " ".join([options.mode, *(f"{key}={value}" for key, value in given.items() if value is not None)])


def check_members(names: list[str], runs: Path, weights: str) -> None:
    """Refuses a member that does not exist before any other is predicted.

    Raises:
        ConfigError: no such file or run, or an unfinished one.
    """
    for name in names:
        if is_csv(name):
            if not Path(name).is_file():
                raise ConfigError(f"members: {name}: no such file")
        elif not any((Path(name) / file).is_file() for file in ("maps.json", "export.json")):
            from ..runs.reader import fold_folders

            fold_folders(name, runs, weights)


def soft_vote(options: EnsembleOptions, out: Path) -> Path:
    """Writes the mean of the members' probabilities, thresholded once, to ``out``; returns it."""
    files = [name for name in options.members if is_csv(name)]
    if files:
        raise ConfigError(f"members: {files[0]} contains masks, not probabilities; vote CSVs with mode=hard")
    return predict_members(
        options.members,
        options,
        out,
        votes=options.votes,
        flat=options.average == "flat",
        on_agreement=lambda agreement: report_agreement(agreement, allow_misaligned=options.allow_misaligned),
        on_all=lambda verdict, final: report_verdict(verdict, final=final, allow_misaligned=options.allow_misaligned),
        how=described(options),
    )


def predict_members(
    names: list[str],
    options: InferOptions,
    out: Path,
    *,
    votes: list[int] | None = None,
    flat: bool = False,
    on_agreement: Callable[["Agreement"], None] | None = None,
    on_all: Callable[["Verdict", bool], None] | None = None,
    how: str | None = None,
    reuse_finished: bool = False,
    members: Sequence[Any] | None = None,
) -> Path:
    """Writes the thresholded mean of the members' probabilities to ``out``; returns it.

    If they are not given, images and batch are those of the first run among the members, and the threshold is that of
    the first member.

    Args:
        votes: weight of each member; one by default.
        flat: a member counts once per fold, so that all folds have the same weight.
        on_agreement: receives the agreement of several members over the first images; may raise to stop the vote.
        on_all: receives what more images show, and whether these are all; may raise, too.
        how: the vote in words, for the sidecar.
        reuse_finished: if ``out`` has these very masks already, it is left as it is.
        members: those of ``names`` if they are open already.
    """
    from ..predict.opening import recipe_of
    from ..predict.postprocess import PostProcessing
    from ..predict.run import write_submission
    from ..predict.soft import RunMember
    from ..voting.agreement import AgreementMonitor
    from ..voting.maps_guard import MapsGuard

    places, part = options.places(), part_of(options)
    jobs = [
        part_job(names, options, out, votes, flat, number, len(places)).on(place)
        for number, place in enumerate(places[1:], 1)
    ]
    postprocess = PostProcessing.read(options.postprocess) if options.postprocess else None
    if members is None:
        members = opened(names, options, places[0], part[1] if part else len(places))
    if postprocess is not None:
        votes = postprocess.votes_of(members)
        for name in (name for name, n in zip(names, votes, strict=True) if not n):
            print(f"note: {name}: left out, as {options.postprocess} has it", flush=True)
        names, members = ([x for x, n in zip(found, votes, strict=True) if n] for found in (names, members))
        votes = [n for n in votes if n]
    refuse_unused(options, members)
    data, own = recipe_of(members) or (None, SegmentPredict())
    threshold = threshold_of(options, members)
    records = find_records(data, options, members)
    for member in members:
        if isinstance(member, RunMember) and part is None:
            member.compare_folds(len(records) // len(places), threshold)
    monitor, guard = None, None
    if on_agreement is not None and len(names) > 1:
        guard = MapsGuard(names, members[0].classes, len(records), on_all or (lambda verdict, final: None))
        monitor = AgreementMonitor(names, members[0].classes, len(records), guard.noting(on_agreement))
    write_submission(
        out,
        members,
        records,
        threshold=threshold,
        batch=own.model_copy(update=options.changes()).batch,
        weights=[
            n * (max(1, len(m.hashes)) if flat else 1) for n, m in zip(votes or [1] * len(names), members, strict=True)
        ],
        postprocess=postprocess,
        monitor=monitor,
        guard=guard,
        maps_folder=out.with_suffix(".maps") if options.maps else None,
        vote=None if how is None else {"how": how, "members": names},
        reuse_finished=reuse_finished,
        jobs=jobs,
        part=part,
        progress=options.progress,
    )
    return out


def opened(names: Sequence[str], options: InferOptions, device: str, sharing: int) -> list[Any]:
    """The members by their names, on a device; those that were trained again since are reported.

    Args:
        sharing: number of processes that share the machine's cores.
    """
    from ..predict.opening import open_members

    members = open_members(
        names,
        device=device,
        sharing=sharing,
        runs=options.runs,
        weights=options.weights,
        precision=options.precision,
        changes=options.changes(),
        root=options.root,
    )
    for member in members:
        note_retrained(member.name, member.hashes)
    return members


def part_of(options: InferOptions) -> tuple[int, int] | None:
    """Number and count of the only part of the images that is to be predicted; None for all."""
    if options.part is None:
        return None
    number, count = map(int, options.part.split("/"))
    if not 0 < number <= count or len(options.places()) > 1:
        raise ConfigError(f"part={options.part}: expected a number from 1 up to the count, on one device")
    return number, count


def part_job(
    names: Sequence[str],
    options: InferOptions,
    out: Path,
    votes: Sequence[int] | None,
    flat: bool,
    number: int,
    count: int,
) -> Job:
    """The job that predicts part ``number`` of ``count`` of a call to :func:`predict_members`."""
    own = options.model_copy(update={"out": out, "progress": False, "part": f"{number}/{count}"})
    elsewhere = ("device", "devices", "workers")
    words = words_of(own, [field for field in InferOptions.model_fields if field not in elsewhere])
    words += [f"votes={','.join(map(str, votes))}"] if votes else []
    words += ["average=flat"] if flat else []
    from ..predict.journal import part_folder

    return Job(f"part {number}", ("ensemble", "mode=soft", f"members={join_list(names)}", *words), part_folder(out))


def refuse_unused(options: InferOptions, members: Sequence[Any]) -> None:
    """Raises ConfigError if an option is given that only predicting reads, and all members are stored maps."""
    given = [key for key in ("tta", "input_size", "scales", "window") if getattr(options, key) is not None]
    if given and not any(member.needs_images for member in members):
        raise ConfigError(f"{given[0]}: does not change stored maps; predict them again with it (bash infer.sh)")


def threshold_of(options: InferOptions, members: Sequence[Any]) -> float:
    """The threshold of the options, or else that of the first member; a note is printed if the members' differ."""
    if members[0].head == "softmax":
        given = [key for key in ("threshold", "postprocess") if getattr(options, key) is not None]
        if given:
            raise ConfigError(
                f"{given[0]}: {members[0].name} has a softmax, which predicts the likeliest class; leave it out"
            )
        return 0.5  # of the centres of masks, by which members are compared
    threshold: float = options.threshold or members[0].threshold
    differ = len({member.threshold for member in members}) > 1
    if differ and options.threshold is None and options.postprocess is None:
        each = ", ".join(f"{member.name} {member.threshold:g}" for member in members)
        print(f"note: the members' own thresholds differ ({each}); voted at {threshold:g}; see threshold=", flush=True)
    return threshold


def note_passed_over(place: Path | None, options: InferOptions) -> None:
    """Prints what is not predicted of a folder of images, unless this is a process that shares the images."""
    from ..data.listing import list_images

    if options.part is None and place is not None and place.is_dir() and (text := list_images(place).to_text(place)):
        print(f"note: {shown(text)}", flush=True)


def find_records(data: SegmentData | None, options: InferOptions, members: Sequence[Any]) -> Any:
    """The images to predict: a plain folder, or the test set of a root in the layout the run was trained on.

    If all members are stored maps and no images are given, these are the images of the maps.

    Raises:
        DataError: the stored maps are of different images.
    """
    from ..data.layouts import test_place
    from ..data.layouts import test_records as test_records_of
    from ..data.records import Record, scan, test_records

    if options.images is not None:
        note_passed_over(options.images, options)
        return scan(options.images)
    if options.root is None and not any(member.needs_images for member in members):
        for member in members[1:]:
            differing = sorted(set(member.sizes) ^ set(members[0].sizes))
            if differing:
                raise DataError(
                    f"{members[0].name} and {member.name}: are not of the same images; {differing[0]} is in only "
                    f"one of them ({len(differing)} in all). Predict the same data set with both"
                )
        return [Record(name, "", Path(), None) for name in sorted(members[0].sizes)]
    if data is not None:
        own = data.model_copy(update={"root": options.root or data.root})
        note_passed_over(test_place(own), options)
        return test_records_of(own)
    assert options.root is not None  # without a run's config all members are stored maps
    return test_records(options.root)
