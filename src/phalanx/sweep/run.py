"""Trains the rows of a table that have no result yet. Killed anywhere, the same command goes on."""

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..compose import parse_folds
from ..config import Config
from ..data import folds as folding
from ..data.quarantine import kept_records
from ..data.truth import truth_of
from ..engine.fit import fit
from ..errors import ConfigError, PhalanxError
from ..roots import resolve_root
from ..submit.score import score
from ..submit.table import Submission
from ..tasks.segment import Segment
from .results import RESULTS, Result, changed, read_results, recipe_of
from .table import Row, Table, runs_at


@dataclass(frozen=True)
class Job:
    """One training to do: a row with a seed."""

    table: Table
    row: Row
    scale: str
    config: Config

    @property
    def title(self) -> str:
        return f"{self.table.name}/{self.row.name} seed {self.config.seed}"


def sweep(
    table: Table,
    *,
    scale: str,
    seeds: Sequence[int],
    folds: str = "0",
    rows: Sequence[str] = (),
    extra: dict[str, str] | None = None,
    runs: Path = Path("runs/sweep"),
    results: Path = RESULTS,
) -> int:
    """Trains what is missing, all rows with the first seed first; returns the number of trainings that failed.

    Args:
        folds: as ``fold=`` of a training.
        rows: names; empty for all that make sense at the scale.
        extra: runtime keys of a training, such as the device or ``data.root``.

    Raises:
        ConfigError: no such row, or one that makes no sense at this scale.
    """
    chosen = [table.row(name) for name in rows] or [row for row in table.rows if runs_at(row, scale)]
    for row in chosen:
        if not runs_at(row, scale):
            raise ConfigError(f"rows={row.name}: makes sense only at scale={','.join(row.scales or [])}")
    jobs, failed = [], 0
    for seed in seeds:
        for row in chosen:
            try:  # all recipes before the first training: a mistake in the last should not wait for hours
                jobs.append(Job(table, row, scale, table.recipe(row, scale, seed, extra)))
            except ConfigError as error:
                failed += 1
                print(f"failed: {table.name}/{row.name} seed {seed}: {error}", flush=True)
    for job in jobs:
        try:
            for fold in parse_folds(folds, job.config.folds):
                if fold is None:
                    raise ConfigError("fold=all: a sweep needs held-out images; name folds, as in fold=0..4")
                result, news = finish(job, fold, runs, results)
                print(f"{job.title} fold {fold}: Dice {result.dice:.4f}, {news}", flush=True)
        except (PhalanxError, torch.OutOfMemoryError) as error:
            failed += 1
            print(f"failed: {job.title}: {error}", flush=True)
    return failed


def finish(job: Job, fold: int, runs: Path, results: Path) -> tuple[Result, str]:
    """The result of a job: there already, that of another row with the same recipe, or newly trained."""
    config = job.config.model_copy(deep=True)
    data = resolve_root(config.data)
    assert data.root is not None
    home = data.root.resolve().name
    words = [job.table.name, f"scale={job.scale}", f"rows={job.row.name}", f"seeds={config.seed}", f"fold={fold}"]
    told: dict[str, Any] = {"table": job.table.name, "row": job.row.name, "overrides": overrides(job)}
    told["command"] = " ".join(["phalanx sweep", *words])  # without runtime keys, which hold private paths
    known = [r for r in read_results(results, scale=job.scale, data=home) if (r.seed, r.fold) == (config.seed, fold)]
    equal = [result for result in known if changed(result, config) is None]
    for result in equal:
        if (result.table, result.row) == (job.table.name, job.row.name):
            return result, "as it was"
    if equal:
        copy = replace(equal[0], **told)
        copy.write(results)
        return copy, f"the recipe of {equal[0].table}/{equal[0].row}"
    recipe, name = recipe_of(config), digest(config)
    config.data = data
    config.runs = runs / job.scale / home
    # equal recipes, equal folders: rows of several tables share a run
    config.name = f"{name}-seed{config.seed}"
    records = kept_records(config.data)
    folder = fit(config, fold, records, Segment)
    number = folding.read_plain(folder / "folds.csv")
    held_out = [record for record in records if number[record.name] == fold]
    found = score(
        Submission.read(folder / "oof.csv"), truth_of(held_out, config.data), {r.name: r.group for r in held_out}
    )
    done = json.loads((folder / "done.json").read_text(encoding="utf-8"))
    made = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    of_patient = {name: np.array(found.patients) == name for name in sorted(set(found.patients))}
    result = Result(
        **told,
        scale=job.scale,
        data=home,
        seed=config.seed,
        fold=fold,
        dice=found.mean,
        seconds=done["seconds_train"] + done["seconds_oof"],
        curve=curve(folder),
        patients={name: found.dice[here].mean(axis=0).round(5).tolist() for name, here in of_patient.items()},
        images={name: int(here.sum()) for name, here in of_patient.items()},
        recipe=recipe,
        commit=made["commit"],
        machine=f"{processor()}, {made['threads']} threads" if made["gpu"] is None else made["gpu"],
    )
    result.write(results)
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
