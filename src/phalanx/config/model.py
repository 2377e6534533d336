"""The network."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from .base import Count, Fraction, Positive, Strict


class PointRendOptions(Strict):
    """Sizes of the point head and its sampling, in the paper's letters where it has them."""

    points: Count = 8096  # N: training points an image
    oversample: Positive = 3.0  # k: candidates a point
    importance: Fraction = 0.75  # beta: share of points taken where the coarse logits are unsure
    hidden: Count = 256
    layers: Annotated[int, Field(ge=1, le=8)] = 3
    subdivision_points: Count = 32384  # points re-predicted at each doubling of the grid
    detach: bool = False  # the head learns from the segmenter and does not steer it; the paper's does


class Model(Strict):
    arch: str  # a decoder of segmentation-models-pytorch, hrnet_ocr, lraspp, residual_unet or swin_unetr
    encoder: str  # of segmentation-models-pytorch, or timm's with tu- before the name
    weights: str = "imagenet"  # imagenet (or another name the encoder knows), none, or a local file
    norm: Literal["group", "batch", "instance", "layer"] = "group"  # what BatchNorm becomes; layer: over channels
    drop_path: Annotated[float, Field(ge=0, lt=1)] | None = None  # of the encoder's last block; null: as published
    init_from: str | None = None  # warm start: a finished run, or the folder of one of its folds
    reinit_head: bool = False  # with init_from: heads start from new weights, as other classes need
    activation_checkpointing: bool = False  # less memory, a third more time
    compile: bool = False  # torch.compile around the training step's forward
    channels_last: bool = False
    pointrend: PointRendOptions | None = PointRendOptions()  # null: none, as for networks with logits at every pixel
    metadata: list[Literal["sex", "age", "height", "weight"]] = []  # of the patient, told at the bottleneck (FiLM)
    options: dict[str, Any] = {}  # numbers of the architecture: smp's constructor, or build() of ours

    @field_validator("metadata")
    @classmethod
    def _told_once(cls, names: list[str]) -> list[str]:
        if len(set(names)) < len(names):
            raise ValueError("a trait stands twice")
        return names

    @model_validator(mode="after")
    def _begun(self) -> "Model":
        if self.reinit_head and self.init_from is None:
            raise ValueError("reinit_head: needs model.init_from, the run to start from")
        if self.drop_path is not None and "drop_path_rate" in self.options:
            raise ValueError("drop_path: stands in model.options.drop_path_rate too; give one of them")
        return self
