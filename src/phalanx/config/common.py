"""A training recipe: the options that all tasks share."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from .augment import Augment
from .base import Count, Seed, Strict
from .data import Data
from .model import Model
from .training import Optim, Predict

# Keys that may differ between two calls of the same run. They change where and how fast it runs, not its result.
RUNTIME_KEYS = (
    "runs", "workers", "device", "checkpoint_minutes", "progress", "devices", "ddp", "max_hours", "on_nan", "tracking",
    "report",
    "data.root", "data.cache", "data.cache_gb", "data.cache_dir", "predict.batch", "predict.oof_prob",
    "model.activation_checkpointing", "cuda_graphs", "panels",
)  # fmt: skip


# a run's name is a folder in `runs`, and must not be a path out of it
FOLDER_NAME = re.compile(r"(?![.\s])[^/\\\x00-\x1f\x7f]+(?<!\s)")
DeviceName = Annotated[
    str, BeforeValidator(lambda name: f"cuda:{name}" if re.fullmatch("[0-9]+", str(name)) else str(name))
]


TrackerName = Literal["tensorboard", "wandb", "mlflow"]


MAX_NAME = 200  # bytes of a run's name: file systems take 255, with what is written beside it


class Config(Strict):
    """One resolved training recipe: the options of all tasks, which the engine reads. Each task has a class of its own.

    Sections such as ``data`` and ``model`` are the folders of ``configs/``.
    """

    name: str
    task: str
    data: Data
    model: Model
    augment: Augment
    optim: Optim
    predict: Predict = Predict()
    seed: Seed = 0
    folds: Annotated[int, Field(ge=2, le=1000)] = 5
    epochs: Count = 100
    batch: Annotated[int, Field(ge=1, le=65536)] = 2
    accumulate: Annotated[int, Field(ge=1, le=65536)] = 1  # micro-batches of `batch` images per step
    validate_every: Annotated[int, Field(ge=0, le=1_000_000)] = (
        5  # epochs; 0: no validation during training, and no `best`
    )
    # steps; measured and logged then too, for a curve over iterations; `best` and monitoring keep to validate_every
    validate_steps: Count | None = None
    # YAML reads 32 as a number
    precision: Annotated[Literal["auto", "32", "bf16", "fp16"], BeforeValidator(str)] = "auto"
    device: str = "auto"  # auto, cpu, cuda or cuda:1
    cuda_graphs: bool = False  # launch steps of one shape as a whole; to be the default once measured on a GPU
    workers: Annotated[int, Field(ge=-1, le=1024)] = -1  # loader processes; -1: chosen by the machine's cores
    checkpoint_minutes: Annotated[float, Field(ge=0, le=100_000)] = 5.0  # 0: only at the end of an epoch
    progress: bool = True
    panels: Annotated[int, Field(ge=0, le=64)] = 4  # held-out images that each validation draws, always the same ones
    runs: Path = Path("runs")
    tracking: Annotated[list[TrackerName], Field(max_length=16)] = []  # in addition to log.jsonl
    report: bool = True  # an HTML page of the run in its folder, once the folds of a call are trained
    on_nan: Literal["stop", "skip", "halve"] = "stop"  # non-finite step: skip it; halve the learning rate, too
    devices: Annotated[
        list[DeviceName], Field(max_length=1024)
    ] = []  # 0 or cuda:0, 1, ... or cpu: one fold per device, or with ddp=true one on all
    ddp: bool = False
    max_hours: Annotated[float, Field(gt=0, le=100_000)] | None = (
        None  # of this call, for all its folds; then it stops and can be continued
    )

    @model_validator(mode="after")
    def _usable(self) -> "Config":
        if not FOLDER_NAME.fullmatch(self.name):
            raise ValueError(f"name: {self.name!r} is not a plain folder name, without slashes and a leading dot")
        if len(self.name.encode("utf-8", "surrogateescape")) > MAX_NAME:
            raise ValueError(f"name: has more than {MAX_NAME} bytes, of which file systems leave no room for endings")
        split = self.optim.monitor.split if self.optim.monitor else "train"
        for key, needed in (("average_best", self.optim.average_best), (f"monitor.split={split}", split != "train")):
            if needed and not self.validate_every:
                raise ValueError(f"optim.{key}: needs validation during training; give validate_every=1 or more")
        if len(set(self.tracking)) < len(self.tracking):
            raise ValueError(f"tracking={','.join(self.tracking)}: names a tracker twice")
        for name in self.devices:
            if not re.fullmatch(r"cpu|cuda:[0-9]{1,4}", name):
                raise ValueError(f"devices={','.join(self.devices)}: expected numbers of GPUs, as in 0,1, or cpu,cpu")
        if self.ddp:
            kinds = {name.partition(":")[0] for name in self.devices}
            if len(self.devices) < 2 or len(kinds) > 1:
                raise ValueError("ddp=true: needs two devices or more, all GPUs or all cpu, as in devices=0,1")
            if kinds == {"cuda"} and len(set(self.devices)) < len(self.devices):
                raise ValueError(f"devices={','.join(self.devices)}: with ddp=true each GPU can run only one process")
        freeze = self.optim.freeze
        if freeze is not None and freeze.epochs is not None and freeze.epochs > self.epochs:
            raise ValueError(
                f"optim.freeze.epochs: {freeze.epochs} of {self.epochs} epochs; omit it to freeze to the end"
            )
        return self
