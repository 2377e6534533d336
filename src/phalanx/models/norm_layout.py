"""How norms on a GPU divide maps into tiles: the memory layout of maps, and the sizes of tiles, groups and spans."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

TILE = 4096  # values of a tile
WHOLE = 16384  # values of a group that one program holds in registers, padded to powers of 2
ROW = 64  # channels of a tile of NHWC maps
PROGRAMS = 2048  # of a reduction: enough for a GPU of 132 multiprocessors
MAX_STEPS = 8  # tiles of a program


def cdiv(value: int, by: int) -> int:
    """The quotient, rounded up."""
    return -(-value // by)


def next_power_of_2(value: int) -> int:
    """The smallest power of 2 that is not below the value.

    >>> [next_power_of_2(n) for n in (1, 2, 3, 64, 65)]
    [1, 2, 4, 64, 128]
    """
    return 1 << (value - 1).bit_length()


class Layout(NamedTuple):
    """How maps lie in memory: N images, C channels, S pixels, and the strides of the last two."""

    N: int
    C: int
    S: int
    sc: int
    ss: int

    def tile(self) -> tuple[int, int]:
        """Channels and pixels of a tile, the wider along what is contiguous."""
        if self.ss == 1:
            pixels = min(next_power_of_2(self.S), TILE)
            return min(next_power_of_2(self.C), TILE // pixels), pixels
        channels = min(next_power_of_2(self.C), ROW)
        return channels, min(next_power_of_2(self.S), TILE // channels)

    def steps(self) -> int:
        """Tiles of a program that reduces: a power of 2."""
        channels, pixels = self.tile()
        tiles = self.N * cdiv(self.C, channels) * cdiv(self.S, pixels)
        return min(MAX_STEPS, next_power_of_2(max(1, tiles // PROGRAMS + 1) // 2 or 1))

    def pixel_tile(self) -> tuple[int, int]:
        """Channels and pixels of a tile of :func:`kernels.pixel_norm`."""
        if self.ss == 1:
            pixels = min(next_power_of_2(self.S), 64)
            return min(next_power_of_2(self.C), TILE // pixels), pixels
        channels = min(next_power_of_2(self.C), 1024)
        return channels, min(next_power_of_2(self.S), TILE // channels)


def layout_of(x: Tensor) -> Layout | None:
    """The layout of maps [N, C, ...] that are contiguous or channels last; None of others."""
    size = math.prod(x.shape[2:])
    if x.is_contiguous():
        return Layout(x.shape[0], x.shape[1], size, size, 1)
    if x.movedim(1, -1).is_contiguous():
        return Layout(x.shape[0], x.shape[1], size, 1, x.shape[1])
    return None


def dense(x: Tensor) -> tuple[Tensor, Layout]:
    """The maps, copied if they are neither contiguous nor channels last, with their layout."""
    found = layout_of(x)
    if found is None:
        x = x.contiguous()
        found = layout_of(x)
        assert found is not None
    return x, found


def like(value: Tensor, x: Tensor) -> Tensor:
    """The value in the memory layout of x."""
    return value if value.stride() == x.stride() else torch.empty_like(x, dtype=value.dtype).copy_(value)


class Group(NamedTuple):
    """Sizes of a group, and of a tile that holds all of it; whether there is such a tile."""

    size: int
    channels: int
    pixels: int

    @property
    def fits(self) -> bool:
        return self.channels * self.pixels <= WHOLE

    @property
    def warps(self) -> int:
        return min(16, max(1, self.channels * self.pixels // 512))


def group_tile(at: Layout, groups: int) -> Group:
    """The tile of a group."""
    width = at.C // groups
    return Group(width * at.S, next_power_of_2(width), next_power_of_2(at.S))
