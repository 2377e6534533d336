"""What the engine asks of a task: batches, a loss, a metric and weights, whatever they mean.

`tasks.segment.Segment` is the first implementation. A task's class says what a data set's images are to it; an object
of it is one fold's training.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..data.records import Record
from ..data.selection import Selection
from ..runtime.distributed import Ranks
from ..runtime.metric import Metric

Part = Literal["held_out", "monitored"]
SHOWN_CLASSES = 5  # that a training prints, the worst ones; :meth:`Task.finish` names the file that has all
COUNTED = "counted"  # a value of a step: 1 of images that count in the loss, 0 of others
Event = tuple[str, dict[str, Any]]  # its name in the log, and its values


def of_class(figure: str, name: str) -> str:
    """What ``measured`` calls a figure of one class.

    >>> of_class("auc", "kidney")
    'auc/class/kidney'
    """
    return f"{figure}/class/{name}"


def of_group(figure: str, name: str) -> str:
    """What ``measured`` calls a figure of the images with something in common, such as a pose."""
    return f"{figure}/group/{name}"


class Batch(Protocol):
    """Samples of a training step, as tensors or anything else."""

    rows: Tensor  # int64[B], on the CPU: numbers of the images among those trained on

    def to(self, device: torch.device) -> Self:
        """The batch on a device, but for ``rows``; from pinned memory the copy may still be under way."""

    def split(self, most: int) -> Iterable[Self]:
        """Its parts of at most ``most`` samples, in order."""


class SampleSet(Protocol):
    """The training images: samples by (epoch, number) and, if an epoch shows an image again, the times before."""

    @property
    def records(self) -> Sequence[Record]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, key: tuple[int, ...]) -> Any: ...

    def collate(self, samples: list[Any]) -> Any:
        """A :class:`Batch` of samples, or the error of one of them as an object, for the loop to raise."""

    def reporting(self) -> AbstractContextManager[None]:
        """Raises what ends a loader process as an error that names the image."""


class Step(NamedTuple):
    """What one forward gave.

    Attributes:
        loss: float[], the mean over the batch's images. If ``COUNTED`` is among the values, images that do not count
            add 0 to it, and the gradient is that of the mean over those of the whole step that do.
        values: float[B] each, detached: a metric of an image under its name, the loss's terms as ``loss/<term>``.
        terms: detached, what :meth:`Task.diagnose` needs besides the batch.
    """

    loss: Tensor
    values: dict[str, Tensor]
    terms: dict[str, Tensor]


class PanelRow(NamedTuple):
    """A held-out image as a validation saw it.

    Attributes:
        image: its name.
        text: its figure, its name and its value.
        panels: titles and RGB uint8[side, side, 3].
        signs: what errors are drawn of, for the legend: ``masks``, ``boxes``, or nothing.
    """

    image: str
    text: str
    panels: Sequence[tuple[str, np.ndarray]]
    signs: str = ""


class HeldOutScore(NamedTuple):
    """The metric over all held-out images, by the path of a submission, and the scores as text."""

    value: float
    text: str


class Task(Protocol):
    """One fold's training.

    Args:
        config: a recipe of the task's own class, as everywhere below.
        monitored: images that are not trained on, on which the engine may evaluate while training.
        weights: float64[N], mean appearances per epoch of the training images; None: once each.
    """

    def __init__(
        self,
        config: Any,
        train: Sequence[Record],
        held_out: Sequence[Record],
        monitored: Sequence[Record] = (),
        weights: np.ndarray | None = None,
    ): ...

    @property
    def metric(self) -> Metric:
        """By which weights are validated and ranked."""

    head_prefixes: tuple[str, ...]  # of parameters that depend on the classes, which a warm start may leave out
    weights: np.ndarray | None

    @property
    def measured(self) -> Mapping[str, float]:
        """What the last :meth:`evaluate` found besides the metric, by name, for the log; ``loss`` is also printed.

        Names of :func:`of_class` and :func:`of_group` are of one class, or of the images with something in common.
        """

    @property
    def network(self) -> nn.Module: ...

    @property
    def training_set(self) -> SampleSet: ...

    @property
    def evaluated(self) -> Mapping[Part, SampleSet]: ...

    loaders: dict[Part, DataLoader]  # of these images, once they were evaluated

    @staticmethod
    def select(config: Any, records: Sequence[Record]) -> Selection:
        """Which annotated images of the data set the recipe trains on, and how often."""

    @staticmethod
    def added(config: Any, fold: int | None, records: Sequence[Record], held_out: Sequence[Record]) -> list[Record]:
        """Samples to train a fold on besides images of the data set, such as restored ones, of the same patients.

        Raises DataError if one of them comes from what is held out.
        """

    @staticmethod
    def files(config: Any, record: Record) -> list[Path]:
        """All files that an image and its annotation are read from, the image's first. A run whose content differs is
        not continued."""

    @staticmethod
    def longer_words(config: Any) -> list[str]:
        """Words of a command by which a run that begins with the weights of a finished one goes on where that ended,
        such as its last loss stage alone."""

    @staticmethod
    def damage(folder: Path, config: Any) -> str | None:
        """What is missing or damaged of what :meth:`finish` wrote into a folder; None if nothing is."""

    def step(self, network: nn.Module, batch: Any) -> Step:
        """Loss and values of a batch on the network's device, in the task's present state.

        A CUDA graph may record it: then ``rows`` cannot be read, and ``runtime.capture`` collects what the host is to
        know.
        """

    def diagnose(self, batch: Any, terms: Mapping[str, Tensor]) -> str | None:
        """Names the input or the term that is not finite, if one is; called only if the loss is not finite.

        Args:
            terms: of the batch's :class:`Step`.
        """

    @property
    def value_names(self) -> tuple[str, ...]:
        """Names of the values that :meth:`step` gives: first the metric that an epoch's training steps are shown and
        monitored by, which is :attr:`metric` if that is a mean over images."""

    @property
    def about(self) -> Sequence[tuple[str, str]]:
        """What the header of a training says of the task, such as its loss: a label and a text each."""

    @property
    def opening(self) -> Sequence[Event]:
        """Events for the log when training begins, such as weights that were counted on this fold."""

    def end_epoch(self, epochs: int, means: Mapping[str, float]) -> list[Event]:
        """Moves the task's state on, as to the next loss stage, after ``epochs`` epochs.

        Args:
            means: of the values over the epoch's images, and ``images``, their number.

        Returns:
            events for the log; the ``text`` of one is also printed.
        """

    def evaluate(self, network: nn.Module, part: Part, device: torch.device, ranks: Ranks) -> float | None:
        """The metric on images that are not trained on, on the input size; None if there are none.

        On a GPU it is called under autocast.
        """

    def pinned(self, count: int) -> list[int]:
        """Numbers of up to ``count`` held-out images to follow over the epochs, once they were evaluated: a case of its
        own first, such as a rotated hand, then the worst."""

    def panels(self, network: nn.Module, rows: Sequence[int], device: torch.device, side: int) -> list[PanelRow]:
        """Held-out images, by number, with their prediction, drawn in panels of ``side`` pixels.

        On a GPU it is called under autocast.
        """

    def finish(self, folder: Path) -> HeldOutScore:
        """Predicts and scores the held-out images once trained, and writes both into the folder."""

    def state_dict(self) -> dict[str, Any]:
        """Whatever of the task changes while training, as JSON types; saved with each checkpoint."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up a saved state. Raises ValueError if it is not one of this task."""

    def pinned_files(self) -> dict[str, str]:
        """Text by file name: what the training reads besides images. A run whose files differ is not continued."""

    def adapt_weights(self, weights: dict[str, Tensor], other: Any) -> tuple[dict[str, Tensor], tuple[str, ...]]:
        """Another run's weights under this network's names, and prefixes of parameters that they do not have."""
