"""The state of a training as scalars; the tensors are the model's, the average's and the optimizer's."""

from dataclasses import dataclass, field


@dataclass
class State:
    """Every scalar of the engine that the next step depends on; the task has its own."""

    epoch: int = 0
    batch: int = 0  # batches of this epoch done
    step: int = 0  # optimizer steps done
    loss_sum: float = 0.0  # over the images of this epoch so far
    sums: dict[str, float] = field(default_factory=dict)  # of the task's values, over the same images
    images: int = 0
    best: float | None = None  # validated metric of ``best``
    seconds: float = 0.0  # spent training, over all calls
    monitored_best: float | None = None  # monitored metric, as plateau and early_stop see it
    monitored_epoch: int = 0  # when it was reached
    lr_reductions: int = 0  # by plateau
    lr_reduction_epoch: int = 0  # of the last one
    stopped: bool = False  # by early_stop
    averaged: int = 0  # epochs in swa's mean
    top: list[list[float]] = field(default_factory=list)  # metric and epoch of the weights that average_best saves
    micro_batch: int = 0  # images per forward, once memory did not suffice for config.batch; 0: config.batch
    skipped: int = 0  # steps that were not finite
    skipped_in_row: int = 0
    lr_factor: float = 1.0  # halved with on_nan=halve

    @property
    def place(self) -> str:
        """The step under way, in words."""
        return f"epoch {self.epoch + 1}, step {self.step + 1}"
