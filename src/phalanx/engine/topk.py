"""The best validated weights, saved until the end to be averaged. Optimistic: they are chosen on the held-out fold."""

import re
from pathlib import Path

import torch

from ..errors import TrainingError
from ..runs import checkpoint
from ..runtime.files import own_folder
from ..runtime.metric import Metric
from ..runtime.reading import listed

Top = list[list[float]]  # metric and epoch, the best first


def enter(
    folder: Path,
    top: Top,
    count: int,
    metric: Metric,
    value: float,
    epoch: int,
    weights: checkpoint.Tensors,
    write: bool = True,
) -> Top:
    """The ``count`` best with a newly validated one, whose weights are saved as ``top/<epoch>`` if it is among them.

    Args:
        write: False in all but the first of the processes that train together.
    """
    if len(top) == count and not metric.better(value, top[-1][0]):
        return top
    if write:
        own_folder(folder / "top")
        checkpoint.save(folder / "top" / str(epoch), {"weights": weights}, {"metric": metric.to_json(), "value": value})
    return sorted([*top, [value, epoch]], key=lambda entry: -metric.sign * entry[0])[:count]


def tidy(folder: Path, top: Top) -> None:
    """Removes saved weights that are no longer among the best: only once the state that records so is on disk."""
    names = {str(int(epoch)) for _, epoch in top}
    for place in listed(folder / "top"):
        if place.name not in names and re.fullmatch(r"\d+((\.\d+)?\.new|\.before)?", place.name):
            checkpoint.remove(place)


def mean(folder: Path, top: Top, like: checkpoint.Tensors) -> checkpoint.Tensors:
    """Mean of the saved weights and floating-point buffers; counters are those of the best.

    Args:
        like: weights of the same network.

    Raises:
        TrainingError: some are missing, or of another network.
    """
    parts = []
    for _, epoch in top:
        found = checkpoint.load_weights(folder / "top" / str(int(epoch)))
        if found is None:
            raise TrainingError(f"{folder}/top/{int(epoch)}: is missing; train the run again, or without average_best")
        checkpoint.check_same(folder / "top" / str(int(epoch)), found[0], like)
        parts.append(found[0])
    return {
        key: torch.stack([part[key].double() for part in parts]).mean(0).to(value.dtype)
        if value.is_floating_point()
        else value
        for key, value in parts[0].items()
    }
