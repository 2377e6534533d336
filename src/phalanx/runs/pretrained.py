"""The pretrained weights that a run began with: recorded when it began, with their licence."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ..config import Config
from ..errors import PhalanxError
from ..models.licences import UNKNOWN, Weights, weights_of
from .reader import FoldRun


class Pretrained(NamedTuple):
    """Pretrained weights, and whether the run recorded them itself or the installed libraries describe them now."""

    weights: Weights
    recorded: bool


def pretrained_of(fold: FoldRun) -> Pretrained:
    """The pretrained weights of a fold.

    Raises:
        ConfigError, DataError: its configuration or environment.json cannot be read.
    """
    found = fold.pretrained
    return Pretrained(weights_of(fold.config.model), False) if found is None else Pretrained(Weights.of(found), True)


def beginning(config: Config, start: Path | None) -> Weights:
    """What a run that begins now is to record.

    Args:
        start: the fold whose weights it begins with, if it is a warm start: its licence holds for them too.
    """
    if start is None:
        return weights_of(config.model)
    try:
        before = pretrained_of(FoldRun(start)).weights
    except PhalanxError:
        return Weights(str(start), "another run", UNKNOWN)
    return before._replace(source=f"{before.source}, by way of the run {start.parent.name}")


def warnings_of(all_weights: Iterable[Weights]) -> list[str]:
    """What whoever publishes a result must know of licences, one line each."""
    lines = []
    for one in dict.fromkeys(all_weights):
        text = f"the pretrained weights {one.name} ({one.source})"
        if one.is_non_commercial:
            lines.append(f"{text} are licensed for non-commercial use only: {one.licence}")
        elif one.is_unknown:
            lines.append(f"{text} have no recorded licence; look it up at the source before you publish them")
    return lines
