"""Frozen encoder stages: their weights and statistics do not change while later layers learn."""

from torch import nn

from ..config import Freeze
from ..errors import ConfigError


def check_freeze(config: Freeze, stages: dict[str, int]) -> None:
    """Refuses more stages than the encoder has."""
    deepest = max(stages.values())
    if config.stages > deepest:
        raise ConfigError(f"optim.freeze.stages={config.stages}: this encoder has {deepest} stages")


def freeze(network: nn.Module, config: Freeze, stages: dict[str, int], epoch: int) -> None:
    """Freezes and unfreezes a network in training mode as ``epoch`` (from 0) requires, whatever its state was.

    Modules all of whose weights are frozen are put into evaluation mode: BatchNorm uses its running statistics
    unchanged, and drop path drops nothing. Unfrozen weights enter the optimizer without moments, as new ones do.

    Args:
        stages: encoder stage by parameter name, as `models.encoder_stages.encoder_stages` finds it.
    """
    frozen = config.epochs is None or epoch < config.epochs
    for name, parameter in network.named_parameters():
        if name in stages:
            parameter.requires_grad_(not (frozen and stages[name] <= config.stages))
    for module in network.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()
