"""The optimizer, and how predictions are made."""

from typing import Annotated, Literal

from pydantic import Field

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


class Predict(Strict):
    tta: list[Literal["hflip"]] = []
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    batch: Count = 4
