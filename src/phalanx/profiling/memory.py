"""Peak memory of a training step, without the memory: the step is played on tensors that have a shape and no data.

Every tensor that the forward and backward make is booked when it is made and when it is dropped. The network is
played at full size; the losses look at values, so they run for real on a small grid and are booked as if it were
the full one, every tensor of theirs growing with the pixels.
"""

import copy
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..config import Config
from ..engine.optim import state_share
from ..losses.stages import StagedLoss
from ..models.build import Network, Output
from ..models.pointrend import Points
from ..models.segmenter import PRIOR_LOGIT
from ..tasks.segment import loss_of

GRID = 32  # side on which the losses run for real
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
# autocast's operations in 32 bit on a GPU that stay in 16 bit on a CPU: they decide what is kept for backward
WIDE = (torch.group_norm, torch.nn.functional.group_norm, torch.layer_norm, torch.nn.functional.layer_norm,
        torch.softmax, torch.nn.functional.softmax)  # fmt: skip


def estimate_step(config: Config, network: Network, *, size: int, batch: int, precision: str, gpu: bool) -> int:
    """Bytes that the tensors of a training step take at their peak: weights, average, optimizer, gradients,
    activations, losses. Not in it: what libraries and a GPU's context take for themselves.

    Args:
        network: of the recipe, in training mode, its frozen stages frozen; it is left as it is.
        precision: 32, bf16 or fp16.
        gpu: keep norms in 32 bit under 16-bit precision, as autocast does on a GPU.
    """
    loss = StagedLoss(config.loss, config.data.classes)
    peaks = [
        _play(config, network, loss, stage, size=size, batch=batch, precision=precision, gpu=gpu)
        for stage in range(len(config.loss.stages))
    ]
    return state_bytes(config, network) + int(max(peaks))


def state_bytes(config: Config, network: nn.Module) -> int:
    """Weights, their averages and the optimizer's moments."""
    weights = sum(value.nbytes for value in network.state_dict().values())
    learning = sum(p.nbytes for p in network.parameters() if p.requires_grad)
    return (3 if config.optim.swa else 2) * weights + int(state_share(config.optim) * learning)


class Ledger(TorchDispatchMode):
    """Books the bytes of every storage made while it is on, until the last tensor on it is dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.live, self.peak, self.scale = 0.0, 0.0, 1.0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            if isinstance(value, Tensor):
                self._book(value.untyped_storage())
        return out

    @contextmanager
    def scaled(self, factor: float) -> Iterator[None]:
        """Books what is made meanwhile as so many times its size."""
        self.scale = factor
        try:
            yield
        finally:
            self.scale = 1.0

    def _book(self, storage: Any) -> None:
        key = storage._cdata
        if key not in self.known:
            size = storage.nbytes() * self.scale
            self.known.add(key)
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: float) -> None:
        self.known.discard(key)
        self.live -= size


class _GpuAutocast(TorchFunctionMode):
    """Raises the inputs of norms and softmax to 32 bit, as autocast on a GPU does and on a CPU does not."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in WIDE:
            args = [a.float() if isinstance(a, Tensor) and a.is_floating_point() else a for a in args]
        return func(*args, **(kwargs or {}))


class _Losses(torch.autograd.Function):
    """Stands between the played network and the losses on their small grid."""

    @staticmethod
    def forward(ctx: Any, run: Any, logits: Tensor, *others: Tensor) -> Tensor:
        ctx.run, ctx.kinds = run, [(value.shape, value.dtype) for value in (logits, *others)]
        run.forward()
        return logits.new_zeros(())

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        ctx.run.backward()
        return None, *(torch.empty(shape, dtype=dtype) for shape, dtype in ctx.kinds)


class _SmallLoss:
    """The losses of a stage on a small grid, forward and backward apart."""

    def __init__(self, ledger: Ledger, loss: StagedLoss, stage: int, output: Output, *, points: int, weighed: bool):
        self.ledger, self.loss, self.stage = ledger, loss, stage
        batch, classes, height, width = output.logits.shape
        self.factor = height * width / GRID**2

        def stand_in(logits: Tensor) -> Tensor:
            side = max(1, GRID * logits.shape[-1] // width)
            return torch.full((batch, classes, side, side), PRIOR_LOGIT, dtype=logits.dtype, requires_grad=True)

        with unset_fake_temporarily(), ledger.scaled(0.0):  # stand-ins for what is booked already
            self.weight = torch.tensor(0.5 if weighed else 1.0)
            self.planes = torch.randint(0, 256, (batch, -(-classes // 8), GRID, GRID), dtype=torch.uint8)
            found = None
            if points:
                few = max(1, round(points / self.factor))
                found = Points(torch.rand(batch, few, 2), torch.zeros(batch, classes, few, requires_grad=True))
            helping = [(weight, stand_in(logits)) for weight, logits in output.auxiliary]
            self.output = Output(stand_in(output.logits), found, helping)

    def forward(self) -> None:
        with unset_fake_temporarily(), self.ledger.scaled(self.factor), torch.enable_grad():
            self.result = loss_of(self.loss, self.stage, self.output, self.planes)

    def backward(self) -> None:
        with unset_fake_temporarily(), self.ledger.scaled(self.factor):
            self.result.total.backward(self.weight)
            del self.result
            for logits in (self.output.logits, *(part for _, part in self.output.auxiliary)):
                logits.grad = None  # a tensor of the full size takes its place


def _play(
    config: Config, network: Network, loss: StagedLoss, stage: int, *, size: int, batch: int, precision: str, gpu: bool
) -> float:
    """Peak bytes over a step's micro-batches, beside weights, average and moments."""
    mode, ledger = FakeTensorMode(), Ledger()
    shadow = played(network, mode)
    points = config.model.pointrend.points if config.model.pointrend else 0
    planes = batch * size * size * -(-len(config.data.classes) // 8)
    weighed = gpu or config.accumulate > 1  # else hand-written gradients are passed on as they are, without a copy
    wide = _GpuAutocast() if gpu and precision != "32" else nullcontext()

    def forward() -> Tensor:
        images = torch.zeros(batch, 1, size, size, dtype=torch.uint8)
        with torch.autocast("cpu", HALVES.get(precision, torch.bfloat16), precision in HALVES), wide:
            output = shadow(images)
        run = _SmallLoss(ledger, loss, stage, output, points=points, weighed=weighed)
        others = [output.points.logits] if output.points else []
        return _Losses.apply(run, output.logits, *others, *(logits for _, logits in output.auxiliary))

    with mode, ledger:
        for _ in range(min(2, config.accumulate)):  # from the second on, gradients are there already
            forward().backward()
    return ledger.peak + planes


def played(network: Network, mode: FakeTensorMode) -> Network:
    """A copy whose weights have shapes and no data, to be used inside ``mode``."""
    with torch.device("meta"):
        shadow = copy.deepcopy(network).to("meta")
    for module in shadow.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(_empty(weight, mode), requires_grad=weight.requires_grad))
        for name, value in list(module.named_buffers(recurse=False)):
            setattr(module, name, _empty(value, mode))
    return shadow


def _empty(value: Tensor, mode: FakeTensorMode) -> Tensor:
    with mode:
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="cpu")
