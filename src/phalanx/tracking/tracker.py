"""What a tracker is, what it learns about a run, and which ones exist."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from ..config import Config
from ..errors import ConfigError
from ..runtime.files import not_ours, refuse_link
from .json_lines import Event

Status = Literal["finished", "failed"]
LIBRARIES = {"tensorboard": ("tensorboard",), "wandb": ("wandb",), "mlflow": ("mlflow", "sqlalchemy", "alembic")}
FOLDERS = ("tensorboard", "wandb")  # of these trackers, in the run's folder
DATABASE = "mlflow.db"  # in the folder of all runs
DATABASE_LOCK = ".mlflow.lock"


class Run(NamedTuple):
    """The run that a tracker records.

    Attributes:
        folder: of this fold; trackers write to a folder of their name in it.
        runs: the folder of all runs.
        name: the run's name.
        fold: such as ``fold0``, or ``all``.
        id: a random name that the folder retains, so that a continued run is found again and a new one of the same
            name is not taken for it.
        step: optimizer steps done; what a tracker recorded after it was undone by a kill.
        recipe: the configuration with dotted keys.
        history: the events up to ``step``.
    """

    folder: Path
    runs: Path
    name: str
    fold: str
    id: str
    step: int
    recipe: dict[str, Any]
    history: Sequence[Event]


class Tracker(Protocol):
    """Records events elsewhere. Its constructor takes a :class:`Run` and continues what it recorded before.

    Every method may raise anything.
    """

    def write(self, event: Event) -> None:
        """Records the event's numbers, each under its own key."""

    def picture(self, key: str, step: int, pixels: np.ndarray) -> None:
        """Records a picture RGB uint8[H, W, 3]."""

    def close(self, status: Status) -> None:
        """Ends the record."""


def check_trackers(config: Config, folder: Path) -> None:
    """Refuses trackers that cannot work, before anything is written.

    Args:
        folder: the run's, of one fold.

    Raises:
        ConfigError: the library of a tracker is not installed.
        OutputError: a link or a file is at a place where one writes.
    """
    for name in config.tracking:
        missing = [library for library in LIBRARIES[name] if not _is_installed(library)]
        if missing:
            raise ConfigError(
                f"tracking={name}: {' and '.join(missing)} not installed; run pip install '.[{name}]' in the repository"
            )
    for place in [folder / name for name in FOLDERS if name in config.tracking]:
        refuse_link(place)
        if place.exists() and not place.is_dir():
            raise not_ours(place)
    if "mlflow" in config.tracking:
        for file in (DATABASE_LOCK, *(f"{DATABASE}{end}" for end in ("", "-journal", "-wal", "-shm"))):
            refuse_link(config.runs / file)


def _is_installed(library: str) -> bool:
    """Whether a library can be imported; a folder of its name in the working folder does not count."""
    found = find_spec(library)
    return found is not None and found.origin is not None
