"""Masks of classes from the instances of Mask R-CNN, as a member of votes like any network that segments.

The probability of a class at a pixel is the largest product of score and mask among its instances: two of a bone are
two opinions on one thing, and are not added up.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image

from ..config.loss import Head
from ..data.images import Grid
from ..data.preprocess import preprocess
from ..data.records import Record
from ..errors import ConfigError
from ..models.two_stages import Detections
from ..runtime.provenance import digest
from .detect import DetectorRun
from .maps import ProbabilityMaps

AT_ONCE = 16  # masks pasted together, each of the size of the image


class MaskMember:
    """A run of Mask R-CNN as a :class:`.soft.SoftMember`: the mean over its folds and views.

    Raises:
        ConfigError: the run has no masks.
    """

    needs_images = True
    head: Head = "sigmoid"  # instances of several classes may overlap

    def __init__(self, run: DetectorRun):
        if run.config.model.architecture != "mask_rcnn":
            raise ConfigError(
                f"masks=true: {run.name} is of model.architecture={run.config.model.architecture}, which has none; "
                "name a run of mask_rcnn"
            )
        self.run, self.name, self.classes, self.hashes = run, run.name, run.classes, run.hashes
        self.key = digest([run.key, "masks"])
        self.on_gpu = run.device.torch.type == "cuda"
        self.options: dict[str, Any] | None = {
            "tta": run.tta, "input sizes": [run.config.data.size], "window": None, "precision": run.device.precision
        }  # fmt: skip

    def maps(self, records: Sequence[Record], images: Sequence[np.ndarray]) -> list[ProbabilityMaps]:
        """Probability maps of each image uint8[H, W], on the grid of the input."""
        data = self.run.config.data
        placed = [Grid.of(image, data.size).place(preprocess(image, data)) for image in images]
        batch = torch.from_numpy(np.stack(placed))[:, None].to(self.run.device.torch)
        return [ProbabilityMaps.of(one) for one in self._mean(batch).cpu().numpy()]

    @torch.no_grad()
    def _mean(self, images: Tensor) -> Tensor:
        """Probabilities float32[B, C, S, S]."""
        total, views = torch.zeros(()), self.run.views
        for view in views:
            seen = view.apply(images).contiguous()
            for fold in self.run.folds:
                with self.run.device.autocast():
                    found = fold.network.predict(seen)
                maps = torch.stack([class_maps(one, len(self.classes), images.shape[-1]) for one in found])
                maps = view.invert(maps)
                total = total + (maps[:, torch.from_numpy(self.run.mirrored)] if view.mirrored else maps)
        return total / (len(views) * len(self.run.folds))


def class_maps(found: Detections, classes: int, side: int) -> Tensor:
    """Probabilities float32[C, S, S] of the instances of an image: the largest score times mask.

    Args:
        side: of the input, in pixels.
    """
    assert found.masks is not None
    maps = found.boxes.new_zeros((classes, side, side))
    for first in range(0, len(found.labels), AT_ONCE):
        part = slice(first, first + AT_ONCE)
        pasted = paste_masks_in_image(found.masks[part, None].float(), found.boxes[part], (side, side))[:, 0]
        pasted = pasted * found.scores[part, None, None]
        for label, one in zip(found.labels[part].tolist(), pasted, strict=True):
            torch.maximum(maps[label], one, out=maps[label])
    return maps
