"""The Dice that a plateau's cuts and an early stop go by, and what may be looked at for it."""

from collections.abc import Sequence
from typing import Any

from ..config import Config, Monitor, Optim, Plateau
from ..data import folds as folding
from ..data.records import Record
from ..errors import ConfigError
from .state import State


def watched(config: Optim) -> Monitor | None:
    """What is watched; None where nothing goes by it."""
    acts = config.schedule == "plateau" or config.early_stop is not None
    return (config.monitor or Monitor()) if acts else None


def inner_part(config: Config, train: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Training records, and those of the patients that are kept from training to be watched.

    Raises:
        ConfigError: fewer patients than parts.
    """
    watch = watched(config.optim)
    if watch is None or watch.split != "inner":
        return list(train), []
    patients = len({record.group for record in train})
    if patients < watch.folds:
        raise ConfigError(f"optim.monitor.folds={watch.folds}: only {patients} patients to train on; give at most that")
    part = folding.draw(train, watch.folds, config.seed)
    return [r for r in train if part[r.name]], [r for r in train if not part[r.name]]


def check_held_out(config: Config, held_out: Sequence[Record]) -> None:
    """Refuses what goes by the held-out fold where there is none.

    Raises:
        ConfigError: fold=all.
    """
    watch = watched(config.optim)
    if held_out:
        return
    if watch is not None and watch.split == "held_out":
        raise ConfigError("optim.monitor.split=held_out: fold=all holds nothing out; watch inner or train")
    if config.optim.average_best:
        raise ConfigError("optim.average_best: fold=all holds nothing out to choose by; leave it out")


def look(state: State, config: Optim, dice: float) -> dict[str, dict[str, Any]]:
    """Takes in the watched Dice after ``state.epoch`` epochs; returns what it caused, for the log: ``plateau``, a cut
    of the rate, and ``stop``."""
    caused: dict[str, dict[str, Any]] = {}
    if dice > state.watched_best + (config.monitor or Monitor()).min_delta:
        state.watched_best, state.watched_epoch = dice, state.epoch
    if config.schedule == "plateau":
        patience = (config.plateau or Plateau()).patience
        if state.epoch - max(state.watched_epoch, state.cut_epoch) > patience:
            state.cuts, state.cut_epoch = state.cuts + 1, state.epoch
            caused["plateau"] = {"cuts": state.cuts, "watched": state.watched_best}
    if config.early_stop is not None and state.epoch - state.watched_epoch >= config.early_stop:
        state.stopped = True
        caused["stop"] = {"watched": state.watched_best, "reached": state.watched_epoch}
    return caused
