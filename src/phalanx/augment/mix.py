"""Mixup and CutMix of a batch of images, with their labels, by timm."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from ..config.classify_loss import Mix
from ..models.libraries import without_wandb


class Mixer:
    """Mixes each image of a batch with another one of it, the first with the last, the second with the one before.

    timm draws from numpy's global generator. Its state is set by the seed of torch for the draw and restored after it.
    The engine sets that seed for each batch of a step, so a step draws the same numbers whatever was drawn before. An
    odd batch leaves its last image as it is.
    """

    def __init__(self, options: Mix):
        with without_wandb():
            from timm.data.mixup import Mixup
        self._kind, self.options = Mixup, options

    def __call__(self, images: Tensor, labels: Tensor, seed: int | None = None) -> tuple[Tensor, Tensor]:
        """New images and labels; those that are given stay as they are.

        Args:
            images: float[B, ch, H, W].
            labels: float[B, C], NaN if missing. A mixed label is missing if either of its two is.
            seed: of the draw; by default that which torch was last seeded with.
        """
        images, pairs = images.clone(), len(images) // 2 * 2
        if pairs == 0:
            return images, labels.clone()
        options = self.options
        mixup = self._kind(
            mixup_alpha=options.mixup_alpha, cutmix_alpha=options.cutmix_alpha, prob=options.prob,
            switch_prob=0.5 if options.switch_prob is None else options.switch_prob, label_smoothing=0.0,
            num_classes=pairs,
        )  # fmt: skip
        with _numpy_seed(torch.initial_seed() if seed is None else seed):
            # each image as a class of its own: timm's soft targets are then how much of each image is in each
            _, parts = mixup(images[:pairs], torch.arange(pairs, device=images.device))
        return images, torch.cat([_mixed_labels(labels[:pairs], parts), labels[pairs:]])


def _mixed_labels(labels: Tensor, parts: Tensor) -> Tensor:
    """Labels [B, C] mixed by parts float[B, B], of which an image has two at most: itself and the one opposite."""
    own = parts.diagonal()[:, None].to(labels.dtype)
    other = labels.flip(0)
    return torch.where(own == 1, labels, torch.where(own == 0, other, own * labels + (1 - own) * other))


@contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    state = np.random.get_state()  # noqa: NPY002 - the generator that timm draws from
    np.random.seed(np.random.SeedSequence(seed).generate_state(4))  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
