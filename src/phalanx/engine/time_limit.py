"""The time that a call may take (``max_hours``): training stops in time, whole and to be continued."""

import time
from pathlib import Path
from typing import NoReturn

from ..config import Config
from ..errors import TrainingError
from ..runtime.stopping import UNFINISHED


def is_over(deadline: float | None) -> bool:
    """Whether a moment of ``time.monotonic()`` has passed; None never does."""
    return deadline is not None and time.monotonic() >= deadline


def stop(folder: Path, config: Config, place: str = "its beginning") -> NoReturn:
    """Ends the call whose time is up, once the state at ``place`` is on disk.

    Raises:
        TrainingError: always; the text names the command that continues, and how to use the weights so far.
    """
    raise TrainingError(
        f"{folder}: {UNFINISHED}{config.max_hours:g} are over at {place}. The same command continues; "
        "phalanx infer weights=last predicts with the weights so far"
    )
