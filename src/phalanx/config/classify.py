"""A recipe of the classification task: its data set, network and prediction."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..errors import ConfigError
from .base import Seed, Strict, nearest
from .classify_loss import ClassifyLoss, Head, Mix, check_loss
from .common import Config
from .data import Balanced, Data, Name, check_pattern
from .hard import Hard
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
        check_pattern(self.group_pattern)
        return self


class Table(Strict):
    """A data set whose labels are in a CSV, relative to ``data.root``: one row per image."""

    train: str = "train.csv"
    images: str = "train/images"  # folder of the training images, searched recursively
    test: str | None = "test/images"  # images to predict
    image: str = "image_name"  # column of the image's name
    group: str | None = "patient"  # column of the patient; null: each image is its own patient
    rows: str | None = None  # COLUMN=VALUE: only rows with this value are read, as in split=train; null: all
    # column of the class names, several with | between; null: one column per class of 0, 1 or, if not labelled, nothing
    label: str | None = None
    # folder of PNGs by image name, where the measured region is not 0; for loss.marker. null: none
    regions: str | None = None
    region_kind: Literal["any", "bits"] = "any"  # bits: bit k is the region of class k of data.classes

    @model_validator(mode="after")
    def _used(self) -> "Table":
        if self.regions is None and self.region_kind != "any":
            raise ValueError("region_kind: is of regions, and there are none; name their folder in regions")
        return self

    @model_validator(mode="after")
    def _condition(self) -> "Table":
        if self.rows is not None and not all(self.rows.partition("=")[::2]):
            raise ValueError(f"rows: {self.rows!r} is not COLUMN=VALUE, as in split=train")
        return self


class ClassifyData(Data, Balanced):
    """Images with labels."""

    layout: Literal["folders", "table", "presence"]  # presence: a class is there if a polygon of it is
    folders: Folders | None = None  # null: the defaults, if the layout is folders
    table: Table | None = None  # null: the defaults, if the layout is table
    colour: bool = False  # false: images become grey
    # of a softmax. shares: an image with k labels has the target 1/k for each; labels: it has exactly one
    targets: Literal["labels", "shares"] = "labels"
    negative: Name | None = None  # with targets=shares, the class of images without a label; needs no column
    # marks burnt into ultrasound images: keep, or remove them by black, fast_marching or bilinear; see data/overlays.py
    overlays: Literal["keep", "black", "fast_marching", "bilinear"] = "keep"
    shuffle_labels: Seed | None = None  # of a control: permutes labels over the training patients; null: off
    # CSV image_name,group, as of `phalanx check groups=`: a listed image's group takes the place of its patient
    groups_file: Path | None = None
    hard: Hard | None = None  # train on an earlier run's failures, or more often on them
    restored: Path | None = None  # folder of `phalanx restore`, whose images are trained on as well

    @model_validator(mode="after")
    def _consistent(self) -> "ClassifyData":
        for name in [name for pair in (self.hard.pairs or [] if self.hard else []) for name in pair]:
            if name not in self.classes:
                raise ValueError(f"hard.pairs: {name!r} is not a class{nearest(name, self.classes)}")
        if self.root is None and self.phantom is None:
            raise ValueError("root: name the data set's folder, as in data.root=/path/to/dataset")
        for name, kind in (("folders", Folders), ("table", Table)):
            if self.layout == name:
                setattr(self, name, getattr(self, name) or kind())
            elif getattr(self, name) is not None:
                raise ValueError(f"{name}: only for data.layout={name}; the layout is {self.layout}")
        if self.targets == "shares":
            if self.table is None or self.table.label is not None:
                raise ValueError("targets=shares: needs a table with a column per class (layout=table, no table.label)")
            if self.negative not in self.classes:
                raise ValueError(
                    f"negative={self.negative}: targets=shares needs a class for images without a label; "
                    "add one to classes, as in classes=[...,none] negative=none"
                )
            if len(self.classes) < 2:
                raise ValueError("targets=shares: needs a class besides negative; add it to classes")
        elif self.negative is not None:
            raise ValueError("negative: only targets=shares uses it")
        if self.colour and self.background != "keep":
            raise ValueError("background: is found in grey images; set colour=false, or background=keep")
        if self.colour and self.restored is not None:
            raise ValueError("restored: those images are grey; set colour=false")
        for key in ("restored", "balance"):
            if self.hard is not None and getattr(self, key) is not None:
                raise ValueError(f"hard: sets the weights of all images, as {key} does; leave one of the two out")
        self.check_balance(self.classes)
        return self

    @property
    def has_regions(self) -> bool:
        """Whether images come with measured regions, for ``loss.marker``."""
        return self.layout == "presence" or (self.table is not None and self.table.regions is not None)

    @property
    def region_count(self) -> int:
        """Number of regions of an image: one, or one per class."""
        per_class = self.layout == "presence" or (self.table is not None and self.table.region_kind == "bits")
        return len(self.classes) if per_class else 1

    @property
    def scored(self) -> list[str]:
        """The classes that labels are scored by: all but ``negative``."""
        return [name for name in self.classes if name != self.negative]


SHARPNESS = 5.0


class ClassifyModel(Model):
    encoder: str  # a network of timm
    norm: Literal["group", "batch", "instance", "layer"] = "batch"  # batches are large enough for the network's own
    head: Head  # softmax: classes exclude each other; sigmoid: any number of them
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # before the head
    # mean: the network's own pooling of features, then the head; lse: the head at each place, then log-sum-exp
    pool: Literal["mean", "lse"] = "mean"
    sharpness: Annotated[float, Field(gt=0, le=100)] | None = None  # of lse: 0 is the mean, large the maximum; null: 5

    @model_validator(mode="after")
    def _pooled(self) -> "ClassifyModel":
        if self.pool == "lse":
            self.sharpness = SHARPNESS if self.sharpness is None else self.sharpness
        elif self.sharpness is not None:
            raise ValueError("sharpness: only pool=lse uses it")
        return self


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
        self._check_parts()
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

    def _check_parts(self) -> None:
        """Raises ValueError if targets, filter or marker do not fit the rest."""
        if self.data.targets == "shares" and self.model.head != "softmax":
            raise ValueError("data.targets=shares: is for model.head=softmax; sigmoids need no shares")
        for key in ("min_confidence", "marker"):
            if self.mix is not None and getattr(self.loss, key) is not None:
                why = "has no label of its own to be sure of" if key == "min_confidence" else "has two images' regions"
                raise ValueError(f"loss.{key}: a mixed image {why}; leave loss.{key} or mix out")
        if self.loss.marker is not None and not self.data.has_regions:
            raise ValueError("loss.marker: needs the measured regions, as in data.table.regions=regions (a folder)")
        if self.loss.marker is None and self.data.table is not None and self.data.table.regions is not None:
            raise ValueError("data.table.regions: only loss.marker uses them; give it, or leave them out")

    @property
    def marks_cells(self) -> bool:
        """Whether the heat map of the marker loss is that of the head's logits at each place, one per class."""
        marked = self.loss.marker is not None and self.loss.marker.kind == "heatmap"
        return marked and self.model.pool == "lse" and self.data.region_count == len(self.data.classes)

    @property
    def marker_maps(self) -> int:
        """Channels of the auxiliary heat map of ``loss.marker.kind=heatmap``; 0 if there is none."""
        if self.loss.marker is None or self.loss.marker.kind != "heatmap" or self.marks_cells:
            return 0
        return self.data.region_count
