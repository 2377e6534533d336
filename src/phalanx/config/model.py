"""The network."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from .base import Fraction, Strict


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


class Model(Strict):
    arch: str  # a decoder of segmentation-models-pytorch, hrnet_ocr, lraspp, residual_unet or swin_unetr
    encoder: str  # of segmentation-models-pytorch, or timm's with tu- before the name
    weights: str = "imagenet"  # pretrained encoder: imagenet (or another name it knows), none, or a local file
    norm: Literal["group", "batch", "instance", "layer"] = "group"  # replaces BatchNorm; layer: over channels
    drop_path: Annotated[float, Field(ge=0, lt=1)] | None = None  # rate of the encoder's last block; null: as published
    init_from: str | None = None  # warm start: a finished run, or the folder of one of its folds
    reinit_head: bool = False  # with init_from: heads start from new weights, as other classes need
    activation_checkpointing: bool = False  # less memory, a third more time
    compile: bool = False  # torch.compile around the training step's forward
    channels_last: bool = False
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

    @model_validator(mode="after")
    def _consistent(self) -> "Model":
        if self.reinit_head and self.init_from is None:
            raise ValueError("reinit_head: needs model.init_from, the run to start from")
        if self.drop_path is not None and "drop_path_rate" in self.options:
            raise ValueError("drop_path: model.options.drop_path_rate is set, too; give one of them")
        return self
