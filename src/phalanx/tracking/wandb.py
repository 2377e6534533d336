"""Weights & Biases: online, or offline into the run's folder ``wandb/``."""

import os
import re
import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..runtime import fence
from ..runtime.terminal import say
from .json_lines import Event
from .tracker import Run, Status

# Set unless the user's environment says otherwise, as WANDB_INIT_TIMEOUT does.
SETTINGS: dict[str, Any] = {
    "silent": True,
    "console": "off",
    "disable_git": True,
    "disable_code": True,
    "save_code": False,
    "init_timeout": 60.0,  # seconds
    "finish_timeout": 120.0,
    "project": "phalanx",
}


class WeightsAndBiases:
    """One run per fold, the folds of a run in one group.

    Offline, a continued run is written again from its first event, as offline files cannot be resumed; `wandb sync`
    uploads it as one. Online, events that the server has are not sent twice, and those that a kill lost are sent.
    """

    def __init__(self, run: Run):
        import wandb

        settings = {key: value for key, value in SETTINGS.items() if f"WANDB_{key.upper()}" not in os.environ}
        wandb.setup(wandb.Settings(**settings))
        self.run = wandb.init(
            dir=run.folder.absolute(),  # another process writes, in a working folder of its own
            id=run.id,
            name=f"{run.name}/{run.fold}",
            group=run.name,
            config=run.recipe,
            resume="allow",
            reinit="create_new",
            allow_val_change=True,
            mode=_mode(),
            settings=wandb.Settings(**settings, symlink=False),
        )
        self.next = self.run.step  # rows below it are on the server
        for event in run.history:
            self.write(event)
        if self.run.offline:
            _remove_earlier(run, Path(self.run.dir).parent.name)

    def write(self, event: Event) -> None:
        """Records an event; all events of a step become one row."""
        numbers = event.numbers()
        if numbers and event.step >= self.next:
            self.run.log(numbers, step=event.step)

    def picture(self, key: str, step: int, pixels: np.ndarray) -> None:
        """Records a picture RGB uint8[H, W, 3] in the row of a step."""
        import wandb

        if step >= self.next:
            self.run.log({key: wandb.Image(pixels)}, step=step)

    def close(self, status: Status) -> None:
        """Waits for the upload, at most as long as ``finish_timeout``."""
        self.run.finish(exit_code=0 if status == "finished" else 1)


def _mode() -> Literal["offline"] | None:
    """``offline`` if there are no credentials and the user chose no mode; otherwise None, the user's choice."""
    import wandb

    if wandb.setup().settings.mode != "online" or os.environ.get("WANDB_MODE"):
        return None
    if wandb.login(prompt=False, verify=False):
        return None
    say("tracking=wandb: not logged in, so it records offline; upload with `wandb sync`, or run `wandb login` first")
    return "offline"


def _remove_earlier(run: Run, current: str) -> None:
    """Removes the offline files of earlier calls, whose events the new ones contain."""
    for place in (run.folder / "wandb").iterdir():
        ours = re.fullmatch(rf"offline-run-\d+_\d+-{run.id}(-\d+)?", place.name) and not place.is_symlink()
        if ours and place.name != current:
            fence.check(place)
            shutil.rmtree(place)
