"""Where the cells of a feature map have their centres in the image, by the strides and paddings that lead to them.

A convolution of kernel 3, stride 2 and padding 1 has its first window around the first pixel of an even input, not in
the middle of the first two. Five such steps, as in a ResNet, place each cell half a cell further up and left than
evenly spaced cells would be (Araujo et al., 2019, "Computing receptive fields of convolutional neural networks").
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Cells(NamedTuple):
    """Centres of the cells of a map along either axis, as fractions of the input's side: ``first + k * step``."""

    first: float
    step: float

    @classmethod
    def even(cls, side: int) -> "Cells":
        """``side`` cells of equal size that fill the input, as patches do."""
        return cls(0.5 / side, 1 / side)


class _Reduction(NamedTuple):
    """A module that reduces the side of its input.

    Attributes:
        shift: pixels of the input from the centre of the first pixel to that of the first window.
    """

    before: int
    after: int
    stride: int
    shift: float


@torch.no_grad()
def cells_of(encoder: nn.Module, images: Tensor, side: int) -> Cells:
    """The centres of the cells of an encoder's last map, which is computed once.

    Where ways are parallel, as a convolution and a pooled shortcut, the mean of their centres counts. If no chain of
    windows leads from the input to the map, as where patches are merged by their arrangement, cells are evenly spaced.

    Args:
        images: float[B, channels, S, S].
        side: n, of the map.
    """
    found: dict[int, list[_Reduction]] = {}

    def note(module: Any, given: Any, made: Any) -> None:
        if given and isinstance(given[0], Tensor) and isinstance(made, Tensor) and given[0].ndim == 4:
            one = _reduction(module, given[0].shape[-1], made.shape[-1])
            if one is not None:
                found.setdefault(one.before, []).append(one)

    kinds = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
    hooks = [module.register_forward_hook(note) for module in encoder.modules() if isinstance(module, kinds)]
    try:
        encoder.forward_features(images)  # type: ignore[operator]  # of timm
    finally:
        for hook in hooks:
            hook.remove()
    at, first, jump = int(images.shape[-1]), 0.5, 1
    while at > side and at in found:
        ways = found[at]
        first += sum(one.shift for one in ways) / len(ways) * jump
        at, jump = ways[0].after, jump * ways[0].stride
    if at != side:
        return Cells.even(side)
    return Cells(first / images.shape[-1], jump / images.shape[-1])


def _reduction(module: Any, before: int, after: int) -> _Reduction | None:
    """What a module does to the side of its input; None if it does not reduce it by a window that moves."""
    names = ("kernel_size", "stride", "padding", "dilation")
    kernel, stride, padding, dilation = (_last(getattr(module, name, 1)) for name in names)
    if after >= before or stride < 2:
        return None
    window = dilation * (kernel - 1) + 1
    moves = -(-(before + 2 * padding - window) // stride) if getattr(module, "ceil_mode", False) else (
        before + 2 * padding - window
    ) // stride  # fmt: skip
    if moves + 1 != after:  # padded by its own forward, as in TensorFlow: as evenly as it goes, an odd pixel at the end
        padding = max((after - 1) * stride + window - before, 0) // 2
    return _Reduction(before, after, stride, (window - 1) / 2 - padding)


def _last(value: Any) -> int:
    """The width of a size that may be a pair; 0 of a padding by name."""
    value = value[-1] if isinstance(value, tuple | list) else value
    return int(value) if isinstance(value, int) else 0
