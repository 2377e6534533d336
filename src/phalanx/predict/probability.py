"""Probabilities of one network on a batch of images, averaged over test-time augmentation."""

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
import ttach
from torch import Tensor
from ttach.base import Transformer

from ..errors import DataError
from .maps import FLOOR, NOTHING, SLACK, Box, Maps, Total, box_of, reordered


class Predicts(Protocol):
    """A network, or one that is told of the patients."""

    def predict(self, images: Tensor) -> Tensor:
        """uint8[B, 1, S, S] to logits float32[B, C, S, S]."""
        ...


class View(NamedTuple):
    """One way to look at an image. ``mirrored``: left and right change places."""

    transform: Transformer
    mirrored: bool


def views_of(tta: Sequence[str]) -> list[View]:
    """The views of test-time augmentation, the unchanged one first.

    Args:
        tta: ``hflip`` and ``vflip`` add mirrored views, ``rotate`` those turned by 90, 180 and 270 degrees. All
            combinations are taken, each once: a vertical mirror is a horizontal one turned by 180 degrees.
    """
    flips = [name for name in ("hflip", "vflip") if name in tta]
    if "rotate" in tta:
        flips = flips[:1]
    kinds = {"hflip": ttach.HorizontalFlip, "vflip": ttach.VerticalFlip}
    turns = [ttach.Rotate90([0, 90, 180, 270])] if "rotate" in tta else []
    every = ttach.Compose([kinds[name]() for name in flips] + turns)
    mirrored = [sum(p is True for p in chosen) % 2 == 1 for chosen in every.aug_transform_parameters]
    return [View(transform, flag) for transform, flag in zip(every, mirrored, strict=True)]


def probabilities(
    network: Predicts,
    images: Tensor,
    views: Sequence[View],
    pairs: Sequence[tuple[int, int]] = (),
    floor: float = FLOOR,
) -> list[Maps]:
    """Maps of each of uint8[B, 1, S, S].

    Each view is turned back, its left and right classes exchanged where it was mirrored, before averaging.

    Args:
        pairs: classes that a mirror exchanges.
        floor: as :func:`crop`.

    Raises:
        DataError: the network gives NaN.
    """
    totals: list[Total] = []
    for view in views:
        logits = network.predict(view.transform.augment_image(images))
        totals = totals or [Total(images.shape[-1], logits.shape[1]) for _ in images]
        for total, one in zip(totals, logits, strict=True):
            maps = crop(view.transform.deaugment_mask(one[None])[0], floor)
            total.add(reordered(maps, pairs) if view.mirrored else maps)
    return [total.over(len(views)) for total in totals]


def crop(logits: Tensor, floor: float = FLOOR) -> Maps:
    """Maps of logits float32[C, n, n] on any device: each class inside the box where its probability reaches ``floor``.

    One pass looks at all logits; sigmoids, and the way from the device to the host, are for the boxes alone.

    Raises:
        DataError: NaN among the logits.
    """
    share = floor * (1 - SLACK)
    limit = math.log(share / (1 - share)) - 1e-4 if floor > 0 else -math.inf  # less than it, for what rounds
    highest = logits.amax(2).cpu()  # (C, n)
    if highest.isnan().any():
        raise DataError("the network gives NaN; try precision=32, or train it again")
    boxes: list[Box] = []
    for plane, rows in zip(logits, (highest >= limit).numpy(), strict=True):
        tall = box_of(rows[:, None])
        wide = box_of((plane[tall.slices[0]].amax(0) >= limit).cpu().numpy()[None]) if tall != NOTHING else NOTHING
        boxes.append(Box(tall.top, wide.left, tall.bottom, wide.right))
    parts = [torch.sigmoid(plane[box.slices].float()).flatten() for plane, box in zip(logits, boxes, strict=True)]
    flat = torch.cat(parts).cpu().split([len(part) for part in parts])
    values = [one.view(box.shape).numpy() for one, box in zip(flat, boxes, strict=True)]
    return Maps(logits.shape[-1], boxes, values)
