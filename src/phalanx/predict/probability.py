"""Probabilities of one network on a batch of images, averaged over test-time augmentation."""

from collections.abc import Sequence

import torch
import ttach
from torch import Tensor

from ..models.build import Network
from ..models.film import Informed


def probabilities(
    network: Network | Informed, images: Tensor, tta: Sequence[str] = (), pairs: Sequence[tuple[int, int]] = ()
) -> Tensor:
    """Images uint8[B, 1, S, S] to probabilities float32[B, C, S, S].

    Each view is turned back, its left and right classes exchanged where it was mirrored, before averaging.

    Args:
        tta: ``hflip`` adds the mirrored view.
        pairs: classes that a mirror exchanges.
    """
    views = ttach.Compose([ttach.HorizontalFlip()] if "hflip" in tta else [])
    total: Tensor | None = None
    for number, view in enumerate(views):
        maps = view.deaugment_mask(torch.sigmoid(network.predict(view.augment_image(images))))
        if number and pairs:  # ttach gives the unchanged view first
            maps = maps[:, mirrored(maps.shape[1], pairs)]
        total = maps if total is None else total + maps
    assert total is not None  # Compose of nothing still holds the unchanged view
    return total / len(views)


def mirrored(classes: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """The class order after a mirror.

    >>> mirrored(4, [(0, 2)])
    [2, 1, 0, 3]
    """
    order = list(range(classes))
    for a, b in pairs:
        order[a], order[b] = b, a
    return order
