"""A recipe of the classification task: its data set, network and prediction."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..errors import ConfigError
from .base import Positive, Strict, nearest
from .classify_loss import ClassifyLoss, Head, Mix, check_loss
from .common import Config
from .data import Data, Name
from .model import Model
from .training import Predict


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
    # CSV image_name,group, as of `phalanx check groups=`: a listed image's group takes the place of its patient
    groups_file: Path | None = None
    restored: Path | None = None  # folder of `phalanx restore`, whose images are trained on as well
    # ratio in which an epoch shows the classes, 1 for those that are not named; null: as many as there are
    balance: dict[Name, Positive] | None = None

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
        if self.colour and self.restored is not None:
            raise ValueError("restored: those images are grey; set colour=false")
        if self.balance is not None and not self.balance:
            raise ValueError("balance: names no class; give a number per class, as in {healthy: 8}, or null")
        for name in self.balance or ():
            if name not in self.classes:
                raise ValueError(f"balance: {name!r} is not a class{nearest(name, self.classes)}")
        return self


class ClassifyModel(Model):
    encoder: str  # a network of timm
    norm: Literal["group", "batch", "instance", "layer"] = "batch"  # batches are large enough for the network's own
    head: Head  # softmax: classes exclude each other; sigmoid: any number of them
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # before the head


class ClassifyPredict(Predict):
    batch: Annotated[int, Field(ge=1, le=65536)] = 32
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5  # of sigmoids: from it on a class is predicted


class ClassifyConfig(Config):
    """A recipe of the task ``classify``: the classes of an image, with probabilities."""

    task: Literal["classify"] = "classify"
    data: ClassifyData
    model: ClassifyModel
    loss: ClassifyLoss
    mix: Mix | None = None  # null: no mixup or CutMix
    predict: ClassifyPredict = ClassifyPredict()
    # weights are validated, monitored and ranked by it; macro: the mean over the classes
    metric: Literal["macro_auc", "macro_ap", "macro_f1", "balanced_accuracy", "accuracy"] = "macro_auc"

    @model_validator(mode="after")
    def _consistent(self) -> "ClassifyConfig":
        try:
            check_loss(self.loss, self.model.head, self.data.classes)
        except ConfigError as error:
            raise ValueError(str(error).replace("head=", "model.head=")) from None
        acts = self.optim.schedule == "plateau" or self.optim.early_stop is not None
        split = self.optim.monitor.split if self.optim.monitor else "train"
        if acts and split == "train" and self.metric != "accuracy":
            raise ValueError(
                f"optim.monitor.split=train: a training step has no {self.metric}; monitor split=inner, or set "
                "metric=accuracy"
            )
        if self.cuda_graphs and self.mix is not None:
            raise ValueError(
                "cuda_graphs=true: mix draws on the host, which a graph would repeat; leave one of the two out"
            )
        if self.augment.device == "cuda":
            raise ValueError("augment.device=cuda: only task=segment warps on the GPU; set it to cpu")
        return self
