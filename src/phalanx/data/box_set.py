"""Training samples of a detection: images with the boxes and masks of their objects, warped together."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from ..augment.draw import Draw, draw
from ..augment.points import warp_points
from ..augment.warp import resample
from ..config import Augment, DetectData
from ..errors import DataError
from .classes import mirrored
from .dataset import NO_AUGMENT, NO_PLANES, ImageSet, stacked
from .objects import Shape
from .polygons import SHIFT
from .prepared import Prepared
from .records import Record
from .worker import PIXELS, SENT, WARP

EDGE_POINTS = 16  # on each side of a box, whose warped bounds are the box
LEAST_SIDE = 1.0  # pixels of the input; what is narrower after a warp is dropped
LEAST_SHOWN = 0.25  # fraction of a box that must stay in the frame, or it is dropped


class Target(NamedTuple):
    """The objects of one sample.

    Attributes:
        boxes: float32[N, 4], x_min, y_min, x_max, y_max in pixels of the input, on pixel edges.
        labels: int64[N], from 0.
        masks: uint8[N, S, S], or [0, 0, 0] if masks are not trained on.
    """

    boxes: Tensor
    labels: Tensor
    masks: Tensor


class BoxBatch(NamedTuple):
    """``images`` uint8[B, 1, S, S]; a :class:`Target` of each; ``rows`` int64[B] into records."""

    images: Tensor
    targets: tuple[Target, ...]
    rows: Tensor

    def to(self, device: torch.device) -> "BoxBatch":
        """The batch on a device, but for ``rows``."""
        targets = tuple(Target(*(part.to(device, non_blocking=True) for part in one)) for one in self.targets)
        return BoxBatch(self.images.to(device, non_blocking=True), targets, self.rows)

    def split(self, most: int) -> "Iterator[BoxBatch]":
        """Its parts of at most ``most`` images, in order."""
        for first in range(0, len(self.rows), most):
            part = slice(first, first + most)
            yield BoxBatch(self.images[part], self.targets[part], self.rows[part])


class BoxSet(ImageSet):
    """Images with objects, warped alike; a flip swaps the classes of ``data.pairs``.

    The box of a warped object is the bounds of its warped outlines or, if it has none, of points along the edges of its
    box, so that rotation enlarges it. An object of which less than ``LEAST_SHOWN`` of the box stays in the frame, or
    that becomes narrower than ``LEAST_SIDE``, is dropped from the sample.

    Args:
        shapes: the objects of each record, in pixels of the stored image.
        masks: whether samples have the masks of the objects.

    Raises:
        DataError: masks are asked for, and an object has no outline.
    """

    def __init__(
        self,
        records: Sequence[Record],
        *,
        shapes: Sequence[Sequence[Shape]],
        data: DetectData,
        augment: Augment,
        masks: bool = False,
        **common: Any,
    ):
        super().__init__(records, augment=augment, **common)
        self.shapes, self.masks = [list(each) for each in shapes], masks
        self.mirrored = np.array(mirrored(len(data.classes), data.pair_indices))
        if masks and (bare := next((one for each in self.shapes for one in each if not one.outlines), None)):
            raise DataError(
                f"{bare.where}: has a box and no outline, which model.architecture=mask_rcnn learns; draw it, or use "
                "faster_rcnn"
            )

    def sample(
        self, index: int, prepared: Prepared, rng: np.random.Generator, note: Callable[[int], None], augment: Augment
    ) -> tuple[Tensor, Target, int]:
        image, _, grid = prepared
        note(WARP)
        drawn = draw(rng, augment, grid.content, image.shape[0], NO_PLANES)
        (image,) = resample(drawn, [(image, cv2.INTER_LINEAR)])
        target = self.target(index, drawn, grid.scale)
        note(PIXELS)
        image = image if augment is NO_AUGMENT else self.pixels(image, rng)
        note(SENT)
        return torch.from_numpy(np.ascontiguousarray(image))[None], target, index

    def target(self, index: int, drawn: Draw, scale: float) -> Target:
        """The objects of an image after a warp.

        Args:
            scale: pixels of the grid per pixel of the stored image.
        """
        side = drawn.window.height
        boxes, labels, masks = [], [], []
        for shape in self.shapes[index]:
            margin = shape.margin * scale
            parts = shape.outlines or (edge_points(shape.box),)
            warped = [warp_points(drawn, part * scale) for part in parts]
            points = np.concatenate(warped)
            box = np.concatenate([points.min(0) - margin, points.max(0) + margin])
            cut = np.clip(box, 0, side)
            sides = cut[2:] - cut[:2]
            if sides.min() < LEAST_SIDE or sides.prod() < LEAST_SHOWN * (box[2:] - box[:2]).prod():
                continue
            boxes.append(cut)
            labels.append(self.mirrored[shape.label] if drawn.flipped else shape.label)
            if self.masks:
                masks.append(filled(warped, side))
        found = np.stack(masks) if masks else np.zeros((0, side, side) if self.masks else (0, 0, 0), np.uint8)
        return Target(
            torch.tensor(np.array(boxes), dtype=torch.float32).reshape(-1, 4),
            torch.tensor(np.array(labels, np.int64)),
            torch.from_numpy(found),
        )

    def collate(self, samples: "list[Any]") -> "BoxBatch | DataError":
        """A batch of samples, or the error of one of them."""

        def batch(images: Sequence[Tensor], targets: Sequence[Target], index: Sequence[int]) -> BoxBatch:
            return BoxBatch(torch.stack(list(images)), tuple(targets), torch.tensor(index))

        return stacked(samples, batch)


def edge_points(box: np.ndarray) -> np.ndarray:
    """Points float64[4 * EDGE_POINTS, 2] along the edges of a box float64[4]."""
    x_min, y_min, x_max, y_max = box
    steps = np.linspace(0, 1, EDGE_POINTS, endpoint=False)[:, None]
    corners = np.array([[x_min, y_min], [x_max, y_min], [x_max, y_max], [x_min, y_max]])
    return np.concatenate(
        [one + steps * (other - one) for one, other in zip(corners, np.roll(corners, -1, 0), strict=True)]
    )


def filled(outlines: Sequence[np.ndarray], side: int) -> np.ndarray:
    """uint8[side, side], 1 within outlines float64[N, 2] on pixel edges; what two contain is a hole."""
    mask = np.zeros((side, side), np.uint8)
    fixed = [np.round((np.clip(one, -4 * side, 5 * side) - 0.5) * (1 << SHIFT)).astype(np.int32) for one in outlines]
    cv2.fillPoly(mask, fixed, 1, shift=SHIFT)
    return mask
