"""A recipe of the task ``restore``: a network that removes noise from images with labels, to make more of them."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .base import Strict
from .classify import ClassifyData
from .common import Config
from .data import Name
from .model import Model

LEVELS = [0.1, 0.2, 0.3, 0.4, 0.5]
Noise = Annotated[float, Field(gt=0, le=2)]  # standard deviation, as a fraction of full scale


class Restore(Strict):
    levels: list[Noise] = Field(default=LEVELS, min_length=1, max_length=64)  # one is drawn per sample
    classes: list[Name] | None = None  # only images of these are trained on; null: all

    @model_validator(mode="after")
    def _distinct(self) -> "Restore":
        if len(set(self.levels)) < len(self.levels):
            raise ValueError("levels: a level appears twice")
        if self.classes is not None and (not self.classes or len(set(self.classes)) < len(self.classes)):
            raise ValueError("classes: name each class once, or give null for all")
        return self


class RestoreData(ClassifyData):
    """Images with labels, some classes of which are restored."""

    restore: Restore = Restore()

    @model_validator(mode="after")
    def _restorable(self) -> "RestoreData":
        unknown = [name for name in self.restore.classes or [] if name not in self.classes]
        if unknown:
            raise ValueError(f"restore.classes: {unknown[0]!r} is not one of classes ({', '.join(self.classes)})")
        if self.colour:
            raise ValueError("colour: task=restore works on grey images; set it to false")
        for key in ("restored", "balance", "balance_epoch", "hard", "shuffle_labels", "negative"):
            if getattr(self, key) is not None:
                raise ValueError(f"{key}: only task=classify reads it; set it to null")
        return self


class RestoreModel(Model):
    encoder: str = "resnet18"  # of segmentation-models-pytorch, under its U-Net
    weights: str = "none"
    norm: Literal["group", "batch", "instance", "layer"] = "batch"


class RestoreLoss(Strict):
    name: Literal["mse", "l1"]  # l1: the mean absolute error


class RestoreConfig(Config):
    """A recipe of the task ``restore``, a denoiser."""

    task: Literal["restore"] = "restore"
    data: RestoreData
    model: RestoreModel
    loss: RestoreLoss

    @model_validator(mode="after")
    def _consistent(self) -> "RestoreConfig":
        if self.predict.tta:
            raise ValueError("predict.tta: an image is restored once, without views; leave it empty")
        if self.augment.device == "cuda":
            raise ValueError("augment.device=cuda: only task=segment warps on the GPU; set it to cpu")
        return self
