"""TensorBoard: event files in the run's folder ``tensorboard/``."""

import numpy as np

from ..runtime.files import own_folder
from .json_lines import Event
from .tracker import Run, Status


class TensorBoard:
    """Scalars, messages as text, and the recipe as hyperparameters."""

    def __init__(self, run: Run):
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        folder = run.folder / "tensorboard"
        own_folder(folder)
        continued = any(folder.glob("events.out.tfevents.*"))
        # readers drop what earlier files contain from purge_step on
        self.writer = SummaryWriter(str(folder), purge_step=run.step + 1 if continued else None)
        if not continued:
            plain = {key: value if isinstance(value, bool | int | float) else str(value)
                     for key, value in run.recipe.items()}  # fmt: skip
            for summary in hparams(plain, {}):
                self.writer._get_file_writer().add_summary(summary)
            for event in run.history:
                self._add(event)
        self.writer.flush()

    def write(self, event: Event) -> None:
        """Records an event, on disk at once."""
        self._add(event)
        self.writer.flush()

    def _add(self, event: Event) -> None:
        for key, value in event.numbers().items():
            self.writer.add_scalar(key, value, event.step, walltime=event.time)
        if text := event.text():
            self.writer.add_text(event.name, text, event.step, walltime=event.time)

    def picture(self, key: str, step: int, pixels: np.ndarray) -> None:
        """Records a picture RGB uint8[H, W, 3], on disk at once."""
        self.writer.add_image(key, pixels, step, dataformats="HWC")
        self.writer.flush()

    def close(self, status: Status) -> None:
        """Closes the event file; it has no place for a status."""
        self.writer.close()
