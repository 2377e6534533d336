"""The metric that reduces the learning rate on a plateau and stops early, and the images it may be computed on."""

from collections.abc import Sequence
from typing import Any

from ..config import Config, Monitor, Optim, Plateau
from ..data import folds as folding
from ..data.records import Record
from ..errors import ConfigError
from ..runtime.metric import Metric
from .state import State


def monitored(config: Optim) -> Monitor | None:
    """What is monitored; None if nothing depends on it."""
    acts = config.schedule == "plateau" or config.early_stop is not None
    return (config.monitor or Monitor()) if acts else None


def inner_part(config: Config, train: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Training records, and those of the training part's patients that are monitored instead of trained on.

    Raises:
        ConfigError: fewer patients than parts.
    """
    monitor = monitored(config.optim)
    if monitor is None or monitor.split != "inner":
        return list(train), []
    patients = len({record.group for record in train})
    if patients < monitor.folds:
        raise ConfigError(
            f"optim.monitor.folds={monitor.folds}: only {patients} patients to train on; give at most that"
        )
    part = folding.draw(train, monitor.folds, config.seed)
    return [r for r in train if part[r.name]], [r for r in train if not part[r.name]]


def check_held_out(config: Config, held_out: Sequence[Record]) -> None:
    """Refuses options that need the held-out fold if there is none.

    Raises:
        ConfigError: fold=all.
    """
    monitor = monitored(config.optim)
    if held_out:
        return
    if monitor is not None and monitor.split == "held_out":
        raise ConfigError("optim.monitor.split=held_out: fold=all holds nothing out; monitor inner or train")
    if config.optim.average_best:
        raise ConfigError("optim.average_best: fold=all holds nothing out to choose by; drop the option")


def take_in(state: State, config: Optim, metric: Metric, value: float) -> dict[str, dict[str, Any]]:
    """Takes in the monitored value after ``state.epoch`` epochs; returns what it caused, for the log: ``plateau``, a
    reduction of the learning rate, and ``stop``."""
    caused: dict[str, dict[str, Any]] = {}
    if metric.better(value, state.monitored_best, (config.monitor or Monitor()).min_delta):
        state.monitored_best, state.monitored_epoch = value, state.epoch
    if config.schedule == "plateau":
        patience = (config.plateau or Plateau()).patience
        if state.epoch - max(state.monitored_epoch, state.lr_reduction_epoch) > patience:
            state.lr_reductions, state.lr_reduction_epoch = state.lr_reductions + 1, state.epoch
            caused["plateau"] = {"lr_reductions": state.lr_reductions, "monitored_best": state.monitored_best}
    if config.early_stop is not None and state.epoch - state.monitored_epoch >= config.early_stop:
        state.stopped = True
        caused["stop"] = {"monitored_best": state.monitored_best, "reached": state.monitored_epoch}
    return caused
