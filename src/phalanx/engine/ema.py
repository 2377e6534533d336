"""Exponential moving average of the weights: what is validated, saved as final and submitted."""

import copy

import torch
from torch import nn


class Average:
    """Average over steps of all weights and floating-point buffers (BatchNorm's among them) of a network.

    The decay at update t is at most (1 + t) / (10 + t), so that early averages are not the random start.
    With ``decay`` 0 the average is the network itself, bit for bit.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.decay = decay
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    def update(self, network: nn.Module, step: int) -> None:
        """Takes in the weights after step number ``step`` (from 1)."""
        decay = min(self.decay, (1 + step) / (10 + step)) if self.decay else 0.0
        blend(self.network, network, 1 - decay)


@torch.no_grad()
def blend(average: nn.Module, network: nn.Module, fraction: float) -> None:
    """Moves an average's weights and floating-point buffers by a fraction to a network's; counters are copied."""
    own, new = average.state_dict(keep_vars=True), network.state_dict(keep_vars=True)
    floating = [key for key, value in own.items() if value.is_floating_point()]
    torch._foreach_lerp_([own[key].data for key in floating], [new[key].data for key in floating], fraction)
    for key in own.keys() - set(floating):
        own[key].copy_(new[key])
