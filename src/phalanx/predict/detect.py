"""Boxes of images by the detectors of runs: those of all folds and views, fused where they mean one object."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..config import DetectConfig
from ..data.classes import mirrored
from ..data.images import Grid
from ..data.prepared import prepare_image
from ..data.records import Record
from ..errors import ConfigError, DataError
from ..masks.box_geometry import BoxView
from ..models.detector import Detector, build_detector
from ..models.two_stages import Detections
from ..runs.checkpoint import check_fit, load_weights
from ..runs.reader import FoldRun, fold_folders
from ..runtime.device import Device, open_device
from ..runtime.progress import Progress
from ..runtime.provenance import digest
from ..runtime.sidecar import Size
from ..submission.boxes import Boxes, BoxSubmission
from ..voting.boxes import fuse
from .views import View, trained_views


class DetectorFold(NamedTuple):
    """A trained detector of one fold, on its device, and the SHA-256 of its weights."""

    folder: Path
    config: DetectConfig
    network: Detector
    weights: str


class DetectorRun:
    """The folds of a run that predict together.

    Args:
        name: a run, its folder, or the folder of one of its folds.
        weights: final, best or last.
        tta: views; None: those of the run's own recipe.

    Raises:
        ConfigError: no such run, or one that has no such weights or is not of this task.
        DataError: the folder is damaged, or its folds have other classes or another input.
    """

    def __init__(self, name: str, *, runs: Path, weights: str, device: Device, tta: Sequence[str] | None = None):
        self.name, self.device = name, device
        self.folds = [open_fold(folder, weights, device) for folder in fold_folders(name, runs, weights)]
        config = self.folds[0].config
        for fold in self.folds[1:]:
            if _seen(fold.config) != _seen(config):
                raise DataError(
                    f"{fold.folder}: has other classes or another input than {self.folds[0].folder}; their boxes "
                    "cannot be fused"
                )
        self.config, self.classes = config, list(config.data.classes)
        self.mirrored = np.array(mirrored(len(self.classes), config.data.pair_indices))
        self.tta = list(config.predict.tta if tta is None else tta)
        if wrong := [view for view in self.tta if view != "hflip"]:
            raise ConfigError(f"tta={wrong[0]}: is not a view of boxes; only hflip is")
        self.views = trained_views(name, config.augment, self.tta)
        self.hashes = {str(fold.folder): fold.weights for fold in self.folds}
        options = config.predict.model_dump(mode="json", include={"score", "nms_iou", "most", *FUSION})
        self.key = digest([sorted(self.hashes.values()), self.tta, _seen(config), options])

    def predict(self, records: Sequence[Record], batch: int, *, progress: bool) -> BoxSubmission:
        """The boxes of images.

        Args:
            batch: images at once.

        Raises:
            DataError: an image that cannot be read.
        """
        found, views = list[Boxes](), self.views
        sizes: dict[str, Size] = {}
        with Progress(self.name, len(records), unit="image", enabled=progress) as bar:
            for first in range(0, len(records), batch):
                part = records[first : first + batch]
                read = [prepare_image(record, self.config.data) for record in part]
                images = torch.from_numpy(np.stack([image for image, _ in read]))[:, None].to(self.device.torch)
                found += self._boxes(images, [grid for _, grid in read], views)
                sizes |= {record.name: (grid.height, grid.width) for record, (_, grid) in zip(part, read, strict=True)}
                bar.update(len(part))
        names = tuple(record.name for record in records)
        return BoxSubmission(self.name, names, tuple(self.classes), tuple(found), sizes, run_hashes=self.hashes)

    @torch.no_grad()
    def _boxes(self, images: Tensor, grids: Sequence[Grid], views: Sequence[View]) -> list[Boxes]:
        members: list[list[Boxes]] = []
        for view in views:
            seen = view.apply(images).contiguous()
            for fold in self.folds:
                with self.device.autocast():
                    found = fold.network.predict(seen)
                members.append([self._stored(one, grid, view) for one, grid in zip(found, grids, strict=True)])
        if len(members) == 1:
            return members[0]
        options = self.config.predict
        return [
            limited(fuse(each, iou=options.fusion_iou, scores=options.fusion_scores), options.most)
            for each in zip(*members, strict=True)
        ]

    def _stored(self, found: Detections, grid: Grid, view: View) -> Boxes:
        """Boxes in pixels of the stored image, with the classes of the plain view."""
        corners = found.boxes.double().cpu().numpy()
        labels = found.labels.cpu().numpy()
        corners = BoxView(*view).invert(corners, (grid.side, grid.side))
        labels = self.mirrored[labels] if view.mirrored else labels
        return to_stored(
            Boxes.of(corners, found.scores.double().cpu().numpy(), labels), (grid.height, grid.width), grid.side
        )


FUSION = ("fusion_iou", "fusion_scores")


def to_stored(boxes: Boxes, size: Size, side: int) -> Boxes:
    """Boxes in pixels of the input as boxes in pixels of the stored image, cut at its frame; of those outside it,
    nothing is left.

    Args:
        size: height and width of the stored image.
        side: of the input, in pixels.
    """
    scale = Grid(*size, side).scale
    limits = np.array([size[1], size[0]] * 2, float)
    cut = boxes._replace(corners=np.clip(boxes.corners / scale, 0, limits))
    rounded = np.round(cut.corners, 4)  # as a CSV has them
    return cut.chosen(np.flatnonzero((rounded[:, 2:] > rounded[:, :2]).all(axis=1)))


def limited(boxes: Boxes, most: int) -> Boxes:
    """The boxes with the highest scores."""
    return boxes.chosen(boxes.order()[:most])


def _seen(config: DetectConfig) -> dict[str, Any]:
    """The options of data that change what a network sees, and its classes."""
    return config.data.model_dump(mode="json", include={"classes", "pairs", "size", "blackout", "background"})


def open_fold(folder: Path, weights: str, device: Device) -> DetectorFold:
    """The detector of a fold's folder. Raises as :class:`DetectorRun`."""
    config = FoldRun(folder).config_of(DetectConfig)
    found = load_weights(folder / weights)
    if found is None:
        raise ConfigError(f"{folder}: has no {weights} weights yet; train it first (bash train.sh)")
    network = build_detector(config, pretrained=False)
    check_fit(folder / weights, found[0], network)
    network.load_state_dict(found[0])
    return DetectorFold(folder, config, network.eval().to(device.torch), found[1])


def open_detector(
    name: str, *, runs: Path, weights: str = "final", device: str = "auto", precision: str = "auto",
    tta: Sequence[str] | None = None,
) -> DetectorRun:  # fmt: skip
    """As :class:`DetectorRun`, on a device by name."""
    return DetectorRun(name, runs=runs, weights=weights, device=open_device(device, precision), tta=tta)
