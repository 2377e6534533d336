"""Stochastic weight averaging: the mean of the weights at the end of the last epochs (Izmailov et al., 2018)."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..runtime.distributed import Ranks, running_statistics
from .ema import blend


class WeightMean:
    """Plain mean of weights; of BatchNorm's statistics too, until they are estimated for the mean."""

    def __init__(self, network: nn.Module):
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    def add(self, network: nn.Module, count: int) -> None:
        """Takes in the weights of a network as number ``count`` (from 1)."""
        blend(self.network, network, 1 / count)


@torch.no_grad()
def estimate_norms(
    network: nn.Module,
    like: nn.Module,
    batches: Iterable[Any],
    step: Callable[[Any], Any],
    ranks: Ranks | None = None,
) -> None:
    """Gives a network's BatchNorm layers the statistics of the batches under its weights as they are.

    The statistics of a mean of weights are not the mean of their statistics. Other norms have none: without
    BatchNorm no batch is asked for.

    Args:
        like: the network as it trained; layers in evaluation mode there, of frozen stages, keep their statistics.
        step: the forward pass of a batch.
        ranks: the processes that train together; each goes over its own batches.
    """
    learning = {name for name, module in like.named_modules() if module.training}
    norms = [m for name, m in network.named_modules() if name in learning and isinstance(m, _BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # which means a plain mean over the batches
        norm.train()
    count = 0
    for count, batch in enumerate(batches, start=1):  # noqa: B007
        step(batch)
    (ranks or Ranks()).average(running_statistics(network), count)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
