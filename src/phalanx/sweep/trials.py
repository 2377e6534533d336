"""One training, or vote, of a table that has no result yet, and the result it gets."""

import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..config import ClassifyConfig, Config, Data, SegmentConfig
from ..data.root import resolve_root
from ..engine.task import of_class
from ..errors import DataError
from ..runs.reader import FoldRun
from ..runtime.files import write_text
from ..runtime.metric import Metric
from ..runtime.provenance import commit
from .places import misplaced
from .recipe import recipe_of
from .results import LABELS, RESULTS, Predictions, SweepResult, changed, label_fault, read_labels, read_results
from .runs import Runs, Scored, Wanted, result_of, seconds_of
from .table import Ballot, SweepRow, Table


@dataclass(frozen=True)
class Trial:
    """One training, or vote, to do."""

    table: Table
    row: SweepRow
    scale: str
    recipe: Config | Ballot
    seed: int
    folds: tuple[int, ...]  # whose networks predict together; of a vote 0: it has no held-out images

    @property
    def fold(self) -> int:
        """The first fold, which is the only one unless labels are predicted."""
        return self.folds[0]

    @property
    def title(self) -> str:
        of = f"fold {self.fold}" if len(self.folds) == 1 else f"folds {', '.join(map(str, self.folds))}"
        return f"{self.table.name}/{self.row.name} seed {self.seed} {of}"

    @property
    def data(self) -> Data:
        """The data set, where it is now."""
        first = self.recipe if isinstance(self.recipe, Config) else next(self.recipe.configs())
        return resolve_root(first.data)

    @property
    def home(self) -> str:
        """Name of the data set's folder."""
        root = self.data.root
        assert root is not None
        return root.resolve().name


def known_results(trial: Trial) -> list[SweepResult]:
    """The results that a trial may take over: those of its recipe, seed, fold, data set and scored images."""
    table = trial.table
    known = read_results(scale=trial.scale, data=trial.home)
    known = [r for r in known if (r.seed, tuple(r.folds or [r.fold])) == (trial.seed, trial.folds)]
    known = [result for result in known if misplaced(result, table, trial.row) is None]
    if table.task == "classify":
        labels, limits = read_labels(RESULTS, trial.scale, trial.home), trial.row.thresholds is not None
        known = [result for result in known if label_fault(result, limits, labels) is None]
    return [result for result in known if changed(result, trial.recipe) is None]


def finish(trial: Trial, runs: Runs) -> tuple[SweepResult, str]:
    """The result of a trial: an existing one, that of another row with the same recipe, or a new one."""
    table, row = trial.table, trial.row
    words = [table.name, f"scale={trial.scale}", f"rows={row.name}", f"seeds={trial.seed}"]
    words += [] if row.vote else [f"fold={','.join(map(str, trial.folds))}"]
    about: dict[str, Any] = {"table": table.name, "row": row.name, "overrides": overrides(trial)}
    about["command"] = " ".join(["phalanx sweep", *words])  # without runtime keys, which hold private paths
    equal = known_results(trial)
    for result in equal:
        if (result.table, result.row) == (table.name, row.name):
            return result, "as it was"
    if equal:
        copy = replace(equal[0], **about)
        copy.write()
        return copy, f"the recipe of {equal[0].table}/{equal[0].row}"
    score = score_labels if table.task == "classify" else score_vote if row.vote else score_training
    made = score(trial, runs)
    result = replace(made, data=trial.home, **about)
    result.write()
    return result, f"{result.seconds:.0f} s"


def score_training(trial: Trial, runs: Runs) -> SweepResult:
    """Scores the run of a trial's recipe."""
    config = trial.recipe
    assert isinstance(config, SegmentConfig)
    run = runs.run(config, trial.fold)
    table, on = trial.table, trial.table.scored_on
    wanted = Wanted(tuple(table.figures), table.claims == "iou")
    out_of_fold = runs.out_of_fold(config, trial.fold, wanted if on == "out_of_fold" else Wanted())
    scored = out_of_fold
    if on != "out_of_fold":
        scored = runs.on_test(config, trial.fold, rotated=on == "rotated_test", wanted=wanted)
    made = run.environment
    return replace(
        _result(trial, scored, run),
        seconds=seconds_of(run),
        curve=curve(run),
        commit=made["commit"],
        machine=machine_of(made),
        held_out={"patients": out_of_fold.patients, "images": out_of_fold.images} if table.gap else None,
        iou_curve=None if table.collapse is None else iou_curve(run, table.collapse.label),
    )


def score_labels(trial: Trial, runs: Runs) -> SweepResult:
    """Predicts the test images with the folds of a trial; writes their labels next to the tables of the data set."""
    config, table = trial.recipe, trial.table
    assert isinstance(config, ClassifyConfig)
    folds = [runs.run(config, fold) for fold in trial.folds]
    labels, made = runs.labels_on_test(
        config, trial.folds, table.truth, cross_fitted=trial.row.thresholds == "cross_fitted"
    )
    predicted = Predictions.of(made, labels)
    main = table.by_column[table.main or ""]
    scores = {one.name: labels.score(trial.title, predicted.arrays, one.images) for one in table.columns}
    for one in table.columns:  # all now, so that a column that nothing defines shows before the result is written
        scores[one.name].value(one.metric)
    write_text(RESULTS / trial.scale / trial.home / LABELS, labels.to_csv())
    made_with = folds[0].environment
    return replace(
        _result(trial, Scored(scores[main.name].value(main.metric), {}, {}), folds[0]),
        metric=Metric(main.metric),
        seconds=sum(map(seconds_of, folds)),
        curve=curve(folds[0]),
        commit=made_with["commit"],
        machine=machine_of(made_with),
        folds=list(trial.folds) if len(trial.folds) > 1 else None,
        predicted=predicted,
    )


def machine_of(environment: Mapping[str, Any]) -> str:
    """The GPU that a run was trained on, or the processor with its threads."""
    return environment["gpu"] or f"{processor()}, {environment['threads']} threads"


def score_vote(trial: Trial, runs: Runs) -> SweepResult:
    """Votes the trained members of a trial, and scores the vote."""
    ballot = trial.recipe
    assert isinstance(ballot, Ballot)
    members = runs.members(ballot)
    began = time.monotonic()
    rotated = trial.table.scored_on == "rotated_test"
    wanted = Wanted(tuple(trial.table.figures), trial.table.claims == "iou")
    scored = runs.on_test(ballot, 0, rotated=rotated, wanted=wanted)
    seconds = sum(map(seconds_of, members)) + time.monotonic() - began
    return replace(_result(trial, scored, members[0]), seconds=seconds)


def _result(trial: Trial, scored: Scored, run: FoldRun) -> SweepResult:
    """What a training and a vote have in common; the name of the data set is not in it."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return SweepResult(
        table=trial.table.name,
        row=trial.row.name,
        scale=trial.scale,
        data="",
        seed=trial.seed,
        fold=trial.fold,
        metric=result_of(run).metric,
        value=scored.mean,
        seconds=0.0,
        curve=[],
        patients=scored.patients,
        images=scored.images,
        overrides=[],
        recipe=recipe_of(trial.recipe),
        command="",
        commit=commit(),
        machine=gpu or f"{processor()}, {torch.get_num_threads()} threads",
        scored_on=trial.table.scored_on,
        figures=scored.figures,
        pixels=scored.pixels,
    )


def overrides(trial: Trial) -> list[str]:
    """The words that make the row's recipe of the scale's; none of a vote, whose members have their own."""
    table, row = trial.table, trial.row
    if row.vote:
        return []
    return [*table.overrides, *table.at.get(trial.scale, []), *row.overrides, *row.at.get(trial.scale, [])]


def curve(run: FoldRun) -> list[list[float]]:
    """[epoch, metric] of the held-out images while training, from the run's log."""
    key = f"held_out/{result_of(run).metric.name}"
    return [[int(epoch), round(value, 5)] for epoch, value in run.logged("validate", "epoch", key)]


def iou_curve(run: FoldRun, label: str) -> list[list[float]]:
    """[step, IoU of a class] over the pixels of the held-out images while training, from the run's log.

    Raises:
        DataError: the log has none.
    """
    # a validation without the class, true or predicted, has no IoU of it
    points = run.logged("validate", "step", f"held_out/{of_class('iou', label)}", partial=True)
    found = [[int(step), round(value, 5)] for step, value in points]
    if not found:
        raise DataError(
            f"{run.folder}: its log has no IoU of {label}, which the table's collapse needs: set validate_every or "
            "validate_steps, and model.head=softmax or image_f1; or it was trained before these were logged: delete it"
        )
    return found


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{name}, {os.cpu_count()} cores"
