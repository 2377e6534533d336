"""Views of test-time augmentation, and what stays of their logits: for numpy arrays and torch tensors alike.

PyTorch and onnxruntime predictions share these functions. Tensors are transformed by ttach, arrays by numpy; torch and
ttach are loaded only for tensors.
"""

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from ..config import Augment
from ..errors import DataError
from ..runtime.terminal import say
from .maps import EMPTY, FLOOR, SLACK, Box, MapsSum, ProbabilityMaps, box_of, reordered

Array = Any  # np.ndarray, or torch.Tensor on any device


class View(NamedTuple):
    """One way to look at a square image: mirrored left to right, upside down, then turned by quarters."""

    hflip: bool
    vflip: bool
    turns: int

    @property
    def mirrored(self) -> bool:
        """Left and right change places."""
        return self.hflip != self.vflip

    def apply(self, images: Array) -> Array:
        """Images [B, C, S, S] as this view shows them."""
        images = _flipped(images, -1) if self.hflip else images
        images = _flipped(images, -2) if self.vflip else images
        return _rotated(images, self.turns) if self.turns else images

    def invert(self, logits: Array) -> Array:
        """Logits [B, C, S, S] of this view on the pixels of the image again."""
        logits = _rotated(logits, -self.turns) if self.turns else logits
        logits = _flipped(logits, -2) if self.vflip else logits
        return _flipped(logits, -1) if self.hflip else logits


def _flipped(array: Array, axis: int) -> Array:
    if isinstance(array, np.ndarray):
        return np.flip(array, axis)
    import ttach

    return (ttach.functional.hflip if axis == -1 else ttach.functional.vflip)(array)


def _rotated(array: Array, turns: int) -> Array:
    if isinstance(array, np.ndarray):
        return np.rot90(array, turns, (-2, -1))
    import ttach

    return ttach.functional.rot90(array, turns)


def views_of(tta: Sequence[str]) -> list[View]:
    """The views of test-time augmentation, the unchanged one first.

    Args:
        tta: ``hflip`` and ``vflip`` add mirrored views, ``rotate`` those turned by 90, 180 and 270 degrees. All
            combinations are taken, each once: a vertical mirror is a horizontal one turned by 180 degrees.

    >>> [tuple(view) for view in views_of(["hflip"])], len(views_of(["hflip", "vflip", "rotate"]))
    ([(False, False, 0), (True, False, 0)], 8)
    """
    flips = [name for name in ("hflip", "vflip") if name in tta]
    if "rotate" in tta:
        flips = flips[:1]
    choices = [(False, True) if name in flips else (False,) for name in ("hflip", "vflip")]
    turns = range(4) if "rotate" in tta else range(1)
    return [View(h, v, k) for h, v, k in product(*choices, turns)]  # type: ignore[arg-type]


def trained_views(name: str, augment: Augment, tta: Sequence[str]) -> list[View]:
    """The views of a run's prediction, with a warning if they look like one class alone.

    Args:
        name: of the run.
        augment: of its training.
    """
    if augment.copies_only and tta:
        say(
            f"warning: {name}: tta={','.join(tta)}: with augment.copies_only nothing but repeated images of rare "
            "classes was ever flipped or turned, so another view of any image looks like these"
        )
    return views_of(tta)


def probabilities(
    predict: Callable[[Array], Array],
    images: Array,
    views: Sequence[View],
    pairs: Sequence[tuple[int, int]] = (),
    floor: float = FLOOR,
) -> list[ProbabilityMaps]:
    """Probability maps of each of uint8[B, 1, S, S], averaged over the views.

    Each view is turned back, and its left and right classes are swapped if it was mirrored, before averaging.

    Args:
        predict: uint8[B, 1, S, S] to logits float[B, C, S, S], arrays or tensors as ``images`` are.
        pairs: classes that a mirror swaps.
        floor: as :func:`crop`.

    Raises:
        DataError: the network outputs NaN.
    """
    totals: list[MapsSum] = []
    for view in views:
        logits = predict(view.apply(images))
        totals = totals or [MapsSum(images.shape[-1], logits.shape[1]) for _ in images]
        for total, one in zip(totals, logits, strict=True):  # image by image: a mirrored tensor is a copy
            maps = crop(view.invert(one[None])[0], floor)
            total.add(reordered(maps, pairs) if view.mirrored else maps)
    return [total.over(len(views)) for total in totals]


def crop(logits: Array, floor: float = FLOOR) -> ProbabilityMaps:
    """Probability maps of logits float[C, n, n]: each class inside the box where its probability reaches ``floor``.

    One pass reads all logits; sigmoids, and the transfer from the device to the host, are for the boxes alone.

    Raises:
        DataError: NaN among the logits.
    """
    low = floor * (1 - SLACK)
    limit = math.log(low / (1 - low)) - 1e-4 if floor > 0 else -math.inf  # less than it, for what rounds
    on_gpu = not isinstance(logits, np.ndarray) and logits.is_cuda
    boxes = _boxes_at_once(logits, limit) if on_gpu else _boxes(logits, limit)
    parts = [plane[box.slices] for plane, box in zip(logits, boxes, strict=True)]
    return ProbabilityMaps(logits.shape[-1], boxes, _sigmoids(parts))


def _boxes(logits: Array, limit: float) -> list[Box]:
    """The box of each class of what is at least ``limit``: all logits are read once, and columns of the box's rows."""
    highest = _highest(logits, 2)  # (C, n)
    _refuse_nan(highest)
    boxes: list[Box] = []
    for plane, rows in zip(logits, np.asarray(highest >= limit), strict=True):
        tall = box_of(rows[:, None])
        wide = EMPTY
        if tall != EMPTY:
            wide = box_of(np.asarray(_highest(plane[tall.slices[0]], 0) >= limit)[None])
        boxes.append(Box(tall.top, wide.left, tall.bottom, wide.right))
    return boxes


def _boxes_at_once(logits: Any, limit: float) -> list[Box]:
    """As :func:`_boxes`, of a tensor on a GPU: all logits are read twice, and the host waits once."""
    import torch

    both = torch.stack([logits.amax(2), logits.amax(1)]).cpu()  # logits are square
    _refuse_nan(both)
    found = np.asarray(both >= limit)
    boxes = [(box_of(rows[:, None]), box_of(columns[None])) for rows, columns in zip(*found, strict=True)]
    return [Box(tall.top, wide.left, tall.bottom, wide.right) for tall, wide in boxes]


def _refuse_nan(highest: Array) -> None:
    if bool((highest != highest).any()):
        raise DataError("the network outputs NaN; predict with precision=32, or train it again")


def _highest(logits: Array, axis: int) -> Array:
    """The maximum over an axis, on the host."""
    return logits.max(axis) if isinstance(logits, np.ndarray) else logits.amax(axis).cpu()


def _sigmoids(parts: Sequence[Array]) -> list[np.ndarray]:
    """float32[h, w] of each part; those of a device come to the host in one transfer."""
    if all(isinstance(part, np.ndarray) for part in parts):
        with np.errstate(over="ignore"):  # exp of a large number is infinite, and its sigmoid 0
            return [1 / (1 + np.exp(-part)) for part in parts]
    import torch

    values = [torch.sigmoid(part.float()).flatten() for part in parts]
    flat = torch.cat(values).cpu().split([len(one) for one in values])
    return [one.view(part.shape).numpy() for one, part in zip(flat, parts, strict=True)]
