"""Members of a soft vote, without torch: their protocol, runs as members, and their maps on every input size."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from ..config import PREPROCESSING, SegmentData, SegmentPredict
from ..config.loss import Head
from ..data.images import Grid
from ..data.preprocess import preprocess
from ..data.records import Record
from ..masks.stack import Stack
from ..runtime.provenance import digest
from ..runtime.terminal import say
from ..voting.agreement import Agreement, AgreementMonitor
from .exclusive import masks_of
from .maps import MapsMean, ProbabilityMaps
from .windows import blend_windows, window_corners


class SoftMember(Protocol):
    """What a soft vote averages: a source of probability maps."""

    name: str
    classes: list[str]
    head: Head  # of a softmax the maps are those of the classes, and background is the rest to 1
    hashes: dict[str, str]  # of the weights of each of its folds, by folder
    key: str  # equal for members that return the same maps
    options: dict[str, Any] | None  # with which its maps are made, as `made_with`; None if unknown
    needs_images: bool
    on_gpu: bool  # its maps are computed there, so the cores are free for other work

    def maps(self, records: Sequence[Record], images: Sequence[np.ndarray]) -> list[ProbabilityMaps]:
        """Probability maps of each image uint8[H, W]."""
        ...


class RunMember:
    """All folds of a run, averaged."""

    needs_images = True

    def __init__(self, name: str, folds: Sequence[Any]):
        self.name, self.folds, self.classes = name, folds, folds[0].classes
        self.head: Head = folds[0].head
        self.threshold: float = folds[0].predict.threshold
        self.hashes = {key: value for fold in folds for key, value in fold.hashes.items()}
        self.key = digest([fold.key for fold in folds])
        self.on_gpu = any(fold.on_gpu for fold in folds)
        own = [fold.options for fold in folds]
        self.options: dict[str, Any] | None = own[0] if all(other == own[0] for other in own) else None
        self._monitor: AgreementMonitor | None = None
        self._threshold = 0.5

    def compare_folds(self, images: int, threshold: float) -> None:
        """Compares the folds' masks over the first images to come, and prints which are misaligned.

        Args:
            images: at least so many follow.
        """

        def report(agreement: Agreement) -> None:
            for fault in agreement.misaligned:
                say(f"note: folds of one run: {fault}")

        if self.folds[1:] and images:
            self._monitor = AgreementMonitor([fold.name for fold in self.folds], self.classes, images, report)
            self._threshold = threshold

    def maps(self, records: Sequence[Record], images: Sequence[np.ndarray]) -> list[ProbabilityMaps]:
        means = [MapsMean((image.shape[0], image.shape[1])) for image in images]
        monitor = None if self._monitor is None or self._monitor.done else self._monitor
        alone: list[list[Stack]] = [[] for _ in records]
        for fold in self.folds:
            for number, maps in enumerate(fold.maps(records, images)):
                means[number].add(maps)
                if monitor is not None:
                    alone[number].append(masks_of([(maps, 1.0)], means[number].size, self._threshold, self.head))
        if monitor is not None:
            for record, mean, stacks in zip(records, means, alone, strict=True):
                monitor(record.name, mean.size, stacks)
        return [mean.on_finest_grid() for mean in means]


Ask = Callable[[np.ndarray, list[int]], list[ProbabilityMaps]]


def on_grids(
    images: Sequence[np.ndarray], data: SegmentData, predict: SegmentPredict, ask: Ask
) -> list[ProbabilityMaps]:
    """Probability maps of images uint8[H, W], preprocessed as in training, averaged over sizes, whole or in windows.

    Args:
        ask: returns the maps of pictures uint8[B, S, S]; receives the number of each one's image too.
    """
    ready = [preprocess(image, data) for image in images]
    means = [MapsMean((image.shape[0], image.shape[1])) for image in images]
    for side in predict.sides(data.size):
        placed = np.stack([Grid.of(image, side).place(image) for image in ready])
        if predict.window is None:
            found = ask(placed, list(range(len(placed))))
        else:
            found = [_windows(n, ready[n], placed[n], data, predict, ask) for n in range(len(placed))]
        for mean, maps in zip(means, found, strict=True):
            mean.add(maps)
    return [mean.on_finest_grid() for mean in means]


def _windows(
    number: int, image: np.ndarray, placed: np.ndarray, data: SegmentData, predict: SegmentPredict, ask: Ask
) -> ProbabilityMaps:
    assert predict.window is not None  # called only then
    corners = window_corners(image, Grid.of(image, len(placed)), predict.window)
    return blend_windows(
        placed, corners, predict.window, classes=len(data.classes), batch=predict.batch,
        predict=lambda tiles: ask(tiles, [number] * len(tiles)),
    )  # fmt: skip


def map_options(data: SegmentData, predict: SegmentPredict) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options that maps depend on, besides the weights."""
    return (
        predict.model_dump(mode="json", exclude={"batch", "oof_prob", "threshold"}),
        data.model_dump(mode="json", include={"size", *PREPROCESSING, "pairs", "classes"}),
    )


def made_with(data: SegmentData, predict: SegmentPredict, precision: str) -> dict[str, Any]:
    """The options of a prediction that change its maps, as JSON types and as a message names them."""
    mirrored = [name for name in ("hflip", "vflip") if name in predict.tta]
    rotated = ["rotate"] if "rotate" in predict.tta else []
    return {
        "tta": (["hflip"] if mirrored and rotated else mirrored) + rotated,  # mirrors of rotated views are the same
        "input sizes": sorted(predict.sides(data.size)),
        "window": predict.window and predict.window.model_dump(mode="json"),
        "precision": precision,
    }
