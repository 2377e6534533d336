"""The optimizer, and how predictions are made."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from .base import Count, Positive, Share, Strict


class Freeze(Strict):
    """The encoder's first stages keep their weights, and their norms and drop paths rest."""

    stages: Count  # from the image; those a feature map of the encoder ends, five in most
    epochs: Count | None = None  # from then on all learn; null: to the end


class Optim(Strict):
    name: Literal["adamw", "sgd"] = "adamw"
    lr: Positive = 1e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup: Share = 0.1  # share of all steps
    min_lr: Share = 0.0  # end of the cosine, as a share of lr
    clip: Annotated[float, Field(ge=0)] = 1.0  # largest gradient norm; 0 for none
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999  # decay of the weight average; 0 for none
    freeze: Freeze | None = None
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0  # factor of the learning rate an encoder stage, from behind


class Window(Strict):
    """Prediction in overlapping windows instead of the whole grid at once; see predict/windows.py."""

    size: Annotated[int, Field(ge=32, multiple_of=32)]  # pixels of the grid
    stride: Count | None = None  # null: half the size
    skip: bool = True  # leave out windows with nothing brighter than air; there is background

    @model_validator(mode="before")
    @classmethod
    def _size_alone(cls, told: Any) -> Any:
        return {"size": told} if isinstance(told, int) else told

    @model_validator(mode="after")
    def _no_gaps(self) -> "Window":
        if self.stride is not None and self.stride > self.size:
            raise ValueError(f"stride: {self.stride} leaves gaps between windows of {self.size}")
        return self

    @property
    def step(self) -> int:
        return self.stride or self.size // 2


class Predict(Strict):
    tta: list[Literal["hflip", "vflip", "rotate"]] = []  # views averaged beside the plain one, in all combinations
    grid: Annotated[int, Field(ge=32, multiple_of=32)] | None = None  # long side of the image; null: data.size
    # factors of that grid, whose maps are averaged
    scales: Annotated[list[Annotated[float, Field(ge=0.25, le=4)]], Field(min_length=1)] = [1.0]
    window: Window | None = None  # null: the whole grid at once
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    batch: Count = 4  # images, or windows, at once
    oof_prob: bool = False  # keep the held-out images' probability maps

    def sides(self, size: int) -> list[int]:
        """Grids that an image is predicted on, where ``size`` is the one of training.

        >>> Predict(scales=[0.5, 1, 1.3]).sides(512)
        [256, 512, 672]
        """
        return [max(32, round((self.grid or size) * scale / 32) * 32) for scale in self.scales]
