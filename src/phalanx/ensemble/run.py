"""Predicting runs and voting them: what ``infer.sh`` and ``ensemble.sh`` do."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Data, Predict
from ..errors import ConfigError, DataError
from ..runs.ledger import note_vote
from ..runtime.sidecar import is_csv, note_retrained
from .options import EnsembleOptions, InferOptions

if TYPE_CHECKING:
    from ..voting.agreement import Agreement


def infer_run(name: str, options: InferOptions) -> Path:
    """Predicts with one run into its CSV; returns the CSV's path."""
    from ..submission.table import check_target

    out = options.out or Path("submissions") / f"{Path(name).name}.csv"
    check_target(out)
    return predict_members([name], options, out, kept=True)


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
    if options.mode == "soft":
        soft_vote(options, out)
    else:
        from .hard import hard_vote

        hard_vote(
            options.members,
            out,
            predict=lambda name, path: predict_members([name], options, path, kept=True),
            tell=lambda agreement: stop_at(agreement, anyway=options.anyway),
            sizes=sizes_of(options),
            quorum=options.quorum,
            votes=options.votes,
            how=described(options),
        )
    note_vote(out, options.members, described(options))
    return out


def sizes_of(options: EnsembleOptions) -> Any:
    """(height, width) of CSV members' images, by image or one for all, as far as the options tell."""
    if options.images is None:
        return options.size
    from ..data.images import image_size
    from ..data.records import scan

    return {record.name: image_size(record.image) for record in scan(options.images)}


def described(options: EnsembleOptions) -> str:
    """How a vote was given, for the ledger."""
    told = {
        "weights": ",".join(map(str, options.votes)) if options.votes else None,
        "quorum": options.quorum,
        "average": options.average if options.mode == "soft" else None,
        "decided": options.decided,
    }
    return " ".join([options.mode, *(f"{key}={value}" for key, value in told.items() if value is not None)])


def check_members(names: list[str], runs: Path, weights: str) -> None:
    """Refuses a member that is not there: found now, and not after the others have been predicted."""
    for name in names:
        if is_csv(name):
            if not Path(name).is_file():
                raise ConfigError(f"members: {name}: no such file")
        elif not any((Path(name) / file).is_file() for file in ("maps.json", "export.json")):
            from ..runs.reader import fold_folders

            fold_folders(name, runs, weights)


def soft_vote(options: EnsembleOptions, out: Path) -> Path:
    """Mean of the members' probabilities, thresholded once."""
    files = [name for name in options.members if is_csv(name)]
    if files:
        raise ConfigError(f"members: {files[0]} holds masks and no probabilities; vote CSVs with mode=hard")
    return predict_members(
        options.members,
        options,
        out,
        votes=options.votes,
        flat=options.average == "flat",
        tell=lambda agreement: stop_at(agreement, anyway=options.anyway),
        how=described(options),
    )


def stop_at(agreement: "Agreement", *, anyway: bool) -> None:
    """Prints how the members agree.

    Raises:
        DataError: one of them is misaligned; with ``anyway`` that is printed instead.
    """
    print(agreement.to_text(), flush=True)
    for one, other in agreement.copies():
        print(f"note: {one} and {other} have the same masks, and so two votes for one opinion", flush=True)
    faults = agreement.misaligned
    if faults and not anyway:
        raise DataError(f"{'; '.join(faults)}. Predict it again or leave it out; anyway=true votes all the same")
    for fault in faults:
        print(f"note: {fault}; voted anyway", flush=True)


def predict_members(
    names: list[str],
    options: InferOptions,
    out: Path,
    *,
    votes: list[int] | None = None,
    flat: bool = False,
    tell: Callable[["Agreement"], None] | None = None,
    how: str | None = None,
    kept: bool = False,
) -> Path:
    """Writes the thresholded mean of the members' probabilities to ``out``; returns it.

    Images and the batch are those of the first run among the members, the threshold is that of the first member, where
    they are not given.

    Args:
        votes: weight of each member; one by default.
        flat: a member counts once for each of its folds, so that all folds weigh the same.
        tell: gets the agreement of several members over the first images, and may raise to stop the vote.
        how: a vote in words, for the sidecar.
        kept: ``out`` may hold these very masks already, and is then left as it is.
    """
    from functools import partial

    from ..predict.decided import Decided
    from ..predict.opening import open_members, recipe_of
    from ..predict.run import write_submission
    from ..predict.soft import RunMember
    from ..voting.agreement import Watch

    places = options.places()
    decided = Decided.read(options.decided) if options.decided else None
    opening = partial(
        open_members,
        sharing=len(places),
        runs=options.runs,
        weights=options.weights,
        precision=options.precision,
        changes=options.changes(),
        root=options.root,
    )
    members = opening(names, device=places[0])
    for member in members:
        note_retrained(member.name, member.hashes)
    if decided is not None:
        all_votes = decided.votes_of(members)
        for name, n in zip(names, all_votes, strict=True):
            if not n:
                print(f"note: {name}: left out, as {options.decided} says", flush=True)
        names = [name for name, n in zip(names, all_votes, strict=True) if n]
        members = [member for member, n in zip(members, all_votes, strict=True) if n]
        votes = [n for n in all_votes if n]
    idle = [key for key in ("tta", "input_size", "scales", "window") if getattr(options, key) is not None]
    if idle and not any(member.needs_images for member in members):
        raise ConfigError(f"{idle[0]}: changes no stored maps; predict them again with it (bash infer.sh)")
    data, own = recipe_of(members) or (None, Predict())
    predict = own.model_copy(update=options.changes())
    threshold = options.threshold or members[0].threshold
    if len({member.threshold for member in members}) > 1 and options.threshold is None and decided is None:
        told = ", ".join(f"{member.name} {member.threshold:g}" for member in members)
        print(f"note: the members' own thresholds differ ({told}); voted at {threshold:g}; see threshold=", flush=True)
    records = find_records(data, options, members)
    for member in members:
        if isinstance(member, RunMember):
            member.compare_folds(len(records) // len(places), threshold)
    write_submission(
        out,
        members,
        records,
        threshold=threshold,
        batch=predict.batch,
        weights=[
            n * (max(1, len(m.hashes)) if flat else 1) for n, m in zip(votes or [1] * len(names), members, strict=True)
        ],
        decided=decided,
        watch=Watch(names, members[0].classes, len(records), tell) if tell and names[1:] else None,
        maps_folder=out.with_suffix(".maps") if options.maps else None,
        vote=None if how is None else {"how": how, "members": names},
        kept=kept,
        helpers=[partial(opening, names, device=place) for place in places[1:]],
        progress=options.progress,
    )
    return out


def find_records(data: Data | None, options: InferOptions, members: Sequence[Any]) -> Any:
    """The images to predict: a plain folder, the test set of a root in the layout the run was trained on, or, where
    all members are stored maps, what they hold.

    Raises:
        DataError: stored maps hold different images.
    """
    from ..data.layouts import test_records as test_records_of
    from ..data.records import Record, scan, test_records

    if options.images is not None:
        return scan(options.images)
    if options.root is None and not any(member.needs_images for member in members):
        for member in members[1:]:
            differing = sorted(set(member.sizes) ^ set(members[0].sizes))
            if differing:
                raise DataError(
                    f"{members[0].name} and {member.name}: do not hold the same images; {differing[0]} is in one of "
                    f"them alone ({len(differing)} in all). Predict the same data set with both"
                )
        return [Record(name, "", Path(), None) for name in sorted(members[0].sizes)]
    if data is not None:
        return test_records_of(data.model_copy(update={"root": options.root or data.root}))
    assert options.root is not None  # without a run's config all members are stored maps
    return test_records(options.root)
