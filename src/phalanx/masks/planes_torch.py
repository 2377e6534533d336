"""Bit-planes to classes on the device, a few at a time: no full-size float target is ever made."""

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


def sample_points(planes: Tensor, coords: Tensor, classes: int) -> Tensor:
    """Truth at points: bit-planes uint8[B, P, H, W] at coords float[B, N, 2] in 0..1 to bool[B, C, N].

    A point takes the pixel it falls in.
    """
    height, width = planes.shape[-2:]
    x = (coords[..., 0] * width).long().clamp(0, width - 1)
    y = (coords[..., 1] * height).long().clamp(0, height - 1)
    picked = planes.flatten(2).gather(2, (y * width + x)[:, None].expand(-1, planes.shape[1], -1))
    return unpack(picked[..., None], slice(0, classes))[..., 0]


def downsample(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """Bit-planes uint8[B, P, H, W] on a coarser grid [B, P, *size] that divides theirs: the pixel at each middle."""
    high, wide = planes.shape[-2] // size[0], planes.shape[-1] // size[1]
    return planes[..., high // 2 :: high, wide // 2 :: wide]
