"""Trains, or votes, the rows of a table that have no result yet. Killed anywhere, the same command goes on."""

import os
import platform
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..config import Config
from ..config.compose import parse_folds
from ..data.root import resolve_root
from ..errors import ConfigError, PhalanxError
from ..runs.reader import FoldRun
from ..runtime.provenance import commit
from .options import SweepOptions
from .results import Result, changed, read_results, recipe_of
from .runs import Dice, Runs, seconds_of
from .table import Ballot, Row, Table, runs_at


@dataclass(frozen=True)
class Job:
    """One training, or vote, to do."""

    table: Table
    row: Row
    scale: str
    recipe: Config | Ballot
    seed: int
    fold: int  # of a vote 0: it has no held-out images

    @property
    def title(self) -> str:
        return f"{self.table.name}/{self.row.name} seed {self.seed} fold {self.fold}"


def sweep(options: SweepOptions) -> int:
    """Trains what is missing, all rows of a table with the first seed first; returns how many trainings failed.

    Raises:
        ConfigError: a row that makes no sense at this scale.
    """
    jobs, failed = [], 0
    for table in options.tables:
        chosen = [table.row(name) for name in options.rows]
        for row in chosen:
            if not runs_at(row, options.scale):
                raise ConfigError(f"rows={row.name}: makes sense only at scale={','.join(row.scales or [])}")
        for seed in options.seeds:
            for row in chosen or [row for row in table.rows if runs_at(row, options.scale)]:
                try:  # all recipes before the first training: a mistake in the last should not wait for hours
                    recipe = table.recipe(row, options.scale, seed, options.extra)
                    folds = folds_of(options.folds, recipe) if isinstance(recipe, Config) else [0]
                    jobs += [Job(table, row, options.scale, recipe, seed, fold) for fold in folds]
                except ConfigError as error:
                    failed += 1
                    print(f"failed: {table.name}/{row.name} seed {seed}: {error}", flush=True)
    for job in jobs:
        try:
            result, news = finish(job, options.runs)
            print(f"{job.title}: Dice {result.dice:.4f}, {news}", flush=True)
        except (PhalanxError, torch.OutOfMemoryError) as error:
            failed += 1
            print(f"failed: {job.title}: {error}", flush=True)
    return failed


def folds_of(text: str, config: Config) -> list[int]:
    """The folds of a job; there must be held-out images."""
    folds = [fold for fold in parse_folds(text, config.folds) if fold is not None]
    if not folds:
        raise ConfigError(f"fold={text}: a sweep needs held-out images; name folds, as in fold=0..4")
    return folds


def finish(job: Job, runs: Path) -> tuple[Result, str]:
    """The result of a job: there already, that of another row with the same recipe, or newly made."""
    table, recipe = job.table, job.recipe
    first = recipe if isinstance(recipe, Config) else next(recipe.configs())
    data = resolve_root(first.data)
    assert data.root is not None
    home = data.root.resolve().name
    words = [table.name, f"scale={job.scale}", f"rows={job.row.name}", f"seeds={job.seed}"]
    words += [] if job.row.vote else [f"fold={job.fold}"]
    told: dict[str, Any] = {"table": table.name, "row": job.row.name, "overrides": overrides(job)}
    told["command"] = " ".join(["phalanx sweep", *words])  # without runtime keys, which hold private paths
    known = [r for r in read_results(scale=job.scale, data=home) if (r.seed, r.fold) == (job.seed, job.fold)]
    known = [r for r in known if r.scored_on == table.scored_on and (r.held_out is not None or not table.gap)]
    equal = [result for result in known if changed(result, recipe) is None]
    for result in equal:
        if (result.table, result.row) == (table.name, job.row.name):
            return result, "as it was"
    if equal:
        copy = replace(equal[0], **told)
        copy.write()
        return copy, f"the recipe of {equal[0].table}/{equal[0].row}"
    make = train if isinstance(recipe, Config) else vote
    result = replace(make(job, Runs(runs / job.scale / home)), data=home, **told)
    result.write()
    return result, f"{result.seconds:.0f} s"


def train(job: Job, runs: Runs) -> Result:
    """Begins or continues the run of a job's recipe and scores it."""
    config = job.recipe
    assert isinstance(config, Config)
    folder = runs.train(config, job.fold)
    out_of_fold = runs.out_of_fold(config, job.fold)
    on_test = job.table.scored_on != "out_of_fold"
    scored = runs.on_test(config, job.fold, rotated=job.table.scored_on == "rotated_test") if on_test else out_of_fold
    made = FoldRun(folder).environment
    return replace(
        _result(job, scored),
        seconds=seconds_of(folder),
        curve=curve(folder),
        commit=made["commit"],
        machine=f"{processor()}, {made['threads']} threads" if made["gpu"] is None else made["gpu"],
        held_out={"patients": out_of_fold.patients, "images": out_of_fold.images} if job.table.gap else None,
    )


def vote(job: Job, runs: Runs) -> Result:
    """Holds the vote of a job, training the members that are not there, and scores it."""
    ballot = job.recipe
    assert isinstance(ballot, Ballot)
    trained = runs.train_members(ballot)
    began = time.monotonic()
    scored = runs.on_test(ballot, 0, rotated=job.table.scored_on == "rotated_test")
    seconds = sum(map(seconds_of, trained)) + time.monotonic() - began
    return replace(_result(job, scored), seconds=seconds)


def _result(job: Job, scored: Dice) -> Result:
    """What a training and a vote have in common; the name of the data set is not in it."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return Result(
        table=job.table.name,
        row=job.row.name,
        scale=job.scale,
        data="",
        seed=job.seed,
        fold=job.fold,
        dice=scored.mean,
        seconds=0.0,
        curve=[],
        patients=scored.patients,
        images=scored.images,
        overrides=[],
        recipe=recipe_of(job.recipe),
        command="",
        commit=commit(),
        machine=gpu or f"{processor()}, {torch.get_num_threads()} threads",
        scored_on=job.table.scored_on,
    )


def overrides(job: Job) -> list[str]:
    """The words that make the row's recipe of the scale's; none of a vote, whose members have their own."""
    table, row = job.table, job.row
    if row.vote:
        return []
    return [*table.overrides, *table.at.get(job.scale, []), *row.overrides, *row.at.get(job.scale, [])]


def curve(folder: Path) -> list[list[float]]:
    """[epoch, Dice] of the held-out images while training, from the run's log."""
    run = FoldRun(folder)
    assert run.result is not None  # of a fold that was trained to its end
    key = f"held_out/{run.result.metric.name}"
    return [[line["epoch"], round(line[key], 5)] for line in run.log("validate")]


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{name}, {os.cpu_count()} cores"
