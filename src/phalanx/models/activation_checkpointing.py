"""Activation checkpointing (Chen et al., 2016): blocks keep their input alone and are computed again for backward.

Gradients are the same bits on a CPU, random draws repeated and BatchNorm's running statistics taken once. A block's
class is exchanged, not the module, so weights keep their names, copies work, and a run may switch it at any time.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def recompute_blocks(network: nn.Module) -> int:
    """Makes every block below ``network`` forget what it computed until backward; returns their number.

    A block is the smallest member of a list of modules that holds two or more convolutions or matrices: a residual
    block, an attention layer, a stage of a decoder.
    """
    blocks = list(_blocks(network, member=False))
    for block in blocks:
        plain = type(block)
        block.__class__ = type(plain.__name__, (_Recomputed, plain), {})
    return len(blocks)


class _Recomputed(nn.Module):
    def forward(self, *arguments: Any, **options: Any) -> Any:
        forward = super().forward
        if not (self.training and torch.is_grad_enabled()):
            return forward(*arguments, **options)
        given = [list(a) if isinstance(a, list) else a for a in arguments]  # DenseNet's list grows meanwhile
        return checkpoint(forward, *given, use_reentrant=False, context_fn=partial(_contexts, self), **options)


def _contexts(block: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    return nullcontext(), _again(block)


@contextmanager
def _again(block: nn.Module) -> Iterator[None]:
    """The second time, running statistics are not taken from the same batch once more."""
    norms = [m for m in block.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


def _blocks(module: nn.Module, member: bool) -> Iterator[nn.Module]:
    inner = [block for child in module.children() for block in _blocks(child, isinstance(module, CONTAINERS))]
    if inner:
        yield from inner
    elif member and not isinstance(module, CONTAINERS) and sum(p.ndim > 1 for p in module.parameters()) > 1:
        yield module
