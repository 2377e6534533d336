"""The optimizer, its schedule and averages, and how predictions are made."""

import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from .base import Count, Fraction, Positive, Strict, nearest


class Freeze(Strict):
    """The encoder's first stages keep their weights, and their norms and drop paths rest."""

    stages: Count  # from the image; those a feature map of the encoder ends, five in most
    epochs: Count | None = None  # from then on all learn; null: to the end


class Restarts(Strict):
    """``schedule=cosine_restarts``: cosines one after the other, each with a warm-up of its own."""

    cycles: Count = 4
    growth: Annotated[float, Field(ge=1, le=10)] = 1.0  # each cycle so many times as long as the one before
    decay: Annotated[float, Field(gt=0, le=1)] = 1.0  # each peak this share of the one before


class OneCycle(Strict):
    """``schedule=one_cycle``: up to the rate while ``warmup`` lasts, then down, both by a cosine."""

    start_factor: Annotated[float, Field(gt=0, le=1)] = 0.04  # first learning rate, as a fraction of lr
    momentum: tuple[Fraction, Fraction] | None = (0.85, 0.95)  # at the peak and at the ends; null: left alone


class Plateau(Strict):
    """``schedule=plateau``: the rate is cut where the watched Dice no longer rises."""

    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    patience: Annotated[int, Field(ge=0)] = 10  # cut after more than so many epochs without a rise


class Monitor(Strict):
    """The Dice that ``plateau`` and ``early_stop`` monitor."""

    # train: of the epoch's own steps; inner: on patients of the training part that are not trained on;
    # held_out: on the held-out fold, whose out-of-fold score this choice makes optimistic
    split: Literal["train", "inner", "held_out"] = "train"
    folds: Annotated[int, Field(ge=2)] = 10  # inner: training patients are divided into so many; one is monitored
    min_delta: Fraction = 1e-4  # smallest gain that counts as an improvement


class Swa(Strict):
    """The mean of the weights at the end of each epoch is `final` (Izmailov et al., 2018)."""

    start: Annotated[float, Field(ge=0, lt=1)] = 0.75  # share of all epochs
    lr: Positive | None = None  # constant from there on; null: the schedule goes on


OPTIMIZERS = (
    "adabelief", "adadelta", "adafactor", "adafactorbv", "adagrad", "adam", "adamax", "adamp", "adamw", "adan",
    "adopt", "lamb", "laprop", "lars", "lion", "madgrad", "mars", "muon", "nadam", "nadamw", "novograd", "radam",
    "rmsprop", "rmsproptf", "sgd", "sgdp", "sgdw",
)  # fmt: skip
Schedule = Literal["cosine", "cosine_restarts", "linear", "poly", "plateau", "one_cycle", "constant"]
SECTIONS = {"restarts": "cosine_restarts", "power": "poly", "one_cycle": "one_cycle", "plateau": "plateau"}


class Optim(Strict):
    name: str = "adamw"  # of torch and timm, as in OPTIMIZERS
    lr: Positive = 1e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup: Fraction = 0.1  # share of all steps; of each cycle's with restarts
    min_lr_factor: Fraction = 0.0  # where the rate ends, as a share of lr; of each cycle's peak with restarts
    clip: Annotated[float, Field(ge=0)] = 1.0  # largest gradient norm; 0 for none
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999  # decay of the weight average; 0 for none
    freeze: Freeze | None = None
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0  # factor of the learning rate an encoder stage, from behind
    # learning rate of the encoder as a fraction of the decoder's, on top of layer_decay
    encoder_lr_factor: Annotated[float, Field(gt=0, le=1)] = 1.0
    # the optimizer's own: momentum, betas, eps, nesterov ...; those not given are as torch and timm have them
    options: dict[str, Any] = {}
    schedule: Schedule = "cosine"
    restarts: Restarts | None = None  # these four are the options of one schedule each
    one_cycle: OneCycle | None = None
    plateau: Plateau | None = None
    power: Positive | None = None  # of poly; null: 0.9
    early_stop: Count | None = None  # epochs without a rise of the watched Dice after which training ends
    monitor: Monitor | None = None
    swa: Swa | None = None
    average_best: Annotated[int, Field(ge=2)] | None = None  # `best` is the mean of so many best validated weights

    @model_validator(mode="after")
    def _usable(self) -> "Optim":
        if self.name not in OPTIMIZERS:
            close = nearest(self.name, OPTIMIZERS).partition("; known")[0]
            raise ValueError(f"name: {self.name!r} is no optimizer{close or '.'} Known: {', '.join(OPTIMIZERS)}")
        for key, value in self.options.items():
            numbers = value if isinstance(value, list) and value else [value]
            if not all(isinstance(v, int | str | None) or (isinstance(v, float) and math.isfinite(v)) for v in numbers):
                raise ValueError(f"options.{key}: expected a number, a text or a list of numbers, got {value!r}")
        for key, schedule in SECTIONS.items():
            if getattr(self, key) is not None and self.schedule != schedule:
                raise ValueError(f"{key}: only schedule={schedule} reads it, this is {self.schedule}; set it to null")
        if self.monitor and self.schedule != "plateau" and self.early_stop is None:
            raise ValueError("monitor: only schedule=plateau and early_stop read it; set it to null")
        if self.swa and self.early_stop is not None:
            raise ValueError("early_stop: may end training before swa has begun; set one of them to null")
        if self.schedule == "one_cycle" and self.warmup == 0:
            raise ValueError("warmup: one_cycle rises to its peak while it lasts; give it as optim.warmup=0.3")
        return self


class SlidingWindow(Strict):
    """Prediction in overlapping windows instead of the whole grid at once; see predict/windows.py."""

    size: Annotated[int, Field(ge=32, multiple_of=32)]  # pixels of the grid
    stride: Count | None = None  # null: half the size
    skip_empty: bool = True  # leave out windows with nothing brighter than air; there is background

    @model_validator(mode="before")
    @classmethod
    def _size_alone(cls, told: Any) -> Any:
        return {"size": told} if isinstance(told, int) else told

    @model_validator(mode="after")
    def _no_gaps(self) -> "SlidingWindow":
        if self.stride is not None and self.stride > self.size:
            raise ValueError(f"stride: {self.stride} leaves gaps between windows of {self.size}")
        return self

    @property
    def step(self) -> int:
        return self.stride or self.size // 2


class Predict(Strict):
    tta: list[Literal["hflip", "vflip", "rotate"]] = []  # views averaged beside the plain one, in all combinations
    input_size: Annotated[int, Field(ge=32, multiple_of=32)] | None = None  # long side of the image; null: data.size
    # factors of that grid, whose maps are averaged
    scales: Annotated[list[Annotated[float, Field(ge=0.25, le=4)]], Field(min_length=1)] = [1.0]
    window: SlidingWindow | None = None  # null: the whole grid at once
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    batch: Count = 4  # images, or windows, at once
    oof_prob: bool = False  # keep the held-out images' probability maps

    def sides(self, size: int) -> list[int]:
        """Grids that an image is predicted on, where ``size`` is the one of training.

        >>> Predict(scales=[0.5, 1, 1.3]).sides(512)
        [256, 512, 672]
        """
        return [max(32, round((self.input_size or size) * scale / 32) * 32) for scale in self.scales]
