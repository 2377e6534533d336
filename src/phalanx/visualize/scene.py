"""What can be drawn of an image: ground truth and prediction as masks, boxes or labels. Pictures know no tasks."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from ..masks.stack import Stack
from ..submission.boxes import Boxes


class Scene(Protocol):
    """An image with its ground truth and its prediction.

    Attributes:
        path: of the image's file.
        size: (height, width) in pixels.
    """

    @property
    def path(self) -> Path: ...
    @property
    def size(self) -> tuple[int, int]: ...

    def faults(self) -> np.ndarray:
        """float64[C]: how much is wrong of each class, in pixels, boxes or images: false positives and negatives."""


class MaskScene(NamedTuple):
    """Masks, which may overlap. The stacks have the classes of the evaluation, in its order."""

    path: Path
    size: tuple[int, int]
    truth: Stack
    predicted: Stack

    def masks(self) -> np.ndarray:
        """bool[2, C, H, W]: ground truth, then prediction. Large: 29 classes at 2048 x 2048 take 240 MB."""
        return np.stack([one.masks(self.size) for one in (self.truth, self.predicted)])

    def faults(self) -> np.ndarray:
        """Pixels in one of the two only, float64[C]."""
        from ..masks.stack import shared_areas

        return np.asarray(self.truth.areas + self.predicted.areas - 2 * shared_areas(self.truth, self.predicted), float)


class BoxScene(NamedTuple):
    """Boxes.

    Attributes:
        truth: objects.
        predicted: those that count, from the highest score to the lowest.
        right: bool[N] of each predicted box: it finds an object of its class.
        missed: bool[M] of each object: no box finds it.
        classes: how many there are.
    """

    path: Path
    size: tuple[int, int]
    truth: Boxes
    predicted: Boxes
    right: np.ndarray
    missed: np.ndarray
    classes: int

    def faults(self) -> np.ndarray:
        """Wrong boxes and missed objects, float64[C]."""
        wrong = np.concatenate([self.predicted.classes[~self.right], self.truth.classes[self.missed]])
        return np.bincount(wrong, minlength=self.classes).astype(float)


class LabelScene(NamedTuple):
    """Labels of the whole image.

    Attributes:
        labels: float64[C]: 0, 1 or NaN (missing).
        probabilities: float64[C].
        predicted: bool[C]: the classes that are called.
        heat: Grad-CAM of a class by its number, float64[h, w] from 0 on over the whole image; None if the weights that
            held the image out are not there.
    """

    path: Path
    size: tuple[int, int]
    labels: np.ndarray
    probabilities: np.ndarray
    predicted: np.ndarray
    heat: Callable[[int], np.ndarray] | None = None

    def faults(self) -> np.ndarray:
        """1 for each class that is called and not there, or there and not called, float64[C]."""
        return np.where(np.isnan(self.labels), 0.0, (self.labels == 1) != self.predicted).astype(float)


def worst_classes(scene: Scene, count: int, among: Sequence[int] | None = None) -> list[int]:
    """Numbers of the classes with the most that is wrong, at most ``count``, without those that are right."""
    wrong = scene.faults()
    chosen = range(len(wrong)) if among is None else among
    return [c for c in sorted(chosen, key=lambda c: (-wrong[c], c)) if wrong[c] > 0][:count]
