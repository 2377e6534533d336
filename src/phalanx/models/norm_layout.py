"""How norms on a GPU divide maps into tiles: the memory layout of maps, and the sizes of tiles, groups and spans."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

TILE = 4096  # values of a tile
WHOLE = {True: 8192, False: 4096}  # values of a group that one program holds, padded to powers of 2: NCHW, NHWC
ROW = 64  # channels of a tile of NHWC maps; pixels of a tile of layer norm of NCHW maps
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

    def tile(self, part: int = 1) -> tuple[int, int]:
        """Channels and pixels of a tile or a part of one, the wider along what is contiguous."""
        values = TILE // part
        if self.ss == 1:
            pixels = min(next_power_of_2(self.S), values)
            return min(next_power_of_2(self.C), values // pixels), pixels
        channels = min(next_power_of_2(self.C), ROW)
        return channels, min(next_power_of_2(self.S), values // channels)

    def steps(self, tile: tuple[int, int]) -> int:
        """Tiles of a program that reduces, so that there are enough programs: a power of 2."""
        tiles = self.N * cdiv(self.C, tile[0]) * cdiv(self.S, tile[1])
        steps = 1
        while steps < MAX_STEPS and tiles >= 2 * steps * PROGRAMS:
            steps *= 2
        return steps

    def pixel_tile(self) -> tuple[int, int]:
        """Channels and pixels of a tile of :func:`kernels.pixel_norm`."""
        if self.ss == 1:
            pixels = min(next_power_of_2(self.S), ROW)
            return min(next_power_of_2(self.C), TILE // 2 // pixels), pixels
        channels = min(next_power_of_2(self.C), TILE // 4)
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
    """Values of a group, and channels and pixels of a tile that holds all of it."""

    size: int
    channels: int
    pixels: int
    fits: bool

    @property
    def warps(self) -> int:
        return min(16, max(1, self.channels * self.pixels // 256))


def group_tile(at: Layout, groups: int) -> Group:
    """The tile of a group, and whether it fits a program."""
    width = at.C // groups
    channels, pixels = next_power_of_2(width), next_power_of_2(at.S)
    return Group(width * at.S, channels, pixels, channels * pixels <= WHOLE[at.ss == 1])
