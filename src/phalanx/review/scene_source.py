"""Scenes without an evaluation: annotations of a data set, predictions in a CSV, and predictions of new images."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..data.records import Record
from ..visualize.scene import Scene


class PredictedScenes(NamedTuple):
    """Predictions in a CSV.

    Attributes:
        images: names of the images it has, sorted.
        scene: an image by its name and file, without ground truth.
    """

    images: Sequence[str]
    scene: Callable[[str, Path], Scene]


class PredictOptions(NamedTuple):
    """How new images are predicted.

    Attributes:
        root: the data set, if it was moved: of runs with metadata.
    """

    root: Path | None = None
    runs: Path = Path("runs")
    device: str = "auto"


Predict = Callable[[Path, Path], None]  # the images of a folder, as `infer` does, into a CSV


class SceneSource(NamedTuple):
    """What a task draws of images. Each function raises DataError for files that cannot be used.

    Attributes:
        classes: in the order of the scenes.
        truth: an annotated image, without prediction.
        predicted: the predictions in a CSV.
        opened: a run, ready to predict any number of times; its networks stay in memory as long as it is held.
    """

    classes: tuple[str, ...]
    truth: Callable[[Record], Scene]
    predicted: Callable[[Path], PredictedScenes]
    opened: Callable[[str, PredictOptions], Predict]
