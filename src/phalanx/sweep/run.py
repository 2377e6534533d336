"""Trains the rows of a table that have no result yet. Killed anywhere, the same command goes on."""

import hashlib
import json
import os
import platform
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..compose import parse_folds
from ..config import Config, Data
from ..data import folds as folding
from ..data.quarantine import kept_records
from ..data.truth import truth_of
from ..engine.fit import fit
from ..errors import ConfigError, PhalanxError
from ..roots import resolve_root
from ..submit.score import score
from ..submit.table import Submission
from ..tasks.segment import Segment
from .options import SweepOptions
from .results import Result, changed, read_results, recipe_of
from .table import Row, Table, runs_at


@dataclass(frozen=True)
class Job:
    """One training to do."""

    table: Table
    row: Row
    scale: str
    config: Config
    fold: int

    @property
    def title(self) -> str:
        return f"{self.table.name}/{self.row.name} seed {self.config.seed} fold {self.fold}"


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
                    config = table.recipe(row, options.scale, seed, options.extra)
                    jobs += [Job(table, row, options.scale, config, fold) for fold in folds_of(options.folds, config)]
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
    """The result of a job: there already, that of another row with the same recipe, or newly trained."""
    config, fold = job.config, job.fold
    data = resolve_root(config.data)
    assert data.root is not None
    home = data.root.resolve().name
    words = [job.table.name, f"scale={job.scale}", f"rows={job.row.name}", f"seeds={config.seed}", f"fold={fold}"]
    told: dict[str, Any] = {"table": job.table.name, "row": job.row.name, "overrides": overrides(job)}
    told["command"] = " ".join(["phalanx sweep", *words])  # without runtime keys, which hold private paths
    known = [r for r in read_results(scale=job.scale, data=home) if (r.seed, r.fold) == (config.seed, fold)]
    equal = [result for result in known if changed(result, config) is None]
    for result in equal:
        if (result.table, result.row) == (job.table.name, job.row.name):
            return result, "as it was"
    if equal:
        copy = replace(equal[0], **told)
        copy.write()
        return copy, f"the recipe of {equal[0].table}/{equal[0].row}"
    return train(job, data, home, runs, told)


def train(job: Job, data: Data, home: str, runs: Path, told: dict[str, Any]) -> tuple[Result, str]:
    """Begins or continues the run of a job's recipe, and writes its result.

    Args:
        data: with a root, whose folder is called ``home``.
        told: values of the result that belong to the row, not to the recipe.
    """
    # equal recipes, equal folders: rows of several tables share a run
    place = {"data": data, "runs": runs / job.scale / home, "name": f"{digest(job.config)}-seed{job.config.seed}"}
    records = kept_records(data)
    folder = fit(job.config.model_copy(update=place), job.fold, records, Segment)
    number = folding.read_plain(folder / "folds.csv")
    held_out = [record for record in records if number[record.name] == job.fold]
    patient = {record.name: record.group for record in held_out}
    found = score(Submission.read(folder / "oof.csv"), truth_of(held_out, data), patient)
    of_patient = {name: np.array(found.patients) == name for name in sorted(set(found.patients))}
    done = json.loads((folder / "done.json").read_text(encoding="utf-8"))
    made = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    result = Result(
        **told,
        scale=job.scale,
        data=home,
        seed=job.config.seed,
        fold=job.fold,
        dice=found.mean,
        seconds=done["seconds_train"] + done["seconds_oof"],
        curve=curve(folder),
        patients={name: found.dice[here].mean(axis=0).round(5).tolist() for name, here in of_patient.items()},
        images={name: int(here.sum()) for name, here in of_patient.items()},
        recipe=recipe_of(job.config),
        commit=made["commit"],
        machine=f"{processor()}, {made['threads']} threads" if made["gpu"] is None else made["gpu"],
    )
    result.write()
    for part in ("last", "last.before", "best", "best.before"):  # `final` stays, which is what was scored
        shutil.rmtree(folder / part, ignore_errors=True)
    return result, f"{result.seconds:.0f} s"


def overrides(job: Job) -> list[str]:
    """The words that make the row's recipe of the scale's."""
    table, row = job.table, job.row
    return [*table.overrides, *table.at.get(job.scale, []), *row.overrides, *row.at.get(job.scale, [])]


def digest(config: Config) -> str:
    """Short name of a recipe, seed included."""
    return hashlib.sha256(json.dumps(recipe_of(config), sort_keys=True).encode()).hexdigest()[:12]


def curve(folder: Path) -> list[list[float]]:
    """[epoch, Dice] of the held-out images while training, from the run's log."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [[line["epoch"], round(line["dice"], 5)] for line in lines if line["event"] == "validate"]


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{name}, {os.cpu_count()} cores"
