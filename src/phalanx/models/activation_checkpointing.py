"""Activation checkpointing (Chen et al., 2016): a block saves its input only and is recomputed for backward.

On a CPU gradients are bit-identical: random draws are repeated, and BatchNorm updates its running statistics once. The
class of a block is changed, not the module. So parameters keep their names, copies work, and a run may switch at any
time.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_context: Callable[[], AbstractContextManager] = nullcontext  # of every recomputation


def checkpoint_blocks(network: nn.Module) -> int:
    """Turns on checkpointing for every block below ``network``; returns the number of blocks.

    A block is the smallest member of a list of modules that contains two or more convolutions or matrices: a residual
    block, an attention layer, a block of a decoder.
    """
    blocks = list(_blocks(network, member=False))
    for block in blocks:
        plain = type(block)
        block.__class__ = type(plain.__name__, (_Checkpointed, plain), {})
    return len(blocks)


@contextmanager
def recomputed_within(context: Callable[[], AbstractContextManager]) -> Iterator[None]:
    """Until the end of this, blocks are computed again within such a context: what was on in forward, such as a
    function mode of torch, is off in backward."""
    global _context
    before, _context = _context, context
    try:
        yield
    finally:
        _context = before


class _Checkpointed(nn.Module):
    def forward(self, *arguments: Any, **options: Any) -> Any:
        forward = super().forward
        if not (self.training and torch.is_grad_enabled()):
            return forward(*arguments, **options)
        inputs = [list(a) if isinstance(a, list) else a for a in arguments]  # DenseNet appends to its list later
        return checkpoint(forward, *inputs, use_reentrant=False, context_fn=partial(_contexts, self), **options)


def _contexts(block: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    return nullcontext(), _frozen_statistics(block)


@contextmanager
def _frozen_statistics(block: nn.Module) -> Iterator[None]:
    """During recomputation BatchNorm does not update its running statistics a second time."""
    norms = [m for m in block.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    saved = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        with _context():
            yield
    finally:
        for norm, (momentum, count) in zip(norms, saved, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


def _blocks(module: nn.Module, member: bool) -> Iterator[nn.Module]:
    inner = [block for child in module.children() for block in _blocks(child, isinstance(module, CONTAINERS))]
    if inner:
        yield from inner
    elif member and not isinstance(module, CONTAINERS) and sum(p.ndim > 1 for p in module.parameters()) > 1:
        yield module
