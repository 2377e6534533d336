"""One training computed in two ways, as batches or processes cut it, compared where rounding cannot decide.

In float32 one ReLU or maximum that rounding tips over can decide: over starts, emulated processors and one or two
threads the two ways differed by 4e-7 to 4e-3 of what moved. In float64 they differed by 2e-13 at most.
"""

import torch
from torch import Tensor

from phalanx.tasks.segment import Segment

# steps so small that the second starts where it would without the first, but for what is compared
SGD = {"optim__name": "sgd", "optim__lr": 1e-2, "optim__clip": 0, "augment": "affine"}


class InDouble(Segment):
    """The task with its network in float64."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.network.double()


def start_of(config, records) -> dict[str, Tensor]:
    """The weights before the first step, after the seed 0."""
    torch.manual_seed(0)
    return InDouble(config, records, []).network.state_dict()


def distance(found: dict[str, Tensor], expected: dict[str, Tensor], start: dict[str, Tensor]) -> float:
    """The largest difference between two ends of a training, as a fraction of how far weights moved from their start.

    Raises:
        AssertionError: hardly a weight moved, or the network is not in float64.
    """
    floating = [key for key, value in expected.items() if value.is_floating_point()]
    assert all(weights[key].dtype == torch.float64 for key in floating for weights in (found, expected, start))
    moved = max((expected[key] - start[key]).abs().max().item() for key in floating)
    assert moved > 1e-4  # there is something to agree on
    return max((found[key] - expected[key]).abs().max().item() for key in expected) / moved
