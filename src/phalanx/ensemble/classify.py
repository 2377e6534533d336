"""Predicting and voting probabilities of classes: ``infer.sh`` and ``ensemble.sh`` of the task ``classify``."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ..config.classify_loss import Head
from ..data.records import Record
from ..data.shuffled import note_control
from ..errors import ConfigError, DataError
from ..predict.exported import DESCRIPTION_FILE
from ..runs.ledger import note_vote
from ..runtime.provenance import digest
from ..runtime.sidecar import is_csv, merged_hashes
from ..scoring.calibration_file import Calibration
from ..submission.probabilities import Probabilities, write_probabilities
from ..submission.table import check_name, check_target
from ..voting.probabilities import Ballot, gathered
from ..voting.probability_guard import ProbabilityAgreement
from .common_options import MemberOptions, RunOptions
from .prediction import find_records, is_finished
from .reports import report_faults
from .retrained import note_retrained

if TYPE_CHECKING:
    from ..predict.classify import ClassifierRun
    from ..predict.exported_labels import ExportedClassifier

LabelRun: TypeAlias = "ClassifierRun | ExportedClassifier"


class InferLabels(RunOptions):
    """Options of ``infer`` for runs that classify; those of prediction that are None are the run's own."""

    postprocess: Path | None = None  # a file of `phalanx calibrate`


class VoteLabels(MemberOptions, InferLabels):
    """Options of ``ensemble`` for members that classify."""

    mode: Literal["soft", "hard"]
    head: Head | None = None  # of CSV members without a sidecar


def infer_run(name: str, options: InferLabels, run: "LabelRun | None" = None) -> Path:
    """Predicts with one run into its CSV of probabilities; returns the CSV's path.

    Args:
        run: if it is open already, as :func:`opened` returns it.
    """
    out = options.out or Path("submissions") / f"{Path(name).name}.csv"
    check_target(out)
    calibration = Calibration.read(options.postprocess) if options.postprocess else None
    run = run or opened(name, options)
    if calibration is not None:
        calibration.check(run.name, run.classes, run.head)
    records = find_records(run.config.data, options)
    parts = [run.key, [[record.name, record.image.stat().st_size] for record in records]]
    key = digest(parts if calibration is None else [*parts, calibration.digest])
    if is_finished(out, key):
        return out
    made = calibrated(_predicted(run, records, options), calibration)
    write_probabilities(
        out, made.images, made.classes, made.values, run.head, run_hashes=run.hashes, key=key,
        calibration=made.calibration,
    )  # fmt: skip
    return out


def opened(name: str, options: InferLabels) -> LabelRun:
    """A run, or an export, for which torch is not loaded; prints what the user should know of it."""
    common: dict[str, Any] = {
        "weights": options.weights, "device": options.device, "precision": options.precision, "tta": options.tta,
    }  # fmt: skip
    run: LabelRun
    if (Path(name) / DESCRIPTION_FILE).is_file():
        from ..predict.exported_labels import ExportedClassifier

        run = ExportedClassifier(Path(name), **common)
    else:
        from ..predict.classify import open_classifier

        run = open_classifier(name, runs=options.runs, **common)
    note_retrained(name, run.hashes)
    if (seed := run.config.data.shuffle_labels) is not None:
        print(f"note: {note_control(name, seed)}", flush=True)
    return run


def _predicted(run: LabelRun, records: Sequence[Record], options: InferLabels) -> Probabilities:
    values = run.predict(records, options.batch or run.config.predict.batch, progress=options.progress)
    names = tuple(record.name for record in records)
    return Probabilities(run.name, names, tuple(run.classes), values, run.head, run_hashes=run.hashes)


def vote(options: VoteLabels) -> Path:
    """Votes members into a CSV of probabilities; returns its path. A vote into ``submissions/`` gets a row in the
    ledger there."""
    out = options.out or Path("submissions") / f"{options.mode}.csv"
    check_name(out)
    for name in options.members:
        if Path(name).resolve() == out.resolve():
            raise ConfigError(f"out={out}: would replace the member {name}; give another name")
    check_target(out)
    calibration = Calibration.read(options.postprocess) if options.postprocess else None
    found = gathered(_members(options, calibration), len(options.members))
    for note in (note for member in found for note in member.notes):
        print(f"note: {note}", flush=True)
    ballot = Ballot(found, options.votes)
    if ballot.head is None:
        raise DataError(f"{found[0].name}: no sidecar records whether a softmax or sigmoids made it; give head=")
    agreement = None
    if len(found) > 1:
        names = [member.name for member in found]
        agreement = ProbabilityAgreement(names, ballot.images, ballot.classes, ballot.values)
        print(agreement.to_text(), flush=True)
        for one, other in agreement.identical():
            print(f"note: {one} and {other} have the same probabilities, so one opinion has two votes", flush=True)
        for note in agreement.notes:
            print(f"note: {note}", flush=True)
        report_faults(agreement.misaligned, allow_misaligned=options.allow_misaligned)
    limits = calibration.limits(ballot.classes) if calibration is not None and ballot.head == "sigmoid" else None
    values = ballot.mean() if options.mode == "soft" else ballot.hard(limits)
    how = options.mode + (f" weights={','.join(map(str, options.votes))}" if options.votes else "")
    about = {"how": how, "members": options.members, "agreement": agreement and agreement.to_json()}
    hashes = merged_hashes((member.name, member.run_hashes) for member in found)
    write_probabilities(
        out, ballot.images, ballot.classes, values, ballot.head, sizes=ballot.sizes, run_hashes=hashes, vote=about,
        calibration=_common(found),
    )  # fmt: skip
    if options.out_of_fold:
        from .vote_oof import add_score
        from .vote_oof_labels import score_vote

        given = {"tta": options.tta, "postprocess": options.postprocess}
        changed = [key for key, value in given.items() if value is not None]
        add_score(
            out,
            lambda: score_vote(
                options.members, options.runs, mode=options.mode, votes=options.votes, weights=options.weights,
                changed=changed,
            ),
        )  # fmt: skip
    note_vote(out, options.members, how)
    return out


def calibrated(made: Probabilities, calibration: Calibration | None) -> Probabilities:
    """Probabilities at the temperature of a calibration, unless they are already. Raises as `Calibration.apply`."""
    if calibration is None:
        return made
    values = calibration.apply(made.name, made.values, made.classes, made.head, made.calibration)
    return replace(made, values=values, calibration=calibration.digest)


def _common(members: Sequence[Probabilities]) -> str | None:
    """What all members were calibrated with; of several, a digest of all, so that no file takes it for its own."""
    found = {member.calibration for member in members}
    return found.pop() if len(found) == 1 else digest(sorted(map(str, found)))


def _members(options: VoteLabels, calibration: Calibration | None) -> Iterator[Probabilities]:
    """The members, read one by one; the names of the same images are in memory once."""
    known: tuple[str, ...] = ()
    for name in options.members:
        member = calibrated(_member(name, options, known), calibration)
        known = known or member.images
        yield member


def _member(name: str, options: VoteLabels, known: tuple[str, ...]) -> Probabilities:
    """The probabilities in a CSV, or those that a run predicts; ``known``: images of another member."""
    if is_csv(name):
        return Probabilities.read(name, head=options.head, known=known)
    run = opened(name, options)
    if (seed := run.config.data.shuffle_labels) is not None:
        raise ConfigError(f"members: {note_control(name, seed)}; leave it out")
    made = _predicted(run, find_records(run.config.data, options), options)
    order = sorted(range(len(made.images)), key=made.images.__getitem__)
    return replace(made, images=tuple(made.images[i] for i in order), values=made.values[order])
