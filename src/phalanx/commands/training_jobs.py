"""Trains recipes as jobs: side by side on the devices of this machine, or on a cluster."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .recipes import Recipe, say_mean

if TYPE_CHECKING:
    from ..config import Config
    from ..config.cluster import Cluster
    from ..jobs.job import Job

SET_BY_CLUSTER = {"devices": "cluster.gpus=", "ddp": "cluster.gpus=", "max_hours": "cluster.hours="}


def train_as_jobs(recipes: Sequence[Recipe], cluster: "Cluster | None", deadline: float | None) -> int:
    """Trains the folds of recipes, once it is known that the devices and the data sets are usable.

    Returns:
        the exit code: 1 if a fold failed.

    Raises:
        ConfigError: an option that a cluster sets itself, or a cluster that cannot be used.
    """
    from ..config.cluster import LocalCluster, SlurmCluster
    from ..data.quarantine import kept_records
    from ..data.root import resolve_root
    from ..jobs.folds import train_jobs, unfinished
    from ..jobs.queue import hand_over

    config, here = recipes[0].config, cluster is None or isinstance(cluster, LocalCluster)
    if here:
        _check_devices(recipes)
    else:
        _check_options(recipes)
    for recipe in recipes:
        kept_records(resolve_root(recipe.config.data))  # before the jobs: it may make the data set, or refuse it
    waits = not isinstance(cluster, SlurmCluster)
    # what waits makes the report at its end; a job of Slurm makes it after each fold
    more = {"report": "false"} if waits else {}
    jobs, configs = _jobs(recipes, more, named=not here or len(recipes) > 1)
    if not here:
        jobs = unfinished(jobs, configs)
    if isinstance(cluster, SlurmCluster) and not cluster.wait:
        hand_over(jobs, cluster, config.runs)
        return 0
    code = train_jobs(jobs, config, cluster, deadline) if jobs else 0
    for recipe in recipes:
        if not code:
            say_mean(recipe.config, recipe.folds)
        if waits and recipe.config.report:
            from .report import report_of_training

            report_of_training(recipe.config)
    return code


def _jobs(recipes: Sequence[Recipe], more: dict[str, str], *, named: bool) -> "tuple[list[Job], list[Config]]":
    """One job per fold of each recipe, and the configuration of each.

    Args:
        more: options in place of those of the recipes.
        named: the names of jobs begin with that of their run.
    """
    from ..jobs.folds import fold_job

    found = [
        (fold_job(pairs | more, fold, config, f"{config.name} fold" if named else "fold"), config)
        for pairs, config, folds in recipes
        for fold in folds
    ]
    return [job for job, _ in found], [config for _, config in found]


def _check_devices(recipes: Sequence[Recipe]) -> None:
    config = recipes[0].config
    if config.ddp:
        raise ConfigError("ddp=true: trains one fold on all devices=, so cluster=local has none left for others; give "
                          "one of the two")  # fmt: skip

    from ..runtime.device import open_device

    for device in set(config.devices):
        open_device(device, config.precision)


def _check_options(recipes: Sequence[Recipe]) -> None:
    for key, instead in SET_BY_CLUSTER.items():
        if key in recipes[0].pairs:
            raise ConfigError(f"{key}: with cluster= each job has devices and time of its own; give {instead}")
    if recipes[0].pairs.get("device", "auto") != "auto":
        raise ConfigError("device: with cluster= each job has a device of its own; give cluster.gpus=")
