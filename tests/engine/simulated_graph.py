"""A CUDA graph on a CPU: its replays call what was recorded, and write into the tensors that the recording returned."""

from typing import ClassVar

import torch
from torch.utils import _pytree as pytree

from phalanx.engine.graph import CudaGraph


def tensors(tree):
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


class SimulatedGraph(CudaGraph):
    """Counts what it does in ``told``. A recording computes nothing on a GPU: here its outputs are spoilt."""

    told: ClassVar[list[str]] = []

    def __init__(self, device):
        self.device = device

    def warm_up(self, function):
        function()
        function()

    def record(self, function):
        self.told.append("record")
        self.function, self.result = function, function()
        for leaf in tensors(self.result):
            leaf.fill_(float("nan") if leaf.is_floating_point() else -77)
        return self.result

    def replay(self):
        self.told.append("replay")
        with torch.enable_grad():
            found = self.function()
        for leaf, value in zip(tensors(self.result), tensors(found), strict=True):
            leaf.copy_(value)

    def wait(self):
        self.told.append("drop")
