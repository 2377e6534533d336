"""Where training stands, as scalars; the tensors are the model's, the average's and the optimizer's."""

from dataclasses import dataclass, field


@dataclass
class State:
    """Where training stands: every scalar that the next step depends on."""

    epoch: int = 0
    batch: int = 0  # batches of this epoch done
    step: int = 0  # optimizer steps done
    stage: int = 0
    stage_began: int = 0  # epoch
    loss_sum: float = 0.0  # over the images of this epoch so far
    dice_sum: float = 0.0
    images: int = 0
    best: float = -1.0
    seconds: float = 0.0  # spent training, over all calls
    watched_best: float = -1.0  # watched Dice, as plateau and early_stop see it
    watched_epoch: int = 0  # when it was reached
    cuts: int = 0  # of the rate by plateau
    cut_epoch: int = 0  # when the last one came
    stopped: bool = False  # by early_stop
    averaged: int = 0  # epochs in swa's mean
    top: list[list[float]] = field(default_factory=list)  # Dice and epoch of the weights that average_best keeps
    micro: int = 0  # images at a time, once memory did not suffice for config.batch; 0: config.batch
    skipped: int = 0  # steps left out, as they were not finite
    skipped_in_row: int = 0
    rate_factor: float = 1.0  # of the learning rate; halved with on_nan=halve
