"""Optimizers and the learning rate as a pure function of the step."""

import math

import torch
from torch import nn

from ..config import Optim


def build_optimizer(network: nn.Module, config: Optim) -> torch.optim.Optimizer:
    """The optimizer of a configuration. Norms, biases and other vectors get no weight decay."""
    matrices = [p for p in network.parameters() if p.requires_grad and p.ndim > 1]
    vectors = [p for p in network.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=config.lr)


def rate(config: Optim, step: int, steps: int) -> float:
    """Learning rate of step number ``step`` (from 0) of ``steps``: linear warm-up, then a cosine.

    >>> optim = Optim(lr=1.0, warmup=0.5, min_lr=0.0)
    >>> [round(rate(optim, step, 4), 2) for step in range(4)]
    [0.5, 1.0, 1.0, 0.5]
    """
    warm = round(config.warmup * steps)
    if step < warm:
        return config.lr * (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    return config.lr * (config.min_lr + (1 - config.min_lr) * (1 + math.cos(math.pi * done)) / 2)
