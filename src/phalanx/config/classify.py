"""A recipe of the classification task: its data set, network and prediction."""

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from .base import Strict
from .classify_loss import ClassifyLoss, Mix
from .common import Config
from .data import Data
from .model import Model
from .training import Predict

HEADS = ("softmax", "sigmoid")


class Folders(Strict):
    """A data set of one folder per class, relative to ``data.root``: ``<train>/<class>/<image>``."""

    train: str = "train"
    test: str | None = "test"  # images to predict; folders in it are not read as labels
    # a regular expression whose first group names the patient in an image's name; null: each image is its own patient
    group_pattern: str | None = None

    @model_validator(mode="after")
    def _one_group(self) -> "Folders":
        _check_pattern(self.group_pattern)
        return self


class Table(Strict):
    """A data set whose labels are in a CSV, relative to ``data.root``: one row per image."""

    train: str = "train.csv"
    images: str = "train/images"  # folder of the training images, searched recursively
    test: str | None = "test/images"  # images to predict
    image: str = "image_name"  # column of the image's name
    group: str | None = "patient"  # column of the patient; null: each image is its own patient
    # column of the class names, several with | between; null: one column per class of 0, 1 or, if not labelled, nothing
    label: str | None = None


def _check_pattern(pattern: str | None) -> None:
    if pattern is None:
        return
    try:
        groups = re.compile(pattern).groups
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"group_pattern: not a regular expression ({error})") from None
    if groups != 1:
        raise ValueError(f"group_pattern: needs one group in brackets that names the patient, has {groups}")


class ClassifyData(Data):
    """Images with labels."""

    layout: Literal["folders", "table"]
    folders: Folders | None = None  # null: the defaults, if the layout is folders
    table: Table | None = None  # null: the defaults, if the layout is table
    colour: bool = False  # false: images become grey

    @model_validator(mode="after")
    def _consistent(self) -> "ClassifyData":
        if self.root is None and self.phantom is None:
            raise ValueError("root: name the data set's folder, as in data.root=/path/to/dataset")
        for name, kind in (("folders", Folders), ("table", Table)):
            if self.layout == name:
                setattr(self, name, getattr(self, name) or kind())
            elif getattr(self, name) is not None:
                raise ValueError(f"{name}: only for data.layout={name}; the layout is {self.layout}")
        if self.colour and self.background != "keep":
            raise ValueError("background: is found in grey images; set colour=false, or background=keep")
        return self


class ClassifyModel(Model):
    encoder: str  # a network of timm
    norm: Literal["group", "batch", "instance", "layer"] = "batch"  # batches are large enough for the network's own
    head: Literal["softmax", "sigmoid"]  # softmax: classes exclude each other; sigmoid: any number of them
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # before the head


class ClassifyPredict(Predict):
    batch: Annotated[int, Field(ge=1, le=65536)] = 32
    threshold: Annotated[float, Field(gt=0, lt=1)] = (
        0.5  # of sigmoid, where labels are counted; CSVs have probabilities
    )


class ClassifyConfig(Config):
    """A recipe of the task ``classify``: the classes of an image, with probabilities."""

    task: Literal["classify"] = "classify"
    data: ClassifyData
    model: ClassifyModel
    loss: ClassifyLoss
    mix: Mix | None = None  # null: no mixup or CutMix
    predict: ClassifyPredict = ClassifyPredict()
    # validated, monitored and ranked by: mean AUC over the classes, accuracy, or mean F1 over the classes
    metric: Literal["auc", "accuracy", "f1"] = "auc"

    @model_validator(mode="after")
    def _consistent(self) -> "ClassifyConfig":
        return self
