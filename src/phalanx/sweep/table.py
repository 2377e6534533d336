"""Tables of variants: one file of configs/sweep/ each, one row per published claim, and its recipe at a scale."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, model_validator

from ..config import CONFIGS, Config, Strict, nearest, read_plain, validate_as
from ..config.compose import compose_as, config_folder, split_words
from ..config.f1_iou import F1AtIoU
from ..errors import ConfigError
from ..scoring.label_table import Subset
from .published import Published, read_published
from .recipe import Ballot as Ballot
from .recipe import Mode, run_name

Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
Outcome = Literal["worked", "did not help", "open"]  # open: untested, unclear, or the source contradicts itself


ScoredOn = Literal["out_of_fold", "test", "rotated_test"]  # the last: the rotated hands of the test set alone


class Member(Strict):
    """A row above that votes."""

    row: Name
    # whose networks vote: a soft vote takes each as a voter, the member's weight shared among them; a hard vote takes
    # their mean. A member that is a vote itself has chosen its own.
    folds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = [0]


class SweepRow(Strict):
    """A variant, and what was published about it."""

    name: Name
    source: str = Field(min_length=1)
    overrides: list[str] = []  # key=value words of `phalanx train`
    vote: Mode | None = None  # instead of a training: a vote of `members`
    members: list[Member] = []
    at: dict[str, list[str]] = {}  # further overrides at one scale, applied last
    scales: list[str] | None = None  # the scales at which the row runs; null: all
    baseline: str | None = None  # the row it is compared with; null: it is only a baseline
    outcome: Outcome | None = None  # published, of the comparison
    published: str | None = None  # key of configs/published.yaml: the Dice, or the gain over the baseline
    classes: list[str] = []  # the claim is about the mean Dice of these; empty: of all
    # a row above: the trainings begin with the weights of its runs of the same seed, fold by fold, and train on the
    # failures of these (data.hard), so all folds of that row are trained first
    after: Name | None = None
    # of a softmax that may predict several classes: limits by class, fitted to the row's out-of-fold probabilities
    thresholds: Literal["cross_fitted"] | None = None


class Collapse(Strict):
    """When a training leaves the collapse to background: as soon as held-out images have this IoU of a class."""

    label: str = Field(min_length=1)
    iou: Annotated[float, Field(gt=0, lt=1)]


class Column(Strict):
    """A score of a classification: a metric over some of the test images."""

    name: Name
    metric: Literal["macro_f1", "macro_auc", "macro_ap", "balanced_accuracy", "accuracy"] = "macro_f1"
    images: Subset = "all"


class Table(Strict):
    """Variants of one choice. ``overrides`` and ``at`` are shared by its rows."""

    name: Name
    task: Literal["segment", "classify"] = "segment"
    experiment: str | None = None  # the recipe that all rows share; null: that of the scale, claims_<scale>
    columns: list[Column] = []  # scores of a classification
    main: Name | None = None  # the column that the claims are about
    truth: str | None = None  # labels of the test images in the data set's folder; null: answers.csv, or test
    scored_on: ScoredOn = "out_of_fold"
    # further figures of the masks, beside Dice: entries of figures.FIGURES, and rules of F1 at an IoU
    figures: list[Literal["iou"] | F1AtIoU] = []
    # what the claims are about: mean Dice over images, or IoU over the pixels of all images together
    claims: Literal["dice", "iou"] = "dice"
    classes: list[str] = []  # which the claims are about, unless a row has its own; empty: all
    collapse: Collapse | None = None  # a column of the table
    gap: bool = False  # the claims are about the Dice lost from out of fold to `scored_on`
    title: str = Field(min_length=1)
    why: str = Field(min_length=1)
    overrides: list[str] = []
    at: dict[str, list[str]] = {}
    rows: list[SweepRow] = Field(min_length=1)
    _made: dict[tuple, Config | Ballot] = PrivateAttr({})  # recipes, which those of rows that come after them repeat

    @model_validator(mode="after")
    def _comparable(self) -> "Table":
        names = [row.name for row in self.rows]
        known = scales()
        if self.gap and self.scored_on == "out_of_fold":
            raise ValueError("gap: is from out of fold to a test set; give scored_on: test or rotated_test")
        if self.gap and self.claims != "dice":
            raise ValueError("gap: is one of Dice; leave out claims")
        self._check_task()
        for row in self.rows:
            if names.count(row.name) > 1:
                raise ValueError(f"rows: {row.name} appears twice")
            if row.baseline is not None and (row.baseline not in names or row.baseline == row.name):
                raise ValueError(f"rows: {row.name}: its baseline {row.baseline!r} is not another row")
            if (row.baseline is None) != (row.outcome is None):
                raise ValueError(f"rows: {row.name} needs both 'baseline' and 'outcome', or neither")
            if row.published is not None and row.published not in read_published():
                raise ValueError(f"rows: {row.name}: published: {row.published!r} is not in configs/published.yaml"
                                 f"{nearest(row.published, read_published())}")  # fmt: skip
            number = self.published(row)
            if number and self.claims != "dice":
                raise ValueError(f"rows: {row.name}: published: is a Dice, the claims are about IoU")
            if number and self.gap != (number.gap is not None):
                raise ValueError(
                    f"rows: {row.name}: a published gap belongs to a table with gap: true, and nothing else"
                )
            if row.baseline is None and (row.classes or (number and number.dice is None and number.gap is None)):
                raise ValueError(f"rows: {row.name} has no baseline, so it has no gain and no classes")
            if row.outcome == "worked" and (self.published_gain(row) or 0) < 0:
                raise ValueError(f"rows: {row.name} worked, but its published numbers say that it lost")
            for scale in [*(row.scales or []), *row.at, *self.at]:
                if scale not in known:
                    raise ValueError(f"rows: {row.name}: {scale!r} is not a scale{nearest(scale, known)}")
        for index, row in enumerate(self.rows):
            above = {one.name: one for one in self.rows[:index]}
            self._check_vote(row, above)
            self._check_after(row, above)
        return self

    def _check_task(self) -> None:
        """Refuses options of the other task. Rows of an experiment run at the scales for which the table has options.

        A training at another scale would be the experiment itself, at its full size.
        """
        if self.task == "segment":
            if self.columns or self.main or self.truth or self.experiment:
                raise ValueError("columns, main, truth, experiment: only for task: classify")
            if odd := next((row.name for row in self.rows if row.after or row.thresholds), None):
                raise ValueError(f"rows: {odd}: after and thresholds are only for task: classify")
            return
        names = [column.name for column in self.columns]
        if self.figures or self.classes or self.collapse or self.claims != "dice":
            raise ValueError("figures, claims, classes, collapse: only for task: segment, whose scores are of masks")
        if self.experiment is None or not self.at or self.scored_on != "test" or self.gap:
            raise ValueError("task: classify needs an experiment, options for a scale (at) and scored_on: test, no gap")
        if len(set(names)) < len(names) or self.main not in names:
            raise ValueError(f"main: {self.main!r} must be one of the columns, each with a name of its own: {names}")
        for row in self.rows:
            if row.vote or row.members or row.classes or row.published:
                raise ValueError(f"rows: {row.name}: vote, members, classes, published are only for task: segment")
            row.scales = list(self.at) if row.scales is None else row.scales

    def _check_after(self, row: SweepRow, above: dict[str, SweepRow]) -> None:
        if row.after is None:
            return
        if row.after not in above:
            raise ValueError(f"rows: {row.name}: after: {row.after!r} is not a row above it")
        if any(runs_at(row, scale) and not runs_at(above[row.after], scale) for scale in scales()):
            raise ValueError(f"rows: {row.name}: after: {row.after} does not run at all of its scales")

    @property
    def by_column(self) -> dict[str, Column]:
        """The columns by name."""
        return {column.name: column for column in self.columns}

    def _check_vote(self, row: SweepRow, above: dict[str, SweepRow]) -> None:
        """Refuses a vote that cannot be held or scored. Its members are above it, so that no vote is its own member."""
        if (row.vote is None) != (not row.members):
            raise ValueError(f"rows: {row.name} needs both 'vote' and 'members', or neither")
        if row.vote and (row.overrides or row.at):
            raise ValueError(f"rows: {row.name} is a vote and trains nothing; overrides belong to its members")
        if row.vote and (self.scored_on == "out_of_fold" or self.gap):
            raise ValueError(f"rows: {row.name}: the members of a vote have seen each other's held-out images; "
                             "give scored_on: test, without gap")  # fmt: skip
        for member in row.members:
            if member.row not in above:
                raise ValueError(f"rows: {row.name}: its member {member.row!r} is not a row above it")
            if above[member.row].vote and (row.vote == "soft" or member.folds != [0]):
                raise ValueError(f"rows: {row.name}: its member {member.row} is a vote, which joins a hard vote as "
                                 "it is, without folds")  # fmt: skip
            if any(runs_at(row, scale) and not runs_at(above[member.row], scale) for scale in scales()):
                raise ValueError(f"rows: {row.name}: its member {member.row} does not run at all of its scales")

    def row(self, name: str) -> SweepRow:
        """The row of a name.

        Raises:
            ConfigError: there is none.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise ConfigError(f"rows={name}: no such row in {self.name}{nearest(name, [r.name for r in self.rows])}")

    def classes_of(self, row: SweepRow) -> list[str]:
        """The classes that the claim of a row is about; none: all."""
        return row.classes or self.classes

    def published(self, row: SweepRow) -> Published | None:
        """What was published about a row."""
        return None if row.published is None else read_published()[row.published]

    def published_gain(self, row: SweepRow) -> float | None:
        """Published Dice above the row it is compared with; None if nothing was published, or on other images."""
        ours = self.published(row)
        if ours is None or row.baseline is None or ours.gain is not None:
            return ours.gain if ours and row.baseline else None
        other = self.published(self.row(row.baseline))
        if other and ours.gap is not None and other.gap is not None:
            return ours.gap - other.gap
        if other is None or other.dice is None or ours.dice is None or other.score != ours.score:
            return None
        return ours.dice - other.dice

    def recipe(self, row: SweepRow, scale: str, seed: int, extra: dict[str, str] | None = None) -> Config | Ballot:
        """The row's recipe at a scale, checked.

        Raises:
            ConfigError: an override that cannot work, a fold that a member does not have; names the table and the row.
        """
        key = row.name, scale, seed, tuple((extra or {}).items())
        if key not in self._made:
            self._made[key] = self._recipe(row, scale, seed, extra)
        return self._made[key]

    def _recipe(self, row: SweepRow, scale: str, seed: int, extra: dict[str, str] | None) -> Config | Ballot:
        if row.vote:
            found = []
            for member in row.members:
                recipe = self.recipe(self.row(member.row), scale, seed, extra)
                if isinstance(recipe, Config) and max(member.folds) >= recipe.folds:
                    raise ConfigError(f"configs/sweep/{self.name}.yaml, {row.name} at scale {scale}: {member.row} has "
                                      f"no fold {max(member.folds)} (folds={recipe.folds})")  # fmt: skip
                found.append((recipe, tuple(member.folds)))
            return Ballot(row.vote, tuple(found))
        try:
            words = {key: text for key, text in self.words(row, scale, seed, extra).items() if key != "seed"}
            # the seed last, so that all seeds of a row share what Hydra composes, which takes a tenth of a second
            config = compose_as(CONFIGS[self.task], words).model_copy(update={"seed": seed})
            named = [*self.classes_of(row), *([self.collapse.label] if self.collapse else [])]
            if unknown := next((name for name in named if name not in config.data.classes), None):
                raise ConfigError(f"{unknown!r} is not a class{nearest(unknown, config.data.classes)}")
        except ConfigError as error:
            raise ConfigError(f"configs/sweep/{self.name}.yaml, {row.name} at scale {scale}: {error}") from None
        return config

    def words(self, row: SweepRow, scale: str, seed: int, extra: dict[str, str] | None = None) -> dict[str, str]:
        """The options of ``phalanx train`` that make a row's recipe; it is not a vote."""
        pairs = {"experiment": self.experiment or f"claims_{scale}"}
        for words in (self.overrides, self.at.get(scale, []), row.overrides, row.at.get(scale, [])):
            pairs |= split_words(words)
        if row.after:
            run = run_name(self.config(self.row(row.after), scale, seed))
            pairs |= {"model.init_from": run, "data.hard.run": run}
        return pairs | (extra or {}) | {"seed": str(seed)}

    def config(self, row: SweepRow, scale: str, seed: int, extra: dict[str, str] | None = None) -> Config:
        """The recipe of a row that is not a vote. Raises as :meth:`recipe`."""
        found = self.recipe(row, scale, seed, extra)
        assert isinstance(found, Config)
        return found

    def networks(self, row: SweepRow, folds: Sequence[int], scale: str, seed: int) -> Iterator[tuple[SweepRow, int]]:
        """The rows and folds whose networks a row needs, in the order of training: all folds of the row that it begins
        after, and its own folds, or those of its members if it is a vote."""
        for member in row.members:
            yield from self.networks(self.row(member.row), member.folds, scale, seed)
        if row.after:
            before = self.row(row.after)
            yield from self.networks(before, range(self.config(before, scale, seed).folds), scale, seed)
        if not row.vote:
            for fold in folds:
                yield row, fold


def runs_at(row: SweepRow, scale: str) -> bool:
    """Whether the row runs at a scale."""
    return row.scales is None or scale in row.scales


def scales() -> list[str]:
    """The scales there are: each is a recipe, configs/experiment/claims_<scale>.yaml, that all tables share."""
    return sorted(path.stem.removeprefix("claims_") for path in config_folder().glob("experiment/claims_*.yaml"))


def table_names() -> list[str]:
    """The tables of configs/sweep/."""
    return sorted(path.stem for path in config_folder().glob("sweep/*.yaml"))


def read_table(name: str) -> Table:
    """The table of configs/sweep/<name>.yaml.

    Raises:
        ConfigError: there is none, or its rows contradict each other.
    """
    path: Path = config_folder() / "sweep" / f"{name}.yaml"
    if name not in table_names():
        raise ConfigError(f"{name}: no configs/sweep/{name}.yaml{nearest(name, table_names())}")
    values = read_plain(path)
    try:
        return validate_as(Table, values | {"name": name})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
