"""Exponential moving average of the weights: what is validated, saved as final and submitted."""

import copy
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn


class Average:
    """Average over steps of all weights and floating-point buffers (BatchNorm's among them) of a network.

    The decay at update t is at most (1 + t) / (10 + t), so that early averages are not the random start.
    With ``decay`` 0 the average is the network itself, bit for bit.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.decay = decay
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._pairs: tuple[nn.Module, Pairs] | None = None  # of the network that was taken in last

    def update(self, network: nn.Module, step: int, skip: Tensor | None = None) -> None:
        """Takes in the weights after step number ``step`` (from 1).

        Args:
            skip: bool[] on the network's device; if it is set there, the average remains as it is.
        """
        if self._pairs is None or self._pairs[0] is not network:
            self._pairs = network, Pairs.of(self.network, network)
        decay = min(self.decay, (1 + step) / (10 + step)) if self.decay else 0.0
        self._pairs[1].blend(1 - decay, skip)


class Pairs(NamedTuple):
    """The tensors of an average and, in the same order, those of a network.

    They are those of the modules themselves, which a training step, loading a state and compilation change in place, so
    that they need not be looked up again.
    """

    own: list[Tensor]
    new: list[Tensor]
    own_counters: list[Tensor]
    new_counters: list[Tensor]

    @classmethod
    def of(cls, average: nn.Module, network: nn.Module) -> Self:
        """Pairs by name."""
        own, new = average.state_dict(keep_vars=True), network.state_dict(keep_vars=True)
        floating = [key for key, value in own.items() if value.is_floating_point()]
        counters = [key for key in own if key not in set(floating)]
        return cls(*([found[key] for key in keys] for keys in (floating, counters) for found in (own, new)))

    @torch.no_grad()
    def blend(self, fraction: float, skip: Tensor | None = None) -> None:
        """Moves weights and floating-point buffers by a fraction to the network's; counters are copied.

        Args:
            skip: as in :meth:`Average.update`.
        """
        if skip is None:
            torch._foreach_lerp_(self.own, self.new, fraction)
            if self.own_counters:
                torch._foreach_copy_(self.own_counters, self.new_counters)
            return
        moved = torch._foreach_lerp(self.own, self.new, fraction)
        _choose(skip, self.own, list(moved))
        _choose(skip, self.own_counters, [counter.clone() for counter in self.new_counters])


def _choose(skip: Tensor, own: list[Tensor], new: list[Tensor]) -> None:
    """Sets finite tensors to new ones, which are lost, unless ``skip`` is set, without a wait for it."""
    for kind in {tensor.dtype for tensor in own}:
        targets, values = [[t for t in found if t.dtype == kind] for found in (own, new)]
        torch._foreach_mul_(targets, skip.to(kind))
        torch._foreach_mul_(values, (~skip).to(kind))
        torch._foreach_add_(targets, values)


def blend(average: nn.Module, network: nn.Module, fraction: float) -> None:
    """Moves an average's weights and floating-point buffers by a fraction to a network's; counters are copied."""
    Pairs.of(average, network).blend(fraction)
