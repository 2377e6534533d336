"""The network: what is common to all tasks."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from .base import Strict


class Model(Strict):
    encoder: str  # a network without its head
    weights: str = "imagenet"  # pretrained encoder: imagenet (or another name it knows), none, or a local file
    norm: Literal["group", "batch", "instance", "layer"] = "group"  # replaces BatchNorm; layer: over channels
    drop_path: Annotated[float, Field(ge=0, lt=1)] | None = None  # rate of the encoder's last block; null: as published
    init_from: str | None = None  # warm start: a finished run, or the folder of one of its folds
    reinit_head: bool = False  # with init_from: heads start from new weights, as other classes need
    activation_checkpointing: bool = False  # less memory, a third more time
    compile: bool = False  # torch.compile around the training step's forward
    channels_last: bool = False
    options: dict[str, Any] = {}  # arguments of the library's or our constructor

    @model_validator(mode="after")
    def _consistent(self) -> "Model":
        if self.reinit_head and self.init_from is None:
            raise ValueError("reinit_head: needs model.init_from, the run to start from")
        if self.drop_path is not None and "drop_path_rate" in self.options:
            raise ValueError("drop_path: model.options.drop_path_rate is set, too; give one of them")
        return self
