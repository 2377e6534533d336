"""A recipe of the task ``detect``: its objects, network, loss and prediction."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .base import Count, Fraction, Strict
from .classify_loss import Focusing
from .common import Config
from .detect_data import DetectData
from .f1_iou import F1AtIoU
from .loss import ClassWeights, check_weights
from .model import Model
from .training import Predict

Architecture = Literal["faster_rcnn", "mask_rcnn", "retinanet", "fcos"]
TWO_STAGES = ("faster_rcnn", "mask_rcnn")
Pixels = Annotated[float, Field(gt=0, le=65536)]
Factor = Annotated[float, Field(ge=0, le=1000)]


class DetectModel(Model):
    architecture: Architecture  # of torchvision, on the feature pyramid of any encoder
    encoder: str  # a network of timm that returns feature maps, such as resnet18
    width: Annotated[int, Field(ge=8, le=2048)] = 128  # channels of the pyramid
    levels: list[Literal[4, 8, 16, 32]] = Field(default=[8, 16, 32], min_length=1, max_length=4)  # strides of its maps
    # fitted: to the boxes of the training fold, by k-means on width and height; or [[width, height], ...] in pixels of
    # the input, as many for each level, the smallest for the finest one. fcos has none
    anchors: Literal["fitted"] | list[tuple[Pixels, Pixels]] = "fitted"
    anchors_per_level: Annotated[int, Field(ge=1, le=32)] = 3
    hidden: Annotated[int, Field(ge=8, le=8192)] = 256  # features of the box head
    mask_layers: Annotated[int, Field(ge=1, le=8)] = 2  # convolutions of the mask head
    candidates: Annotated[int, Field(ge=1, le=100_000)] = 500  # best-scored boxes of a level before suppression
    proposals: Annotated[int, Field(ge=1, le=100_000)] = 200  # after it, of an image, for the box head
    anchor_samples: Annotated[int, Field(ge=2, le=100_000)] = 256  # of an image, that a step trains on
    samples: Annotated[int, Field(ge=2, le=100_000)] = 128  # proposals of an image that a step trains on
    positives: Annotated[float, Field(gt=0, lt=1)] = 0.25  # of them, at most this fraction are of objects

    @model_validator(mode="after")
    def _pyramid(self) -> "DetectModel":
        if self.levels != sorted(set(self.levels)):
            raise ValueError("levels: list each stride once, the finest first, as in [8,16,32]")
        if self.compile:
            raise ValueError("compile: the number of boxes changes with each image; set it to false")
        if self.architecture == "fcos" and self.width % 32:
            raise ValueError(f"width: fcos normalises 32 groups of channels, which do not divide {self.width}")
        if self.anchors == "fitted":
            return self
        if self.architecture == "fcos":
            raise ValueError("anchors: fcos has none; leave them out")
        if len(self.anchors) % len(self.levels):
            raise ValueError(
                f"anchors: {len(self.anchors)} for {len(self.levels)} levels; give as many for each, or fitted"
            )
        self.anchors_per_level = len(self.anchors) // len(self.levels)
        return self


class DetectLoss(Strict):
    """The terms of the loss and their weights; those of another architecture are not read."""

    # of the box head's classes, by a rule on the objects of the training fold; or a number per class, by name or as a
    # list in their order. Background weighs 1
    class_weights: ClassWeights = "none"
    # a rule counts objects as an epoch shows them (data.balance), or each once; null: after
    count: Literal["after", "before"] | None = None
    beta: Annotated[float, Field(gt=0, lt=1)] | None = None  # of effective_number; null: 0.9999
    focal: Focusing | None = None  # exponent of focal cross-entropy in the box head; null: plain cross-entropy
    objectness: Factor = 1.0  # of an anchor: object or not
    proposal: Factor = 1.0  # the box that an anchor becomes
    label: Factor = 1.0  # the class of a box
    box: Factor = 1.0
    mask: Factor = 1.0
    centerness: Factor = 1.0

    @model_validator(mode="after")
    def _read(self) -> "DetectLoss":
        if self.beta is not None and self.class_weights != "effective_number":
            raise ValueError("beta: only class_weights=effective_number reads it; set it to null")
        if isinstance(self.class_weights, str) and self.class_weights != "none":
            self.count = self.count or "after"
        elif self.count is not None:
            raise ValueError("count: only a rule of class_weights counts, as in class_weights=inverse")
        return self


class DetectPredict(Predict):
    batch: Annotated[int, Field(ge=1, le=65536)] = 8
    score: Fraction = 0.05  # boxes below are left out
    nms_iou: Annotated[float, Field(gt=0, lt=1)] = (
        0.5  # of two boxes of a class that overlap more, the better one stays
    )
    most: Count = 100  # boxes per image
    fusion_iou: Annotated[float, Field(gt=0, lt=1)] = (
        0.55  # folds and views: boxes of a class that overlap more are one
    )
    # how the scores of one object's boxes become one, over the folds and views that predict
    fusion_scores: Literal["mean", "sum", "average", "max"] = "mean"


class DetectConfig(Config):
    """A recipe of the task ``detect``: boxes of objects, with classes and scores."""

    task: Literal["detect"] = "detect"
    data: DetectData
    model: DetectModel
    loss: DetectLoss = DetectLoss()
    predict: DetectPredict = DetectPredict()
    # weights are validated, monitored and ranked by it: COCO's mean average precision at an IoU of .5, or over .5 to
    # .95, or F1 at f1_iou, with the threshold of scores that is best for it
    metric: Literal["map50", "map", "f1_iou"] = "map50"
    f1_iou: Annotated[float, Field(gt=0, lt=1)] = 0.5
    # a disease whose F1 at an IoU, over images, is measured at each validation and of the out-of-fold boxes
    image_f1: F1AtIoU | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "DetectConfig":
        two_stages = self.model.architecture in TWO_STAGES
        if not two_stages and (self.loss.class_weights != "none" or self.loss.focal is not None):
            raise ValueError(
                f"loss.class_weights, loss.focal: are of a box head, which {self.model.architecture} does not have "
                "(its own loss is focal); use faster_rcnn or mask_rcnn"
            )
        try:
            check_weights(self.loss.class_weights, self.data.classes)
        except ValueError as error:
            raise ValueError(f"loss.{error}") from None
        if self.image_f1 is not None:
            self.image_f1.check_classes(self.data.classes)
        if self.model.architecture == "mask_rcnn" and self.data.layout == "boxes":
            raise ValueError("model.architecture=mask_rcnn: needs outlines, and a CSV has boxes alone; use faster_rcnn")
        acts = self.optim.schedule == "plateau" or self.optim.early_stop is not None
        split = self.optim.monitor.split if self.optim.monitor else "train"
        if acts and split == "train":
            raise ValueError(f"optim.monitor.split=train: a training step has no {self.metric}; monitor split=inner")
        if self.cuda_graphs:
            raise ValueError("cuda_graphs=true: the number of boxes changes with each step; set it to false")
        if self.augment.device == "cuda":
            raise ValueError("augment.device=cuda: only task=segment warps on the GPU; set it to cpu")
        if extra := [view for view in self.predict.tta if view != "hflip"]:
            raise ValueError(f"predict.tta: {extra[0]} is not a view of boxes; only hflip is")
        return self
