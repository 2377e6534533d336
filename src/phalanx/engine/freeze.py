"""Encoder stages that rest: their weights and statistics stay while what lies behind them learns."""

from torch import nn

from ..config import Freeze
from ..errors import ConfigError


def check_freeze(config: Freeze, stages: dict[str, int]) -> None:
    """Refuses more stages than the encoder has."""
    deepest = max(stages.values())
    if config.stages > deepest:
        raise ConfigError(f"optim.freeze.stages={config.stages}: this encoder has {deepest} stages")


def freeze(network: nn.Module, config: Freeze, stages: dict[str, int], epoch: int) -> None:
    """Brings a network in training mode into the state that ``epoch`` (from 0) asks for, whatever it was in.

    Parts all of whose weights rest are put into evaluation mode: BatchNorm keeps and uses its running statistics,
    and drop path leaves nothing out. Unfrozen weights enter the optimizer as new ones do, without moments.

    Args:
        stages: encoder stage by parameter name, as `models.depth.encoder_stages` finds it.
    """
    resting = config.epochs is None or epoch < config.epochs
    for name, parameter in network.named_parameters():
        if name in stages:
            parameter.requires_grad_(not (resting and stages[name] <= config.stages))
    for module in network.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()
