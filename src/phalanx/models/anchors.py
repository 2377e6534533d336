"""Anchors of a detector: fitted to boxes by k-means on their shape, and laid out over feature maps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator

ROUNDS = 300  # of k-means; it ends before, when no box changes its cluster


def fit_anchors(sides: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Widths and heights float64[count, 2] of anchors, by area, from the smallest on.

    k-means whose distance is 1 - IoU of two boxes about one centre, and whose means are medians of width and height.
    Source: Redmon & Farhadi (2017), "YOLO9000: better, faster, stronger", section 2.

    Args:
        sides: float[N, 2], widths and heights of boxes, N >= 1. Fewer shapes than ``count`` leave some anchors alike.
    """
    rng = np.random.default_rng(seed)
    sides = np.asarray(sides, float)
    order = np.argsort(sides.prod(1), kind="stable")
    # from quantiles of the area, so that no start is chance; a little apart, so that clusters can part
    centres = sides[order[((np.arange(count) + 0.5) / count * len(sides)).astype(int)]]
    centres = centres * np.exp(rng.normal(0, 0.05, centres.shape))
    nearest = np.full(len(sides), -1)
    for _ in range(ROUNDS):
        before, nearest = nearest, shape_iou(sides, centres).argmax(axis=1)
        if np.array_equal(before, nearest):
            break
        for k in range(count):
            if (nearest == k).any():
                centres[k] = np.median(sides[nearest == k], axis=0)
    return centres[np.argsort(centres.prod(1), kind="stable")]


def shape_iou(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """IoU float64[N, M] of boxes about one centre, by their sides float[N, 2] and [M, 2].

    >>> shape_iou(np.array([[2.0, 2.0]]), np.array([[1.0, 4.0], [2.0, 2.0]])).round(2).tolist()
    [[0.33, 1.0]]
    """
    shared = np.minimum(one[:, None], other).prod(2)
    return np.asarray(shared / (one.prod(1)[:, None] + other.prod(1) - shared))


class Anchors(AnchorGenerator):
    """The same shapes at each place of a map, about the centre of the place's pixels.

    They are a buffer, so that weights bring the anchors that they were trained with.

    Args:
        shapes: float[L, A, 2], widths and heights for each of L maps.
    """

    def __init__(self, shapes: Any):
        super().__init__(((1,),), ((1.0,),))  # whose own anchors are not used
        self.register_buffer("shapes", torch.as_tensor(np.asarray(shapes), dtype=torch.float32))

    def num_anchors_per_location(self) -> list[int]:
        return [self.shapes.shape[1]] * self.shapes.shape[0]

    def forward(self, image_list: Any, feature_maps: Sequence[Tensor]) -> list[Tensor]:
        """Boxes float32[N, 4] of all maps, for each image; in the order of the heads' outputs."""
        side = image_list.tensors.shape[-2:]
        found = torch.cat([self._of_map(k, maps, side) for k, maps in enumerate(feature_maps)])
        return [found] * len(image_list.image_sizes)

    def _of_map(self, level: int, maps: Tensor, side: Sequence[int]) -> Tensor:
        half = self.shapes[level] / 2
        y, x = (
            (torch.arange(count, device=half.device, dtype=torch.float32) + 0.5) * (length / count)
            for count, length in zip(maps.shape[-2:], side, strict=True)
        )
        centres = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[:, :, None]
        return torch.cat([centres - half, centres + half], dim=-1).reshape(-1, 4)


def anchors_text(shapes: Any, levels: Sequence[int]) -> str:
    """Widths and heights float[L, A, 2] of anchors in words, for the strides of their maps."""
    return "; ".join(
        f"stride {stride}: " + ", ".join(f"{w:.0f} x {h:.0f}" for w, h in level)
        for stride, level in zip(levels, shapes, strict=True)
    )


def best_anchor_iou(boxes: np.ndarray, shapes: Any, levels: Sequence[int], size: int) -> np.ndarray:
    """The largest IoU float64[N] that any anchor on its grid has with each box.

    An anchor of a shape overlaps a box most at the place of the map that is nearest to the box's centre.

    Args:
        boxes: float[N, 4], x_min, y_min, x_max, y_max in pixels of the input.
        shapes: float[L, A, 2], widths and heights for each of L maps.
        levels: their strides.
        size: side of the input in pixels.
    """
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    best = np.zeros(len(boxes))
    for stride, level in zip(levels, np.asarray(shapes, float), strict=True):
        places = np.clip(np.floor(centres / stride), 0, size // stride - 1)
        apart = abs(centres - (places + 0.5) * stride)
        for shape in level:
            shared = np.clip(np.minimum((sides + shape) / 2 - apart, np.minimum(sides, shape)), 0, None).prod(axis=1)
            best = np.maximum(best, shared / (sides.prod(axis=1) + shape.prod() - shared))
    return best
