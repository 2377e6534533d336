"""A recipe of the segmentation task: its network, losses and prediction."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from .base import MAX_SIDE, Fraction, Side, Strict, nearest
from .common import Config
from .f1_iou import F1AtIoU
from .loss import BACKGROUND, Head, Loss, check_weights
from .model import Model
from .segment_data import SegmentData
from .training import Predict


class PointRendOptions(Strict):
    """Sizes of the point head and its sampling; letters are those of the paper."""

    points: Annotated[int, Field(ge=1, le=1 << 24)] = 8096  # N: training points per image
    oversample: Annotated[float, Field(gt=0, le=100)] = 3.0  # k: candidates per point
    importance: Fraction = 0.75  # beta: fraction of points at the most uncertain pixels
    hidden: Annotated[int, Field(ge=1, le=65536)] = 256
    layers: Annotated[int, Field(ge=1, le=8)] = 3
    subdivision_points: Annotated[int, Field(ge=1, le=1 << 26)] = (
        32384  # points predicted again after each upsampling by 2
    )
    detach: bool = False  # no gradient from the head to the segmenter; the paper's has one


class SegmentModel(Model):
    arch: str  # a decoder of segmentation-models-pytorch, hrnet_ocr, lraspp, residual_unet or swin_unetr
    encoder: str  # of segmentation-models-pytorch, or timm's with tu- before the name
    # sigmoid: classes may overlap, each is decided by its threshold. softmax: they exclude each other, and a pixel has
    # the likeliest; its channel 0 is background, all that no class of data.classes has, and those follow in their order
    head: Head = "sigmoid"
    pointrend: PointRendOptions | None = PointRendOptions()  # null: no point head
    metadata: Annotated[
        list[Literal["sex", "age", "height", "weight"]], Field(max_length=4)
    ] = []  # of the patient, at the bottleneck (FiLM)
    options: dict[str, Any] = {}  # of the architecture: arguments of smp's constructor, or of our build()

    @field_validator("metadata")
    @classmethod
    def _no_duplicates(cls, names: list[str]) -> list[str]:
        if len(set(names)) < len(names):
            raise ValueError("a name appears twice")
        return names


MAX_OVERLAPS = 16  # windows over a pixel, per direction
MAX_WINDOWS = 10_000  # of an image


class SlidingWindow(Strict):
    """Prediction in overlapping windows instead of the whole image at once; see predict/windows.py."""

    size: Side  # pixels at the input size
    stride: Annotated[int, Field(ge=2, le=MAX_SIDE)] | None = None  # null: half the size; at least a 16th of it
    skip_empty: bool = True  # skip windows with nothing brighter than air; they are background

    @model_validator(mode="before")
    @classmethod
    def _size_alone(cls, value: Any) -> Any:
        return {"size": value} if isinstance(value, int | str) else value

    @model_validator(mode="after")
    def _no_gaps(self) -> "SlidingWindow":
        if self.stride is not None and self.stride > self.size:
            raise ValueError(f"stride: {self.stride} leaves gaps between windows of {self.size}")
        if self.stride is not None and self.stride < self.size // MAX_OVERLAPS:
            raise ValueError(
                f"stride: {self.stride} would predict each pixel {(self.size // self.stride) ** 2} times; at least "
                f"{self.size // MAX_OVERLAPS}, a {MAX_OVERLAPS}th of the size"
            )
        return self

    @property
    def step(self) -> int:
        return self.stride or self.size // 2

    def check_count(self, side: int) -> None:
        """Raises ValueError if an image of an input size would have more than ``MAX_WINDOWS`` windows."""
        count = (1 + max(0, -(-(side - self.size) // self.step))) ** 2
        if count > MAX_WINDOWS:
            raise ValueError(
                f"window: {self.size} with a stride of {self.step} makes {count} windows of an image of {side} pixels; "
                f"at most {MAX_WINDOWS}, so give a larger window or stride"
            )


class SegmentPredict(Predict):
    input_size: Side | None = None  # long side of the image; null: data.size
    # factors of the input size, whose maps are averaged
    scales: Annotated[list[Annotated[float, Field(ge=0.25, le=4)]], Field(min_length=1, max_length=16)] = [1.0]
    window: SlidingWindow | None = None  # null: the whole image at once
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5  # of sigmoids
    oof_prob: bool = False  # save the held-out images' probability maps

    def sides(self, size: int) -> list[int]:
        """Input sizes of the prediction of an image; ``size`` is that of training.

        >>> SegmentPredict(scales=[0.5, 1, 1.3]).sides(512)
        [256, 512, 672]
        """
        return [max(32, round((self.input_size or size) * scale / 32) * 32) for scale in self.scales]


class SegmentConfig(Config):
    """A recipe of the task ``segment``: classes, each a mask; they overlap unless the head is a softmax."""

    task: Literal["segment"] = "segment"
    data: SegmentData
    model: SegmentModel
    loss: Loss
    predict: SegmentPredict = SegmentPredict()
    # a disease whose F1 at an IoU, over images, is measured at each validation and of the out-of-fold masks
    image_f1: F1AtIoU | None = None

    @property
    def channels(self) -> int:
        """Logits of a pixel."""
        return len(self.data.classes) + (self.model.head == "softmax")

    def _check_head(self) -> None:
        """Raises ValueError if the rest of the recipe does not fit the head."""
        data, weights = self.data, self.loss.class_weights
        softmax = self.model.head == "softmax"
        if not softmax and not isinstance(weights, dict):
            what = f"{weights}: counts the pixels of" if isinstance(weights, str) else "a list is for"
            raise ValueError(
                f"loss.class_weights={what} classes that exclude each other (model.head=softmax); with sigmoids give "
                "numbers by name, or loss.options.bce.pos_weight"
            )
        try:
            check_weights(weights, [BACKGROUND, *data.classes] if softmax else data.classes)
        except ValueError as error:
            raise ValueError(f"loss.{error}") from None
        if not softmax:
            return
        if BACKGROUND in data.classes:
            raise ValueError(
                f"data.classes: {BACKGROUND!r} is channel 0 of model.head=softmax already, what no class has; leave it "
                "out of data.classes"
            )
        if data.may_overlap:
            raise ValueError(
                f"model.head=softmax: classes exclude each other, and those of data.layout={data.layout} may overlap; "
                "with data.overlap=last a pixel of several has the last of them in data.classes"
            )
        if self.predict.threshold != 0.5:
            raise ValueError("predict.threshold: model.head=softmax predicts the likeliest class; leave it out")

    @model_validator(mode="after")
    def _consistent(self) -> "SegmentConfig":
        if self.data.drop and self.data.drop.dice and self.data.drop.dice.run == self.name:
            raise ValueError(f"data.drop.dice.run: {self.name} is this run; name an earlier one, or give name=")
        terms = self.loss.terms
        self._check_head()
        if self.image_f1 is not None:
            self.image_f1.check_classes(self.data.classes, scored=False)
        if "point" in terms and self.model.pointrend is None:
            raise ValueError(
                "loss: the term 'point' needs a head: set model.pointrend, or remove the term, as in "
                "loss=bce3_dice4_focal3"
            )
        named = {f"options.{key}": values for key, values in self.loss.options.per_class().items()}
        for key, values in named.items():
            for name in values:
                if name not in (*self.data.classes, "others"):
                    known = nearest(name, [*self.data.classes, "others"])
                    raise ValueError(f"loss.{key}: {name!r} is not a class{known}")
        if self.model.pointrend is not None and "point" not in terms:
            raise ValueError("model.pointrend: no loss stage has the term 'point', so the head would never learn")
        for side in self.predict.sides(self.data.size) if self.predict.window else ():
            assert self.predict.window is not None
            try:
                self.predict.window.check_count(side)
            except ValueError as error:
                raise ValueError(f"predict.{error}") from None
        return self
