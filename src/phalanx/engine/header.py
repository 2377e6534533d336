"""What a training says before its first step: what is trained, on what, for how long."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from ..config import Config
from ..data.records import Record
from ..runtime.device import Device, device_text
from .task import Task

WIDTH = 11  # columns of a line's label


class Images(NamedTuple):
    """Records of a fold: trained on, monitored instead of trained on, held out."""

    trained: Sequence[Record]
    monitored: Sequence[Record]
    held_out: Sequence[Record]

    def to_text(self) -> str:
        """Images and patients of each part.

        >>> from pathlib import Path
        >>> one, two = (Record(Path(f"{n}.png"), f"{n}.png", "P1", None) for n in "ab")
        >>> Images([one, two], [], [one]).to_text()
        'trained on 2 (1 patient), held out 1 (1 patient)'
        """
        parts = (("trained on", self.trained), ("monitored", self.monitored), ("held out", self.held_out))
        return ", ".join(f"{name} {len(part)} ({_patients(part)})" for name, part in parts if part)


def header(
    config: Config, fold: int | None, folds: int, images: Images, task: Task, device: Device, steps: int, shown: int
) -> str:
    """Lines about a fold: images, device, network, schedule, and what the task says of itself.

    Args:
        fold: number of the fold; None: everything is trained on.
        folds: of the run.
        steps: of the training.
        shown: images that an epoch shows.
    """
    of = f"fold{fold} of {folds} folds" if fold is not None else "all images, none held out"
    again = f" ({shown} per epoch)" if shown != len(images.trained) else ""
    optim = config.optim
    rows = [
        ("images", f"{images.to_text()}{again}, {config.data.size} pixels"),
        ("device", device_text(device, config.device) + (f"; {len(config.devices)} processes" if config.ddp else "")),
        ("precision", device.precision + (" (auto)" if config.precision == "auto" else "")),
        ("network", network_text(task.network)),
        ("training", f"{config.epochs} epochs, {steps} steps of {config.batch * config.accumulate} images"),
        ("optimizer", f"{optim.name}, learning rate {optim.lr:g}, {optim.schedule.replace('_', ' ')}"),
        *task.about,
    ]
    return "\n".join([f"{config.name}: {of}", *(f"  {label:<{WIDTH}}{text}" for label, text in rows)])


def network_text(network: nn.Module) -> str:
    """The number of parameters, of the network and its parts."""
    total, named = sum(p.numel() for p in network.parameters()), getattr(network, "parts", {})
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in named.items()}
    each = ", ".join(f"{name} {millions(count)}" for name, count in parts.items() if count)
    return f"{millions(total)} parameters{f' ({each})' if each else ''}"


def millions(count: int) -> str:
    """A number of parameters.

    >>> millions(12_683_099), millions(3_741)
    ('12.68 M', '0.004 M')
    """
    return f"{count / 1e6:.2f} M" if count >= 10_000 else f"{count / 1e6:.3f} M"


def _patients(part: Sequence[Record]) -> str:
    count = len({record.group for record in part})
    return f"{count} patient{'s' if count != 1 else ''}"
