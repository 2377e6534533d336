"""Bit-planes to classes on the device, a few at a time: no full-size float target is ever made."""

from functools import cache

import torch
from torch import Tensor

CHUNK = 8  # classes handled at a time: one plane


def unpack(planes: Tensor, classes: slice) -> Tensor:
    """Bit-planes uint8[B, P, H, W] to bool[B, C, H, W] for the given classes."""
    index = torch.arange(classes.start, classes.stop, device=planes.device)
    return bits(planes[:, index // 8], (index % 8).to(torch.uint8)[:, None, None]).bool()  # (B, C, H, W)


def bits(planes: Tensor, positions: Tensor | int) -> Tensor:
    """The bits, 0 or 1, at ``positions`` of uint8 planes; the two are broadcast together."""
    return (planes >> positions) & 1


def chunks(classes: int) -> list[slice]:
    """Slices of at most ``CHUNK`` classes that cover them all."""
    return [slice(first, min(first + CHUNK, classes)) for first in range(0, classes, CHUNK)]


def label_map(planes: Tensor) -> Tensor:
    """Bit-planes uint8[B, P, H, W] to channels of a softmax, int64[B, H, W]: 0 for no class, else 1 + the class.

    Of several classes of a pixel it is the last.
    """
    table = _channels(planes.device)
    found = table[planes[:, 0].int()]
    for p in range(1, planes.shape[1]):
        channel = table[planes[:, p].int()]
        found = torch.where(channel > 0, channel + 8 * p, found)
    return found


@cache  # what a recorded step reads must not be freed
def _channels(device: torch.device) -> Tensor:
    """int64[256]: 1 + the place of the highest bit of each byte; 0 for none."""
    return torch.tensor([value.bit_length() for value in range(256)], device=device)


def sample_points(planes: Tensor, coords: Tensor, classes: int) -> Tensor:
    """Truth at points: bit-planes uint8[B, P, H, W] at coords float[B, N, 2] in 0..1 to bool[B, C, N].

    A point takes the pixel it falls in.
    """
    return unpack(pick_points(planes, coords), slice(0, classes))[:, :, 0]


def pick_points(planes: Tensor, coords: Tensor) -> Tensor:
    """Bit-planes uint8[B, P, H, W] at coords float[B, N, 2] in 0..1, of the pixels they fall in: uint8[B, P, 1, N]."""
    size, first, last = _grid(planes.shape[-2], planes.shape[-1], planes.device)
    x, y = torch.clamp((coords * size).long(), first, last).unbind(-1)
    index = torch.add(x, y, alpha=planes.shape[-1])
    return planes.flatten(2).gather(2, index[:, None].expand(-1, planes.shape[1], -1))[:, :, None]


@cache  # what a recorded step reads must not be freed
def _grid(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Width and height, and the first and last column and row, int64[2]. Made once: copying to a GPU waits for it."""
    size = torch.tensor([width, height], device=device)
    return size, torch.zeros_like(size), size - 1


def downsample(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """Bit-planes uint8[B, P, H, W] on a coarser grid [B, P, *size] that divides theirs: the pixel at each middle."""
    high, wide = planes.shape[-2] // size[0], planes.shape[-1] // size[1]
    return planes[..., high // 2 :: high, wide // 2 :: wide]
