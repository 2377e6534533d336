"""The warp of ``warp.py`` for a batch on a device, through the same maps that the CPU uses."""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..masks.planes import swap_steps
from .draw import Draw


class WarpMaps(NamedTuple):
    """Source coordinates of a batch as factors, a few numbers per row and column:
    source (x, y) = rows + columns + left @ right.

    ``rows`` float32[B, 2, H], ``columns`` float32[B, 2, W]: all but the elastic deformation, whose ``left``
    float32[B, 2, H, K] and ``right`` float32[B, K, W] upsample its K x K control points. ``flipped`` bool[B].
    """

    rows: Tensor
    columns: Tensor
    left: Tensor
    right: Tensor
    flipped: Tensor

    @classmethod
    def of(cls, draws: Sequence[Draw]) -> "WarpMaps":
        """The maps of draws of one recipe, whose windows have one size."""
        parts = [(*drawn.lines(), *_elastic(drawn), np.array(drawn.flipped)) for drawn in draws]
        return cls(*(torch.from_numpy(np.stack(part)) for part in zip(*parts, strict=True)))


def _elastic(drawn: Draw) -> tuple[np.ndarray, np.ndarray]:
    """Factors float32[2, height, K] and [K, width] of the upsampled field within the window."""
    top, left, height, width = drawn.window
    weights = cubic_weights(drawn.side, drawn.field.shape[1])
    down = weights[top : top + height] @ drawn.field.astype(float)
    return down.astype(np.float32), np.ascontiguousarray(weights[left : left + width].T, np.float32)


@cache
def cubic_weights(side: int, count: int) -> np.ndarray:
    """Float64[side, count]: weights of each of ``count`` points in each of ``side`` pixels when a line is upsampled.

    Cubic convolution (Keys, 1981) with a = -0.75 and half-pixel centres, as OpenCV's INTER_CUBIC.
    """
    place = (np.arange(side) + 0.5) * count / side - 0.5
    weights = np.zeros((side, count))
    for offset in range(-1, 3) if count else ():
        point = np.floor(place) + offset
        t, a = np.abs(place - point), -0.75
        near, far = ((a + 2) * t - (a + 3)) * t * t + 1, ((t - 5) * t + 8) * t * a - 4 * a
        np.add.at(weights, (np.arange(side), point.clip(0, count - 1).astype(int)), np.where(t <= 1, near, far))
    return weights


@torch.no_grad()
def warp_batch(
    images: Tensor, planes: Tensor, maps: WarpMaps, pairs: Sequence[tuple[int, int]]
) -> tuple[Tensor, Tensor]:
    """Images uint8[B, 1, S, S] bilinearly, bit-planes uint8[B, P, S, S] by nearest neighbour, to the maps' windows.

    Agrees with ``warp`` up to rounding: single grey levels and single pixels of a plane may differ. No step
    synchronises with the device.

    Args:
        maps: on the device of the images.
        pairs: classes that are swapped in flipped images.
    """
    height, width = images.shape[-2:]
    # pixels need more than the 8 bits of bfloat16; TF32, if enabled, moves image and masks by hundredths of one
    with torch.autocast(images.device.type, enabled=False):
        source = maps.left @ maps.right[:, None]  # (B, 2, H, W)
        source += maps.rows[..., None]
        source += maps.columns[..., None, :]
        x, y = source.unbind(1)
        grid = torch.stack([(x + 0.5) * (2 / width) - 1, (y + 0.5) * (2 / height) - 1], -1)
        sampled = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    del grid
    x, y = source.round_().unbind(1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    # one index for all planes of an image; integers, since float32 counts pixels exactly up to 4096 x 4096 only
    index = y.clamp_(0, height - 1).long().mul_(width).add_(x.clamp_(0, width - 1).long()).flatten(1)
    picked = planes.flatten(2).gather(2, index[:, None].expand(-1, planes.shape[1], -1))
    picked = picked.unflatten(2, inside.shape[1:]) * inside[:, None]
    return sampled.round_().byte(), _swap(picked, maps.flipped, pairs)


def _swap(planes: Tensor, flipped: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Bit-planes uint8[B, P, H, W] with the classes of each pair swapped where flipped bool[B], in place."""
    chosen = flipped.to(torch.uint8)[:, None, None]
    for a, b, shift, mask in swap_steps(pairs, 8):
        low, high = planes[:, a], planes[:, b]
        differs = ((low >> shift if shift >= 0 else low << -shift) ^ high) & (chosen * mask)
        high ^= differs
        low ^= differs << shift if shift >= 0 else differs >> -shift
    return planes
