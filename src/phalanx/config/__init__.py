"""The typed configuration: every key of a training run, its type, its range and its meaning.

YAML files in ``configs/`` contain the values; the modules here define the schema, one per folder there. An unknown key
or an invalid value raises ConfigError before anything is loaded, with the key and the nearest valid one.
"""

from typing import Any

from ..errors import ConfigError, brief
from .augment import Augment, Elastic, GridDistortion
from .base import (
    Count,
    Fraction,
    Place,
    Processes,
    Seed,
    Side,
    Strict,
    dotted_keys,
    known_keys,
    nearest,
    nearest_key,
    validate_as,
)
from .classify import ClassifyConfig, ClassifyData, ClassifyModel, ClassifyPredict, Folders, Table
from .classify_loss import ClassifyLoss, Mix
from .common import RUNTIME_KEYS, Config
from .data import PREPROCESSING, Data, Phantom
from .detect import DetectConfig, DetectLoss, DetectModel, DetectPredict
from .detect_data import BoxTable, DetectData
from .hard import Hard
from .loss import Loss, PerClass
from .model import Model
from .plain import flatten, read_plain
from .restore import RestoreConfig, RestoreData, RestoreModel
from .segment import SegmentConfig, SegmentModel, SegmentPredict, SlidingWindow
from .segment_data import Coco, DropDice, Masks, Oversample, SegmentData
from .training import Freeze, Monitor, OneCycle, Optim, Plateau, Predict, Restarts

__all__ = [
    "CONFIGS",
    "PREPROCESSING",
    "RUNTIME_KEYS",
    "Augment",
    "BoxTable",
    "ClassifyConfig",
    "ClassifyData",
    "ClassifyLoss",
    "ClassifyModel",
    "ClassifyPredict",
    "Coco",
    "Config",
    "Count",
    "Data",
    "DetectConfig",
    "DetectData",
    "DetectLoss",
    "DetectModel",
    "DetectPredict",
    "DropDice",
    "Elastic",
    "Folders",
    "Fraction",
    "Freeze",
    "GridDistortion",
    "Hard",
    "Loss",
    "Masks",
    "Mix",
    "Model",
    "Monitor",
    "OneCycle",
    "Optim",
    "Oversample",
    "PerClass",
    "Phantom",
    "Place",
    "Plateau",
    "Predict",
    "Processes",
    "Restarts",
    "RestoreConfig",
    "RestoreData",
    "RestoreModel",
    "Seed",
    "SegmentConfig",
    "SegmentData",
    "SegmentModel",
    "SegmentPredict",
    "Side",
    "SlidingWindow",
    "Strict",
    "Table",
    "config_kind",
    "dotted_keys",
    "flatten",
    "known_keys",
    "nearest",
    "nearest_key",
    "read_plain",
    "validate",
    "validate_as",
]  # fmt: skip

# by task
CONFIGS: dict[str, type[Config]] = {
    "segment": SegmentConfig,
    "classify": ClassifyConfig,
    "detect": DetectConfig,
    "restore": RestoreConfig,
}


def config_kind(task: Any) -> type[Config]:
    """The class of a task's recipes. Raises ConfigError if there is no such task."""
    if not isinstance(task, str) or task not in CONFIGS:
        known = nearest(task, CONFIGS) if isinstance(task, str) else f"; known: {', '.join(CONFIGS)}"
        raise ConfigError(f"task={brief(task)}: no such task{known}")
    return CONFIGS[task]


def validate(values: dict[str, Any]) -> Any:
    """A whole recipe from plain values, of the class of its ``task``; without one it is a segmentation.

    Raises:
        ConfigError: as :func:`validate_as`, or no such task.
    """
    return validate_as(config_kind(values.get("task", "segment")), values)
