"""The optimizer, its schedule and weight averages, and the options of prediction."""

import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from .base import Count, Fraction, Positive, Strict, nearest


class Freeze(Strict):
    """The first encoder stages are frozen: their weights do not change, and norms and drop paths are in eval mode."""

    stages: Annotated[
        int, Field(ge=1, le=64)
    ]  # counted from the image; each ends in a feature map, five in most encoders
    epochs: Count | None = None  # then all stages learn; null: frozen to the end


class Restarts(Strict):
    """``schedule=cosine_restarts``: cosines one after another, each with its own warm-up."""

    cycles: Annotated[int, Field(ge=1, le=100)] = 4
    growth: Annotated[float, Field(ge=1, le=10)] = 1.0  # length of a cycle relative to the one before
    decay: Annotated[float, Field(gt=0, le=1)] = 1.0  # peak of a cycle relative to the one before


class OneCycle(Strict):
    """``schedule=one_cycle``: up to lr during ``warmup``, then down, both by a cosine."""

    start_factor: Annotated[float, Field(gt=0, le=1)] = 0.04  # first learning rate, as a fraction of lr
    momentum: tuple[Fraction, Fraction] | None = (0.85, 0.95)  # at the peak and at the ends; null: constant


class Plateau(Strict):
    """``schedule=plateau``: the learning rate is reduced when the monitored metric stops improving."""

    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    patience: Annotated[int, Field(ge=0, le=1_000_000)] = (
        10  # reduced after more than so many epochs without improvement
    )


class Monitor(Strict):
    """The Dice that ``plateau`` and ``early_stop`` monitor."""

    # train: of the epoch's training steps; inner: of training patients that are left out of training;
    # held_out: of the held-out fold, which makes its out-of-fold score optimistic
    split: Literal["train", "inner", "held_out"] = "train"
    folds: Annotated[int, Field(ge=2, le=1000)] = (
        10  # inner: training patients are divided into so many; one is monitored
    )
    min_delta: Fraction = 1e-4  # smallest gain that counts as an improvement


class Swa(Strict):
    """Stochastic weight averaging: `final` is the mean of the weights after each epoch (Izmailov et al., 2018)."""

    start: Annotated[float, Field(ge=0, lt=1)] = 0.75  # as a fraction of all epochs
    lr: Positive | None = None  # constant from then on; null: the schedule continues


OPTIMIZERS = (
    "adabelief", "adadelta", "adafactor", "adafactorbv", "adagrad", "adam", "adamax", "adamp", "adamw", "adan",
    "adopt", "lamb", "laprop", "lars", "lion", "madgrad", "mars", "muon", "nadam", "nadamw", "novograd", "radam",
    "rmsprop", "rmsproptf", "sgd", "sgdp", "sgdw",
)  # fmt: skip
Schedule = Literal["cosine", "cosine_restarts", "linear", "poly", "plateau", "one_cycle", "constant"]
SECTIONS = {"restarts": "cosine_restarts", "power": "poly", "one_cycle": "one_cycle", "plateau": "plateau"}


class Optim(Strict):
    name: str = "adamw"  # of torch or timm, one of OPTIMIZERS
    lr: Positive = 1e-4
    weight_decay: Annotated[float, Field(ge=0, le=1e6)] = 0.01
    warmup: Fraction = 0.1  # fraction of all steps; of each cycle with restarts
    min_lr_factor: Fraction = 0.0  # final learning rate as a fraction of lr; of each cycle's peak with restarts
    clip: Annotated[float, Field(ge=0, le=1e9)] = 1.0  # maximum gradient norm; 0: no clipping
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999  # decay of the moving average of weights; 0: no average
    freeze: Freeze | None = None
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0  # learning rate factor per encoder stage, from the last
    # learning rate of the encoder as a fraction of the decoder's, on top of layer_decay
    encoder_lr_factor: Annotated[float, Field(gt=0, le=1)] = 1.0
    # arguments of the optimizer: momentum, betas, eps, nesterov ...; defaults are those of torch and timm
    options: dict[str, Any] = {}
    schedule: Schedule = "cosine"
    restarts: Restarts | None = None  # these four belong to one schedule each
    one_cycle: OneCycle | None = None
    plateau: Plateau | None = None
    power: Annotated[float, Field(gt=0, le=100)] | None = None  # of poly; null: 0.9
    early_stop: Count | None = None  # epochs without improvement of the monitored metric after which training ends
    monitor: Monitor | None = None
    swa: Swa | None = None
    average_best: Annotated[int, Field(ge=2, le=1000)] | None = (
        None  # `best` is the mean of the weights of so many best epochs
    )

    @model_validator(mode="after")
    def _usable(self) -> "Optim":
        if self.name not in OPTIMIZERS:
            close = nearest(self.name, OPTIMIZERS).partition("; known")[0]
            raise ValueError(f"name: {self.name!r} is not an optimizer{close or '.'} Known: {', '.join(OPTIMIZERS)}")
        for key, value in self.options.items():
            numbers = value if isinstance(value, list) and value else [value]
            if not all(isinstance(v, int | str | None) or (isinstance(v, float) and math.isfinite(v)) for v in numbers):
                raise ValueError(f"options.{key}: expected a number, a string or a list of numbers, got {value!r}")
        for key, schedule in SECTIONS.items():
            if getattr(self, key) is not None and self.schedule != schedule:
                raise ValueError(f"{key}: only schedule={schedule} reads it, this is {self.schedule}; set it to null")
        if self.monitor and self.schedule != "plateau" and self.early_stop is None:
            raise ValueError("monitor: only schedule=plateau and early_stop read it; set it to null")
        if self.swa and self.early_stop is not None:
            raise ValueError("early_stop: may end training before swa begins; set one of them to null")
        if self.schedule == "one_cycle" and self.warmup == 0:
            raise ValueError("warmup: one_cycle needs it to reach its peak; for example optim.warmup=0.3")
        return self


View = Literal["hflip", "vflip", "rotate"]


class Predict(Strict):
    """What the prediction of all tasks has in common."""

    tta: Annotated[list[View], Field(max_length=3)] = []  # views averaged with the plain one, in all combinations
    batch: Annotated[int, Field(ge=1, le=65536)] = 4  # images or windows at once
