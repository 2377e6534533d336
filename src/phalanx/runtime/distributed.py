"""Several processes train one fold (``ddp=true``): who they are, what they add up, how they start."""

import os
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .leftovers import temporary_folder
from .processes import Child, together

TIMEOUT = timedelta(days=2)  # others wait while the first predicts or writes; a process that fails ends all


class Ranks:
    """This process among those that train together: number ``rank`` of ``size``. Alone it is 0 of 1.

    All must call the same methods in the same order.
    """

    def __init__(self) -> None:
        together = dist.is_available() and dist.is_initialized()
        self.rank, self.size = (dist.get_rank(), dist.get_world_size()) if together else (0, 1)
        self.first = self.rank == 0

    def sum(self, *values: float) -> list[float]:
        """Sums over the processes, in double precision."""
        if self.size == 1:
            return list(values)
        mine = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(mine)
        return mine.tolist()

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in one of them."""
        return self.sum(float(flag))[0] > 0

    def any_on_device(self, flag: Tensor) -> Tensor:
        """Whether a flag, bool[] on the device that trains, is set in one of them; the host does not wait for it."""
        if self.size == 1:
            return flag
        found = flag.float()
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return found.bool()

    def sum_on_device(self, value: Tensor) -> Tensor:
        """The sum over the processes of a number, float[] on the device that trains; the host does not wait for it."""
        if self.size == 1:
            return value
        found = value.clone()
        dist.all_reduce(found)
        return found

    def gather(self, value: Any) -> list[Any]:
        """What each of them gives, in their order."""
        found = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(found, value)
        return found

    def barrier(self) -> None:
        """Waits until all are here."""
        self.sum(0.0)

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor], weight: float) -> None:
        """Makes tensors their mean over the processes, each counted by its weight."""
        [total] = self.sum(weight)
        for tensor in tensors if self.size > 1 else ():
            tensor.mul_(weight / total)
            dist.all_reduce(tensor)

    @torch.no_grad()
    def sum_gradients(self, network: nn.Module, share: float) -> None:
        """Adds up the gradients of all processes in one flat buffer, so that each has the step's whole gradient.

        What no process has a gradient for stays without one. BatchNorm's running statistics become the mean over the
        processes.

        Args:
            share: this process's part of the step's images, by which its statistics count.
        """
        if self.size == 1:
            return
        parameters = [p for p in network.parameters() if p.requires_grad]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        missing = [p.grad is None for p in parameters]
        statistics = running_statistics(network)
        counts = torch.tensor(missing, dtype=torch.float32, device=parameters[0].device)
        parts = [*gradients, *(share * s for s in statistics), counts]
        buffer = torch.cat([part.reshape(-1) for part in parts])  # float32 at least, as the counts are
        dist.all_reduce(buffer)
        summed = buffer.split([part.numel() for part in parts])
        targets = [*gradients, *statistics]
        torch._foreach_copy_(targets, [value.view_as(t) for t, value in zip(targets, summed[:-1], strict=True)])
        if any(missing):
            for p, gradient, count in zip(parameters, gradients, summed[-1].tolist(), strict=True):
                p.grad = gradient if count < self.size else None


def running_statistics(network: nn.Module) -> list[Tensor]:
    """Means and variances that BatchNorms in training are gathering."""
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.training and m.running_mean is not None]
    return [s for norm in norms for s in (norm.running_mean, norm.running_var) if s is not None]


def launch(devices: Sequence[str], function: Callable[..., Any], *arguments: Any) -> None:
    """Calls ``function(device, *arguments)`` in a process for each device, with :class:`Ranks` set up, to the end.

    Raises:
        as `processes.together`; one that fails ends all.
    """
    with temporary_folder() as meeting:
        together(
            [
                Child(f"process {rank} on {device}", _rank, rank, list(devices), meeting, function, arguments)
                for rank, device in enumerate(devices)
            ]
        )


def _rank(rank: int, devices: list[str], meeting: Path, function: Callable[..., Any], arguments: tuple) -> None:
    device = torch.device(devices[rank])
    if rank:  # what all would say, the first says
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if device.type == "cuda":
        torch.cuda.set_device(device)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // len(devices)))
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # of this machine alone, and a host's name may not resolve
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
        init_method=(meeting / "store").as_uri(),
        rank=rank,
        world_size=len(devices),
        timeout=TIMEOUT,
    )
    function(devices[rank], *arguments)
