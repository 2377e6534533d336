"""Trains, or votes, the rows of a table that have no result yet. If it is killed, the same command continues."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import torch

from ..config import Config
from ..config.cluster import SlurmCluster
from ..config.compose import parse_folds
from ..errors import ConfigError, PhalanxError, TrainingError
from ..jobs.backend import run_jobs
from ..jobs.job import Job
from ..jobs.local import Outcome
from ..jobs.queue import hand_over
from ..runtime.processes import cores as usable_cores
from .options import SweepOptions
from .runs import Runs, keep_final
from .table import runs_at
from .trials import Trial, finish, known_results


def sweep(options: SweepOptions) -> int:
    """Trains what is missing, all rows of a table with the first seed first; returns how many trainings failed.

    Raises:
        ConfigError: a row that does not run at this scale.
    """
    trials, failed = trials_of(options)
    plan = Plan(options)
    for trial in trials:  # all jobs before the first training: they run in this order
        try:
            plan.add(trial)
        except PhalanxError as error:
            plan.refused[trial.title] = error
    jobs = list(plan.jobs.values())
    if isinstance(options.cluster, SlurmCluster) and options.cluster.wait is False:
        for title, refused in plan.refused.items():
            print(f"failed: {title}: {refused}", flush=True)
        hand_over(jobs, options.cluster, options.runs)
        return failed + len(plan.refused)
    with closing(run_jobs(jobs, options.cluster, options.devices, options.runs)) as ending:
        for trial in trials:
            try:
                plan.wait_for(trial, ending)
                result, news = finish(trial, plan.runs(trial))
                print(f"{trial.title}: {result.metric.title} {result.metric.text(result.value)}, {news}", flush=True)
            except (PhalanxError, torch.OutOfMemoryError) as error:
                failed += 1
                print(f"failed: {trial.title}: {error}", flush=True)
    return failed


def trials_of(options: SweepOptions) -> tuple[list[Trial], int]:
    """What a sweep has to do, in order, and how many rows have an impossible recipe, which is printed.

    Raises:
        ConfigError: a row that does not run at this scale.
    """
    trials, failed = list[Trial](), 0
    for table in options.tables:
        chosen = [table.row(name) for name in options.rows]
        for row in chosen:
            if not runs_at(row, options.scale):
                raise ConfigError(f"rows={row.name}: runs only at scale={','.join(row.scales or [])}")
        for seed in options.seeds:
            for row in chosen or [row for row in table.rows if runs_at(row, options.scale)]:
                try:  # all recipes before the first training, so that an error in the last shows at once
                    recipe = table.recipe(row, options.scale, seed, options.extra)
                    folds = folds_of(options.folds, recipe) if isinstance(recipe, Config) else [0]
                    # labels are predicted by all folds together, masks by each
                    parts = [tuple(folds)] if table.task == "classify" else [(fold,) for fold in folds]
                    trials += [Trial(table, row, options.scale, recipe, seed, part) for part in parts]
                except ConfigError as error:
                    failed += 1
                    print(f"failed: {table.name}/{row.name} seed {seed}: {error}", flush=True)
    return trials, failed


class Plan:
    """The trainings that a sweep's trials need, each once."""

    def __init__(self, options: SweepOptions):
        self.options = options
        self.jobs: dict[Path, Job] = {}  # by the folder they write
        self.needs: dict[str, list[Path]] = {}  # of each trial, by its title
        self.ended: dict[Path, str | None] = {}  # the error of each job that has ended
        self.refused: dict[str, PhalanxError] = {}  # why a trial, by its title, cannot be done

    def runs(self, trial: Trial) -> Runs:
        """The runs of a trial's scale and data set."""
        return Runs(self.options.runs / trial.scale / trial.home)

    def add(self, trial: Trial) -> None:
        """Adds the jobs of a trial that has no result yet.

        Raises:
            PhalanxError: no data set, or a folder that holds something else than the trial's run.
        """
        needs = self.needs[trial.title] = []
        table, seed, extra = trial.table, trial.seed, self.options.extra
        devices = len(self.options.devices)
        if known_results(trial):
            return
        runs = self.runs(trial)
        for row, fold in table.networks(trial.row, trial.folds, trial.scale, seed):
            config = trial.recipe if row is trial.row else table.config(row, trial.scale, seed, extra)
            assert isinstance(config, Config)
            folder = runs.run(config, fold).folder
            needs.append(folder)
            if folder in self.jobs or folder in self.ended:
                continue
            if runs.is_trained(config, fold):
                self.ended[folder] = None
                continue
            title = f"{table.name}/{row.name} seed {seed} fold {fold}"
            words = table.words(row, trial.scale, seed, extra)
            cores = max(1, usable_cores() // devices) if devices > 1 else None
            before = set[Path]()
            if row.after:
                begun = table.config(table.row(row.after), trial.scale, seed, extra)
                before = {runs.run(begun, number).folder for number in range(begun.folds)}
            self.jobs[folder] = runs.job(config, words, fold, title, cores, before & self.jobs.keys())

    def wait_for(self, trial: Trial, ending: Iterator[Outcome]) -> None:
        """Waits until the trainings of a trial have ended.

        Raises:
            TrainingError: one of them failed. PhalanxError: the trial was refused.
        """
        if trial.title in self.refused:
            raise self.refused[trial.title]
        for folder in self.needs[trial.title]:
            while folder not in self.ended:
                outcome = next(ending)
                self.ended[outcome.job.folder] = outcome.error
            error = self.ended[folder]
            if error is not None:
                raise TrainingError(error)
            keep_final(folder)


def folds_of(text: str, config: Config) -> list[int]:
    """The folds of a row; there must be held-out images."""
    folds = [fold for fold in parse_folds(text, config.folds) if fold is not None]
    if not folds:
        raise ConfigError(f"fold={text}: a sweep needs held-out images; name folds, as in fold=0..4")
    return folds
