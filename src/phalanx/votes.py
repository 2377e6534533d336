"""Predicting runs and voting them: what ``infer.sh`` and ``ensemble.sh`` do, as functions with typed options."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, model_validator

from .config import Count, Data, Predict, Strict, Window, known_keys, nearest, validate
from .errors import ConfigError, DataError
from .submit.ledger import note_vote
from .submit.sidecar import is_csv

if TYPE_CHECKING:
    from .submit.agreement import Agreement

FLAT = {"data.root": "root"}  # spelled as in training, a plain field here


class InferOptions(Strict):
    """Options of ``infer``; those of prediction left at None are the run's own."""

    root: Path | None = None
    images: Path | None = None
    out: Path | None = None
    maps: bool = False
    weights: Literal["final", "best", "last"] = "final"
    tta: list[Literal["hflip", "vflip", "rotate"]] | None = None
    grid: Annotated[int, Field(ge=32, multiple_of=32)] | None = None
    scales: list[float] | None = None
    window: Window | None = None
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    batch: Count | None = None
    device: str = "auto"
    devices: list[str] | None = None
    workers: Count | None = None
    precision: Literal["auto", "32", "bf16", "fp16"] = "auto"
    runs: Path = Path("runs")
    progress: bool = True
    decided: Path | None = None

    @model_validator(mode="after")
    def _nothing_decided_twice(self) -> "InferOptions":
        for key in ("threshold", "votes", "maps"):
            if self.decided is not None and getattr(self, key, None):
                why = "decided= tells it" if key != "maps" else "keeps probabilities, which decided= leaves as they are"
                raise ValueError(f"{key}: {why}; leave one of the two out")
        return self

    def changes(self) -> dict[str, Any]:
        """What overrides the run's own prediction options."""
        names = ("tta", "grid", "scales", "window", "threshold", "batch")
        given = {key: getattr(self, key) for key in names if getattr(self, key) is not None}
        validate(given, Predict)
        return given

    def places(self) -> list[str]:
        """The device of each process."""
        if self.devices and self.device != "auto":
            raise ConfigError(
                f"devices: belongs to several devices and device={self.device} to one; give one of the two"
            )
        named = [f"cuda:{name}" if name.isdecimal() else name for name in self.devices or []] or [self.device]
        return [named[i % len(named)] for i in range(self.workers or len(named))]


class EnsembleOptions(InferOptions):
    """Options of ``ensemble``."""

    mode: Literal["soft", "hard"]
    members: list[str] = Field(min_length=1)
    quorum: Count | None = None
    votes: list[Count] | None = None  # of each member; weights=2,1,1 says the same
    average: Literal["members", "flat"] = "members"
    size: tuple[int, int] | None = None
    anyway: bool = False

    @model_validator(mode="after")
    def _fitting(self) -> "EnsembleOptions":
        if self.votes is not None and len(self.votes) != len(self.members):
            raise ValueError(f"weights: {len(self.votes)} for {len(self.members)} members; give one each")
        places = [os.path.normpath(name) for name in self.members]
        if doubled := [name for name, place in zip(self.members, places, strict=True) if places.count(place) > 1]:
            raise ValueError(f"members: {doubled[0]} is named twice; weights=2,1 counts a member more than once")
        for key, given in (("quorum", self.quorum is not None), ("size", self.size is not None)):
            if self.mode == "soft" and given:
                raise ValueError(f"{key}: belongs to mode=hard")
        soft = {"average": self.average != "members", "maps": self.maps, "decided": self.decided is not None}
        for key, given in soft.items():
            if self.mode == "hard" and given:
                raise ValueError(f"{key}: belongs to mode=soft; a hard vote has no probabilities")
        if self.decided is not None and self.average != "members":
            raise ValueError("average: decided= was decided about members, whose folds are averaged first")
        if self.size is not None and self.images is not None:
            raise ValueError("size: images= tells the sizes already; leave one of the two out")
        if self.mode == "hard" and all(map(is_csv, self.members)):
            idle = ("threshold", "tta", "grid", "scales", "window", "root")
            unread = [key for key in idle if getattr(self, key) is not None] + ["weights"] * (self.weights != "final")
            if unread:
                name = "data.root" if unread[0] == "root" else unread[0]
                raise ValueError(f"{name}: changes no CSV; predict the members again with it (bash infer.sh)")
        return self


def typed(kind: type[BaseModel], pairs: dict[str, str]) -> Any:
    """Options of a kind from ``key=value`` pairs.

    Raises:
        ConfigError: an unknown key or an impossible value.
    """
    values: dict[str, Any] = {}
    for key, text in pairs.items():
        field = FLAT.get(key, key)
        if key == "weights" and kind is EnsembleOptions and not text.isalpha():
            field = "votes"  # numbers are votes, a name is a kind of weights of a run
        names = [*set(known_keys(kind, "")) - set(FLAT.values()), *FLAT]
        if key not in names:
            raise ConfigError(f"{key}: no such option{nearest(key, names)}")
        if field in ("members", "tta", "votes", "scales", "devices"):
            values[field] = [part.strip() for part in text.strip("[]").split(",") if part.strip()]
            if field == "votes" and not all(re.fullmatch("0*[1-9][0-9]{0,8}", part) for part in values[field]):
                raise ConfigError(f"{key}={text}: whole numbers from 1, as in {key}=2,1,1; for .5,.3,.2 give 5,3,2")
        elif field == "size":
            values[field] = parse_size(text)
        elif field in ("out", "images", "root", "runs", "device", "precision", "decided"):
            values[field] = text
        else:
            try:
                spaced = re.sub(r":(?=\S)", ": ", text) if field == "window" else text  # Hydra needs no spaces
                values[field] = yaml.safe_load(spaced)
            except yaml.YAMLError:
                raise ConfigError(f"{key}={text}: not a value") from None
    return validate(values, kind)


def parse_size(text: str) -> tuple[int, int]:
    """Height and width of ``2048x2048``.

    >>> parse_size("512x640")
    (512, 640)
    """
    height, cross, width = text.lower().partition("x")
    if not (cross and height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise ConfigError(f"size={text}: expected height x width, as in size=2048x2048")
    return int(height), int(width)


def infer_run(name: str, options: InferOptions) -> Path:
    """Predicts with one run into its CSV; returns the CSV's path."""
    out = options.out or Path("submissions") / f"{Path(name).name}.csv"
    return predict_members([name], options, out)


def vote(options: EnsembleOptions) -> Path:
    """Votes members into a CSV; returns its path. A vote into ``submissions/`` gets a row in the ledger there."""
    from .submit.table import check_name

    out = options.out or Path("submissions") / f"{options.mode}.csv"
    check_name(out)
    written = {out.resolve(), out.with_suffix(".maps").resolve()} if options.maps else {out.resolve()}
    for name in options.members:
        if Path(name).resolve() in written:
            raise ConfigError(f"out={out}: would replace the member {name}; give another name")
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
    from .data.images import image_size
    from .data.records import scan

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
            from .predict.soft import fold_folders  # loads cv2, which a vote of CSVs does without

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

    Images and prediction options that are not given are those of the first run among the members.

    Args:
        votes: weight of each member; one by default.
        flat: a member counts once for each of its folds, so that all folds weigh the same.
        tell: gets the agreement of several members over the first images, and may raise to stop the vote.
        how: a vote in words, for the sidecar.
        kept: ``out`` may hold these very masks already, and is then left as it is.
    """
    from functools import partial

    from .predict.decided import Decided
    from .predict.opening import open_members, recipe_of
    from .predict.run import write_submission
    from .predict.soft import RunMember
    from .submit.agreement import Watch

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
    if decided is not None:
        all_votes = decided.votes_of(members)
        for name, n in zip(names, all_votes, strict=True):
            if not n:
                print(f"note: {name}: left out, as {options.decided} says", flush=True)
        names = [name for name, n in zip(names, all_votes, strict=True) if n]
        members = [member for member, n in zip(members, all_votes, strict=True) if n]
        votes = [n for n in all_votes if n]
    idle = [key for key in ("tta", "grid", "scales", "window") if getattr(options, key) is not None]
    if idle and not any(member.needs_images for member in members):
        raise ConfigError(f"{idle[0]}: changes no stored maps; predict them again with it (bash infer.sh)")
    data, own = recipe_of(members) or (None, Predict())
    predict = own.model_copy(update=options.changes())
    records = find_records(data, options, members)
    for member in members:
        if isinstance(member, RunMember):
            member.compare_folds(len(records) // len(places), predict.threshold)
    write_submission(
        out,
        members,
        records,
        threshold=predict.threshold,
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
    from .data.layouts import test_records as test_records_of
    from .data.records import Record, scan, test_records

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
