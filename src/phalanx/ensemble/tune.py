"""Deciding on out-of-fold maps what a soft vote does: members, weights, thresholds and the cleaning of masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..config import Strict
from ..errors import ConfigError
from ..masks.stack import Stack, dice_per_class
from ..predict.decided import Decided, DecidedMember
from ..predict.maps import Mean
from ..runtime.files import format_mark, refuse_foreign
from ..scoring.compare import Comparison
from ..scoring.crossfit import (
    EVERY,
    LEAST,
    Fit,
    Verdict,
    cross_fit,
    explored,
    for_all,
    forward,
    per_class,
    weightings,
    worth,
)
from .candidates import OutOfFold, by_cleaning, by_threshold, by_weights, gather
from .oof import open_out_of_fold

THRESHOLDS = np.arange(2, 39) / 40  # .05 to .95
SMALLEST = (0, 16, 64, 256, 1024)  # pixels of the image


class DecideOptions(Strict):
    """Options of ``decide``."""

    SPELLED: ClassVar = {"data.root": "root"}

    members: list[str]
    out: Path = Path("submissions/decided.json")
    runs: Path = Path("runs")
    root: Path | None = None
    progress: bool = True


class Settings(NamedTuple):
    """All that is chosen: votes int[M], and a class thresholds float[C], smallest part int[C], largest and holes
    bool[C]."""

    votes: np.ndarray
    thresholds: np.ndarray
    smallest: np.ndarray
    largest: np.ndarray
    holes: np.ndarray


class Row(NamedTuple):
    """A line of the table. ``used``: kept, and neither does another choice take its place, nor do all together fail."""

    verdict: Verdict
    chosen: dict[str, Any]
    used: bool

    def to_json(self) -> dict[str, Any]:
        return _told(self.verdict.comparison, self.verdict.in_sample, self.used, self.chosen)


def _told(found: Comparison, in_sample: float | None, kept: bool, chosen: dict[str, Any]) -> dict[str, Any]:
    return {
        "choice": found.names[1], "default": found.means[0], "cross_fitted": found.means[1], "in_sample": in_sample,
        "gain": found.difference, "interval": found.interval, "kept": kept, "chosen": chosen,
    }  # fmt: skip


@dataclass(frozen=True)
class Decision:
    """What was decided, and why. ``together``: where several choices were kept, all of them against the default."""

    decided: Decided
    default: str
    rows: list[Row]
    together: Comparison | None

    def to_text(self) -> str:
        """The table for the terminal."""
        lines = [
            f"default: {self.default}",
            "choice      default  cross-fitted  in-sample     gain  95% interval        verdict",
        ]
        for row in self.rows:
            told = [f"{name} {value}" if value is not True else name for name, value in row.chosen.items()]
            told = [*told[:6], f"and {len(told) - 6} more"] if len(told) > 6 else told
            verdict = "kept" if row.used else "gains, yet not kept" if row.verdict.kept else "not kept"
            inside = f"{row.verdict.in_sample:.4f}"
            lines.append(
                _line(row.verdict.choice, row.verdict.comparison, inside, f"{verdict}: {', '.join(told) or '-'}")
            )
        if self.together is not None:
            verdict = "kept" if worth(self.together) else "no sure gain, so nothing is kept"
            lines.append(_line("together", self.together, "-", verdict))
        return "\n".join([
            *lines,
            f"Kept is what gains {LEAST} or more where it was not fitted, with an interval over patients above 0.",
        ])  # fmt: skip


def _line(name: str, found: Comparison, inside: str, verdict: str) -> str:
    span = "-" if found.interval is None else f"{found.interval[0]:+.4f} to {found.interval[1]:+.4f}"
    default, fitted = found.means
    return (
        f"{name:<10}   {default:.4f}        {fitted:.4f}  {inside:>9}  {found.difference:+.4f}  {span:<18}  {verdict}"
    )


def decide(options: DecideOptions) -> Decision:
    """Fits each choice on all folds but one, scores it on that one, and writes what gains for sure.

    A choice is compared with what was decided before it: members and weights with equal votes, thresholds with one for
    all classes at the votes decided on, cleaning with the masks as they are then. Where several are kept, all together
    must gain over the default, too.

    Raises:
        ConfigError: members without maps or with other folds, a file that may not be written.
        OutputError: another file in its place.
        DataError: members of other classes or images, a data set that is not theirs, damaged maps.
    """
    if options.out.suffix != ".json" or options.out.with_suffix(".csv").exists():
        raise ConfigError(
            f"out={options.out}: name a .json file that is no CSV's sidecar, as in out=submissions/decided.json"
        )
    refuse_foreign(options.out, format_mark("decided"))
    held, threshold = open_out_of_fold(options.members, runs=options.runs, root=options.root, progress=options.progress)
    decision = judged(held, threshold)
    decision.decided.write(options.out)
    return decision


def judged(held: OutOfFold, threshold: float) -> Decision:
    """All choices about some out-of-fold maps; ``threshold`` is the default."""
    classes, members, count = held.data.classes, list(held.members), len(held.data.classes)
    patients = [record.group for record in held.records]
    images = [record.name for record in held.records]
    off = np.zeros(count, int)
    default = Settings(np.ones(len(members), int), np.full(count, threshold), off, off.astype(bool), off.astype(bool))
    now, by_fold = default, dict.fromkeys(held.folders, default)
    rows: list[Row] = []

    def judge(choice: str, dice: np.ndarray, at: int, fit: Fit) -> Verdict:
        return cross_fit(
            choice, dice, default=at, fit=fit, folds=held.folds, images=images, patients=patients, classes=classes
        )

    def adopt(verdict: Verdict, field: str, values: np.ndarray) -> None:
        nonlocal now
        now = now._replace(**{field: values[verdict.chosen]})
        for fold, chosen in verdict.by_fold.items():
            by_fold[fold] = by_fold[fold]._replace(**{field: values[chosen]})

    plain = None
    if len(members) > 1:

        def measured(votes: np.ndarray) -> np.ndarray:
            return gather(held, len(votes), threshold, by_weights(votes, threshold))

        if len(members) <= EVERY:
            tried = weightings(len(members))
            dice = measured(tried)
        else:
            tried, dice = explored(measured, len(members), held.folds)
        equal = tried.tolist().index([1] * len(members))
        plain = dice[:, :, equal]
        weigh = for_all(equal) if len(members) <= EVERY else forward(tried, repeat=True)
        both = [judge("members", dice, equal, forward(tried)), judge("weights", dice, equal, weigh)]
        best = max((v for v in both if v.kept), key=lambda v: v.comparison.means[1], default=None)
        rows += [Row(v, _named(members, tried[v.chosen[0]]), v is best) for v in both]
        if best is not None:
            now = now._replace(votes=tried[best.chosen[0]])
            for fold, chosen in best.by_fold.items():
                by_fold[fold] = by_fold[fold]._replace(votes=tried[chosen[0]])

    levels = np.unique(np.append(THRESHOLDS, threshold).astype(np.float32))
    at = int(np.flatnonzero(levels == np.float32(threshold))[0])
    dice = gather(held, len(levels), float(levels[0]), by_threshold(levels, now.votes))
    plain = dice[:, :, at] if plain is None else plain
    verdict = judge("thresholds", dice, at, per_class(at))
    values = np.array([round(float(level), 6) for level in levels])
    values[at] = threshold
    rows.append(Row(verdict, _named(classes, values[verdict.chosen], values[at]), verdict.kept))
    if verdict.kept:
        adopt(verdict, "thresholds", values)

    dice = gather(
        held, len(SMALLEST) + 2, float(now.thresholds.min()), by_cleaning(SMALLEST, now.votes, now.thresholds.tolist())
    )
    options = {"smallest": [*range(len(SMALLEST))], "largest": [0, len(SMALLEST)], "holes": [0, len(SMALLEST) + 1]}
    for choice, columns in options.items():
        verdict = judge(choice, dice[:, :, columns], 0, per_class(0))
        values = np.array(SMALLEST) if choice == "smallest" else np.array([False, True])
        rows.append(Row(verdict, _named(classes, values[verdict.chosen], values[0]), verdict.kept))
        if verdict.kept:
            adopt(verdict, choice, values)

    together = None
    if sum(row.used for row in rows) > 1:
        scored = together_dice(held, {fold: decided_of(held, threshold, found) for fold, found in by_fold.items()})
        pair = np.stack([plain.astype(float), scored])
        together = Comparison(("default", "together"), tuple(images), tuple(patients), tuple(classes), pair)
        if not worth(together):
            now, rows = default, [row._replace(used=False) for row in rows]
    told = f"{'equal votes' if members[1:] else members[0]}, threshold {threshold:g}, masks as they are"
    verdicts = [row.to_json() for row in rows]
    if together is not None:
        verdicts.append(_told(together, None, worth(together), {}))
    return Decision(decided_of(held, threshold, now, verdicts), told, rows, together)


def _named(names: Sequence[str], values: np.ndarray, default: Any = 0) -> dict[str, Any]:
    """What is not the default, by name."""
    return {name: value for name, value in zip(names, values.tolist(), strict=True) if value != default}


def decided_of(held: OutOfFold, threshold: float, chosen: Settings, verdicts: Sequence[dict[str, Any]] = ()) -> Decided:
    """The decisions file of settings."""
    classes = held.data.classes
    hashes = [
        {k: v for maps in held.folders.values() for k, v in maps[m].hashes.items()} for m in range(len(held.members))
    ]
    return Decided(
        classes=classes,
        members=[
            DecidedMember(name=name, votes=votes, hashes=told)
            for name, votes, told in zip(held.members, chosen.votes.tolist(), hashes, strict=True)
        ],
        threshold=threshold,
        thresholds=_named(classes, chosen.thresholds, threshold),
        smallest=_named(classes, chosen.smallest),
        largest=list(_named(classes, chosen.largest)),
        holes=list(_named(classes, chosen.holes)),
        verdicts=list(verdicts),
    )


def together_dice(held: OutOfFold, decided: dict[int, Decided]) -> np.ndarray:
    """Dice float64[I, C] of every image by the decisions fitted without its fold, made as a submission is."""
    dice = np.empty((len(held.records), len(held.data.classes)))
    for row, image in enumerate(held):
        of_fold = decided[int(held.folds[row])]
        mean = Mean(image.size)
        for maps, member in zip(image.maps, of_fold.members, strict=True):
            if member.votes:
                mean.add(maps, member.votes)
        guess = of_fold.stack(mean.parts(), image.size)
        dice[row] = dice_per_class(guess, Stack.of_planes(image.planes, dice.shape[1]))
    return dice
