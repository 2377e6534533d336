"""Optimizers and the learning rate as a pure function of the step."""

import math

import torch
from torch import nn

from ..config import Optim


def build_optimizer(network: nn.Module, config: Optim, stages: dict[str, int] | None = None) -> torch.optim.Optimizer:
    """The optimizer of a configuration. Norms, biases and other vectors get no weight decay.

    Each group has a ``scale``, the factor of its learning rate: 1, and with ``layer_decay`` d at stage s of n encoder
    stages d^(n + 1 - s), so that the last stage learns at d of the decoder's rate (Clark et al., 2020, by stage).

    Args:
        stages: encoder stage by parameter name (`models.depth.encoder_stages`), where there is a layer decay.
    """
    stages = stages or {}
    deepest = max(stages.values(), default=0)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {(1.0, True): [], (1.0, False): []}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            scale = config.layer_decay ** (deepest + 1 - stages[name]) if name in stages else 1.0
            groups.setdefault((scale, parameter.ndim > 1), []).append(parameter)
    settings = [
        {"params": parameters, "weight_decay": config.weight_decay if matrix else 0.0, "scale": scale}
        for (scale, matrix), parameters in sorted(groups.items(), key=lambda item: item[0], reverse=True)
    ]
    if config.name == "sgd":
        return torch.optim.SGD(settings, lr=config.lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(settings, lr=config.lr)


def scales(optimizer: torch.optim.Optimizer) -> list[float]:
    """Factors of the learning rate, from the decoder's 1 to that of the encoder's first stage."""
    return sorted({group["scale"] for group in optimizer.param_groups}, reverse=True)


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
