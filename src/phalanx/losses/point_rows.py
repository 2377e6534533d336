"""Points of an image as further rows of its map, so that one pass over both serves the loss of points too."""

from typing import NamedTuple

import torch
from torch import Tensor

NEVER = -1e4  # a logit of which q and log(1 + exp(z)) are 0 in any type


class Points(NamedTuple):
    """Points of the image as further rows of its map, from row ``rows[0]`` on, the last of them filled up.

    Attributes:
        number: per image.
        rows: those of the map, and those of points.
        dice_weight: of Dice in the points' loss; the rest is BCE.
        image, plane: numbers of images int64[B, 1, 1], and of planes int64[1, P, 1].
        part: 0 for rows of the map, 1 for those of points, int64[H].
        partial: where the last row is not full, logits [B, C, H, W] and bit-planes [B, P, H, W] of these rows to write
            points into: they are filled up with what no sum sees, which is quicker than padding at every step.
    """

    number: int
    rows: tuple[int, int]
    dice_weight: float
    image: Tensor
    plane: Tensor
    part: Tensor
    partial: tuple["PartialRows", "PartialRows"] | None


class PartialRows(NamedTuple):
    """Rows [B, K, H, W], and the view [B, K, N] of their points, in order."""

    rows: Tensor
    points: Tensor


class PointOptions(NamedTuple):
    """``weight`` in the loss; ``dice_weight`` of Dice over the points, the rest is BCE; ``number`` per image; ``size``
    of the map, height and width; ``dtype`` of the logits."""

    weight: float
    dice_weight: float
    number: int
    size: tuple[int, int]
    dtype: torch.dtype


def rows_of_points(points: PointOptions, batch: int, classes: int, device: torch.device) -> Points:
    """What a plan for ``batch`` images of ``classes`` has of their points."""
    height, width = points.size
    rows, planes = -(-points.number // width), -(-classes // 8)

    def partial(members: int, value: float, dtype: torch.dtype) -> PartialRows:
        made = torch.full((batch, members, rows, width), value, dtype=dtype, device=device)
        return PartialRows(made, made.flatten(2)[..., : points.number])

    return Points(
        points.number,
        (height, rows),
        points.dice_weight,
        torch.arange(batch, device=device)[:, None, None],
        torch.arange(planes, device=device)[None, :, None],
        torch.tensor([0] * height + [1] * rows, device=device),
        (partial(classes, NEVER, points.dtype), partial(planes, 0, torch.uint8)) if points.number % width else None,
    )
