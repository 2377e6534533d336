"""Tunes on out-of-fold maps what a soft vote does: members, weights, thresholds and the cleaning of masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..config import Place, Strict
from ..config.words import split_names
from ..errors import ConfigError
from ..masks.stack import Stack, dice_per_class
from ..predict.maps import MapsMean
from ..predict.postprocess import PostProcessing, TunedMember
from ..runtime.files import format_mark, refuse_foreign
from ..scoring.compare import Comparison
from ..scoring.crossfit import (
    MAX_EXHAUSTIVE_MEMBERS,
    MIN_GAIN,
    CrossFit,
    Fit,
    cross_fit,
    explore_weightings,
    for_all,
    forward,
    is_worthwhile,
    per_class,
    weightings,
)
from ..scoring.resampling import Interval, mean_interval
from .candidates import OutOfFold, by_cleaning, by_threshold, by_weights, gather
from .oof import open_out_of_fold
from .reports import note_misaligned

THRESHOLDS = np.arange(2, 39) / 40  # .05 to .95
SMALLEST = (0, 16, 64, 256, 1024)  # pixels of the image


class TuneOptions(Strict):
    """Options of ``tune``."""

    SPELLED: ClassVar = {"data.root": "root"}
    READ: ClassVar = {"members": split_names}

    members: list[str]
    out: Path = Path("submissions/postprocess.json")
    runs: Path = Path("runs")
    root: Place | None = None
    progress: bool = True


class Settings(NamedTuple):
    """All that is chosen: votes int[M], and by class thresholds float[C], smallest part int[C], largest and holes
    bool[C]."""

    votes: np.ndarray
    thresholds: np.ndarray
    smallest: np.ndarray
    largest: np.ndarray
    holes: np.ndarray


class ChoiceRow(NamedTuple):
    """A row of the table. ``used``: adopted, and neither replaced by another choice nor dropped with all of them."""

    fitted: CrossFit
    chosen: dict[str, Any]
    used: bool

    def to_json(self) -> dict[str, Any]:
        """The row as JSON types."""
        return _as_json(self.fitted.comparison, self.fitted.in_sample, self.used, self.chosen)


def _as_json(found: Comparison, in_sample: float | None, adopted: bool, chosen: dict[str, Any]) -> dict[str, Any]:
    return {
        "choice": found.names[1], "default": found.means[0], "cross_fitted": found.means[1], "in_sample": in_sample,
        "gain": found.difference, "interval": found.interval, "adopted": adopted, "chosen": chosen,
        "intervals": {"default": _interval(found, 0), "cross_fitted": _interval(found, 1)},
    }  # fmt: skip


def _interval(found: Comparison, side: int) -> Interval:
    """95% interval of one of two over draws of patients."""
    values = dict(zip(found.images, found.dice[side].mean(axis=1).tolist(), strict=True))
    return mean_interval(values, dict(zip(found.images, found.patients, strict=True)))


@dataclass(frozen=True)
class Tuning:
    """What was tuned, and why. ``together``: if several choices were adopted, all of them against the default."""

    postprocess: PostProcessing
    default: str
    rows: list[ChoiceRow]
    together: Comparison | None

    def to_text(self) -> str:
        """The table for the terminal."""
        lines = [
            f"default: {self.default}",
            "choice      default  cross-fitted  in-sample     gain  95% interval        result",
        ]
        for row in self.rows:
            chosen = [f"{name} {value}" if value is not True else name for name, value in row.chosen.items()]
            chosen = [*chosen[:6], f"and {len(chosen) - 6} more"] if len(chosen) > 6 else chosen
            result = "adopted" if row.used else "gains, but not adopted" if row.fitted.adopted else "not adopted"
            inside = f"{row.fitted.in_sample:.4f}"
            lines.append(
                _line(row.fitted.choice, row.fitted.comparison, inside, f"{result}: {', '.join(chosen) or '-'}")
            )
        if self.together is not None:
            result = "adopted" if is_worthwhile(self.together) else "no significant gain, so nothing is adopted"
            lines.append(_line("together", self.together, "-", result))
        return "\n".join([
            *lines,
            f"A choice is adopted if it gains {MIN_GAIN} or more on folds it was not fitted on, with an interval over "
            "patients above 0.",
        ])  # fmt: skip


def _line(name: str, found: Comparison, inside: str, result: str) -> str:
    span = "-" if found.interval is None else f"{found.interval[0]:+.4f} to {found.interval[1]:+.4f}"
    default, fitted = found.means
    return f"{name:<10}   {default:.4f}        {fitted:.4f}  {inside:>9}  {found.difference:+.4f}  {span:<18}  {result}"


def tune(options: TuneOptions) -> Tuning:
    """Fits each choice on all folds but one, scores it on that one, and writes what gains significantly.

    A choice is compared with what was adopted before it: members and weights with equal votes, thresholds with one
    threshold for all classes at the adopted votes, cleaning with the masks as they are then. If several are adopted,
    all together must gain over the default, too.

    Raises:
        ConfigError: members without maps or with other folds, a file that may not be written.
        OutputError: another file in its place.
        DataError: members of other classes or images, a data set that is not theirs, damaged maps.
    """
    if options.out.suffix != ".json" or options.out.with_suffix(".csv").exists():
        raise ConfigError(
            f"out={options.out}: name a .json file that is not a CSV's sidecar, as in out=submissions/postprocess.json"
        )
    refuse_foreign(options.out, format_mark("postprocess"))
    held, threshold = open_out_of_fold(options.members, runs=options.runs, root=options.root, progress=options.progress)
    note_misaligned(held, threshold)
    tuning = Tuner(held, threshold).tune()
    tuning.postprocess.write(options.out)
    return tuning


class Tuner:
    """Fits all choices on some out-of-fold maps, one after another.

    Args:
        threshold: the default.
    """

    def __init__(self, held: OutOfFold, threshold: float):
        self.held, self.threshold = held, threshold
        self.classes, self.members = held.data.classes, list(held.members)
        self.patients = tuple(record.group for record in held.records)
        self.images = tuple(record.name for record in held.records)
        count = len(self.classes)
        zeros, off = np.zeros(count, int), np.zeros(count, bool)
        self.default = Settings(np.ones(len(self.members), int), np.full(count, threshold), zeros, off, off)
        self.settings = self.default  # adopted so far, fitted on all images
        self.by_fold = dict.fromkeys(held.folders, self.default)  # the same, fitted without that fold
        self.rows: list[ChoiceRow] = []
        self.default_dice: np.ndarray | None = None  # float[I, C]

    def tune(self) -> Tuning:
        """All choices in turn, and the check of those adopted together."""
        if len(self.members) > 1:
            self._members_and_weights()
        self._thresholds()
        self._cleaning()
        together = self._together() if sum(row.used for row in self.rows) > 1 else None
        if together is not None and not is_worthwhile(together):
            self.settings, self.rows = self.default, [row._replace(used=False) for row in self.rows]
        votes = "equal votes" if self.members[1:] else self.members[0]
        default = f"{votes}, threshold {self.threshold:g}, masks as they are"
        choices = [row.to_json() for row in self.rows]
        if together is not None:
            choices.append(_as_json(together, None, is_worthwhile(together), {}))
        found = postprocessing_of(self.held, self.threshold, self.settings, choices)
        return Tuning(found, default, self.rows, together)

    def _cross_fit(self, choice: str, dice: np.ndarray, default: int, fit: Fit) -> CrossFit:
        return cross_fit(
            choice, dice, default=default, fit=fit, folds=self.held.folds, images=self.images, patients=self.patients,
            classes=self.classes,
        )  # fmt: skip

    def _adopt(self, fitted: CrossFit, field: str, values: np.ndarray) -> None:
        """Takes over a choice for each class."""
        self.settings = self.settings._replace(**{field: values[fitted.chosen]})
        for fold, chosen in fitted.by_fold.items():
            self.by_fold[fold] = self.by_fold[fold]._replace(**{field: values[chosen]})

    def _members_and_weights(self) -> None:
        held, count = self.held, len(self.members)

        def measured(votes: np.ndarray) -> np.ndarray:
            return gather(held, len(votes), self.threshold, by_weights(votes, self.threshold))

        if count <= MAX_EXHAUSTIVE_MEMBERS:
            tried = weightings(count)
            dice = measured(tried)
        else:
            tried, dice = explore_weightings(measured, count, held.folds)
        equal = tried.tolist().index([1] * count)
        self.default_dice = dice[:, :, equal]
        weigh = for_all(equal) if count <= MAX_EXHAUSTIVE_MEMBERS else forward(tried, repeat=True)
        both = [
            self._cross_fit("members", dice, equal, forward(tried)),
            self._cross_fit("weights", dice, equal, weigh),
        ]
        best = max((one for one in both if one.adopted), key=lambda one: one.comparison.means[1], default=None)
        self.rows += [ChoiceRow(one, _named(self.members, tried[one.chosen[0]]), one is best) for one in both]
        if best is not None:
            self.settings = self.settings._replace(votes=tried[best.chosen[0]])
            for fold, chosen in best.by_fold.items():
                self.by_fold[fold] = self.by_fold[fold]._replace(votes=tried[chosen[0]])

    def _thresholds(self) -> None:
        levels = np.unique(np.append(THRESHOLDS, self.threshold).astype(np.float32))
        at = int(np.flatnonzero(levels == np.float32(self.threshold))[0])
        dice = gather(self.held, len(levels), float(levels[0]), by_threshold(levels, self.settings.votes))
        if self.default_dice is None:
            self.default_dice = dice[:, :, at]
        fitted = self._cross_fit("thresholds", dice, at, per_class(at))
        values = np.array([round(float(level), 6) for level in levels])
        values[at] = self.threshold
        self.rows.append(ChoiceRow(fitted, _named(self.classes, values[fitted.chosen], values[at]), fitted.adopted))
        if fitted.adopted:
            self._adopt(fitted, "thresholds", values)

    def _cleaning(self) -> None:
        votes, thresholds = self.settings.votes, self.settings.thresholds
        measure = by_cleaning(SMALLEST, votes, thresholds.tolist())
        dice = gather(self.held, len(SMALLEST) + 2, float(thresholds.min()), measure)
        columns = {"smallest": [*range(len(SMALLEST))], "largest": [0, len(SMALLEST)], "holes": [0, len(SMALLEST) + 1]}
        for choice, some in columns.items():
            fitted = self._cross_fit(choice, dice[:, :, some], 0, per_class(0))
            values = np.array(SMALLEST) if choice == "smallest" else np.array([False, True])
            chosen = _named(self.classes, values[fitted.chosen], values[0])
            self.rows.append(ChoiceRow(fitted, chosen, fitted.adopted))
            if fitted.adopted:
                self._adopt(fitted, choice, values)

    def _together(self) -> Comparison:
        """All that was adopted, fitted without the image's own fold, against the default."""
        assert self.default_dice is not None  # thresholds come before
        of_fold = {fold: postprocessing_of(self.held, self.threshold, one) for fold, one in self.by_fold.items()}
        pair = np.stack([self.default_dice.astype(float), together_dice(self.held, of_fold)])
        return Comparison(("default", "together"), self.images, self.patients, tuple(self.classes), pair)


def _named(names: Sequence[str], values: np.ndarray, default: Any = 0) -> dict[str, Any]:
    """The values that are not the default, by name."""
    return {name: value for name, value in zip(names, values.tolist(), strict=True) if value != default}


def postprocessing_of(
    held: OutOfFold, threshold: float, chosen: Settings, choices: Sequence[dict[str, Any]] = ()
) -> PostProcessing:
    """The post-processing file of settings."""
    classes = held.data.classes
    hashes = [
        {k: v for maps in held.folders.values() for k, v in maps[m].hashes.items()} for m in range(len(held.members))
    ]
    return PostProcessing(
        classes=classes,
        members=[
            TunedMember(name=name, votes=votes, hashes=of_member, options=options)
            for name, votes, of_member, options in zip(
                held.members, chosen.votes.tolist(), hashes, held.options, strict=True
            )
        ],
        threshold=threshold,
        thresholds=_named(classes, chosen.thresholds, threshold),
        smallest=_named(classes, chosen.smallest),
        largest=list(_named(classes, chosen.largest)),
        holes=list(_named(classes, chosen.holes)),
        choices=list(choices),
    )


def together_dice(held: OutOfFold, postprocess: dict[int, PostProcessing]) -> np.ndarray:
    """Dice float64[I, C] of every image with the settings fitted without its fold, its masks made as a submission's.

    Args:
        postprocess: by fold that was left out.
    """
    dice = np.empty((len(held.records), len(held.data.classes)))
    for row, image in enumerate(held):
        of_fold = postprocess[int(held.folds[row])]
        mean = MapsMean(image.size)
        for maps, member in zip(image.maps, of_fold.members, strict=True):
            if member.votes:
                mean.add(maps, member.votes)
        guess = of_fold.stack(mean.parts(), image.size)
        dice[row] = dice_per_class(guess, Stack.of_planes(image.planes, dice.shape[1]))
    return dice
