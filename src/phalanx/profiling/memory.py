"""Estimates the peak memory of a training step: the step is simulated on tensors that have a shape and no data.

Every tensor of forward and backward is counted when it is allocated and when it is freed. The network is simulated at
full size. The losses depend on values, so they run on a small grid, and the bytes of their tensors are scaled to the
full number of pixels.
"""

import copy
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..config import ClassifyConfig, Config, DetectConfig, SegmentConfig
from ..engine.optim import state_share
from ..losses.segmentation import segmentation_loss
from ..losses.softmax import SoftmaxLoss
from ..losses.stages import StagedLoss
from ..models.activation_checkpointing import recomputed_within
from ..models.build import Network, Output
from ..models.classifier import Classifier
from ..models.detector import Detector
from ..models.norm_paths import simulated_gpu
from ..models.norms import refusing_single_values
from ..models.pointrend import Points
from ..models.segmenter import PRIOR_LOGIT
from ..tasks.segment import loss_of
from .detect import counts_trained, dense_parts, matching_bytes, run_dense

LOSS_SIDE = 32  # side, in pixels, at which the losses run
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
# operations that autocast runs in 32 bit on a GPU and in 16 bit on a CPU; they change what is saved for backward. Norms
# of models/norm_paths.py do not call them on a GPU
FLOAT32_ON_GPU = (torch.group_norm, torch.nn.functional.group_norm, torch.layer_norm, torch.nn.functional.layer_norm,
        torch.softmax, torch.nn.functional.softmax)  # fmt: skip


AnyNetwork = TypeVar("AnyNetwork", bound=nn.Module)


def estimate_step(config: Config, network: nn.Module, *, size: int, batch: int, precision: str, gpu: bool) -> int:
    """Bytes that the tensors of a training step take at their peak: weights, average, optimizer, gradients,
    activations, losses. The memory of libraries and of a GPU's context is not included.

    Args:
        network: of the recipe, in training mode, its frozen stages frozen; not modified. For a GPU it must be built
            on a machine with one or within :func:`simulated_gpu`.
        precision: 32, bf16 or fp16.
        gpu: run norms as on a GPU, and what autocast runs there in 32 bit under 16-bit precision.
    """
    if isinstance(config, ClassifyConfig):
        assert isinstance(network, Classifier)
        peak = _simulate_labels(config, network, size=size, batch=batch, precision=precision, gpu=gpu)
        return state_bytes(config, network) + int(peak)
    if isinstance(config, DetectConfig):
        assert isinstance(network, Detector)
        peak = _simulate_boxes(config, network, size=size, batch=batch, precision=precision, gpu=gpu)
        return state_bytes(config, network) + int(peak)
    assert isinstance(config, SegmentConfig)
    assert isinstance(network, Network)
    loss = segmentation_loss(config, "batched" if gpu else "tiles")
    with refusing_single_values():
        peaks = [
            _simulate(config, network, loss, stage, size=size, batch=batch, precision=precision, gpu=gpu)
            for stage in range(len(config.loss.stages))
        ]
    return state_bytes(config, network) + int(max(peaks))


def state_bytes(config: Config, network: nn.Module) -> int:
    """Bytes of parameters, their averages and the optimizer's moments."""
    weights = sum(value.nbytes for value in network.state_dict().values())
    learning = sum(p.nbytes for p in network.parameters() if p.requires_grad)
    return (3 if config.optim.swa else 2) * weights + int(state_share(config.optim) * learning)


class Ledger(TorchDispatchMode):
    """Counts the bytes of every storage allocated while it is active, until its last tensor is freed."""

    def __init__(self) -> None:
        super().__init__()
        self.live, self.peak, self.scale = 0.0, 0.0, 1.0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            if isinstance(value, Tensor):
                self._count(value.untyped_storage())
        return out

    @contextmanager
    def scaled(self, factor: float) -> Iterator[None]:
        """Books what is made meanwhile as so many times its size."""
        self.scale = factor
        try:
            yield
        finally:
            self.scale = 1.0

    def _count(self, storage: Any) -> None:
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
    """Casts the inputs of transformers' norms and of softmax to 32 bit, as autocast does on a GPU but not on a CPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in FLOAT32_ON_GPU:
            args = [a.float() if isinstance(a, Tensor) and a.is_floating_point() else a for a in args]
        return func(*args, **(kwargs or {}))


class _Losses(torch.autograd.Function):
    """Connects the simulated network to the losses on their small grid."""

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
    """The losses of a loss stage on a small grid, with separate forward and backward."""

    def __init__(self, ledger: Ledger, loss: StagedLoss, stage: int, output: Output, *, points: int, scaled: bool):
        self.ledger, self.loss, self.stage = ledger, loss, stage
        batch, classes, height, width = output.logits.shape
        self.factor = height * width / LOSS_SIDE**2

        def placeholder(logits: Tensor) -> Tensor:
            side = max(1, LOSS_SIDE * logits.shape[-1] // width)
            return torch.full((batch, classes, side, side), PRIOR_LOGIT, dtype=logits.dtype, requires_grad=True)

        with unset_fake_temporarily(), ledger.scaled(0.0):  # placeholders for tensors that are counted already
            self.weight = torch.tensor(0.5 if scaled else 1.0)
            shape, always = (batch, -(-classes // 8), LOSS_SIDE, LOSS_SIDE), torch.Generator().manual_seed(0)
            self.planes = torch.randint(0, 256, shape, dtype=torch.uint8, generator=always)
            if isinstance(loss, SoftmaxLoss):  # whose memory does not depend on the truth
                self.planes.zero_()
            elif loss.path == "batched":  # an eighth is foreground: Lovasz has room for the active pixels of all masks
                for _ in range(2):
                    self.planes &= torch.randint(0, 256, shape, dtype=torch.uint8, generator=always)
            found = None
            if points:
                few = max(1, round(points / self.factor))
                found = Points(torch.rand(batch, few, 2), torch.zeros(batch, classes, few, requires_grad=True))
            auxiliary = [(weight, placeholder(logits)) for weight, logits in output.auxiliary]
            self.output = Output(placeholder(output.logits), found, auxiliary)

    def forward(self) -> None:
        with unset_fake_temporarily(), self.ledger.scaled(self.factor), torch.enable_grad():
            self.result = loss_of(self.loss, self.stage, self.output, self.planes)

    def backward(self) -> None:
        with unset_fake_temporarily(), self.ledger.scaled(self.factor):
            self.result.total.backward(self.weight)
            del self.result
            for logits in (self.output.logits, *(part for _, part in self.output.auxiliary)):
                logits.grad = None  # the simulated network has one of full size


def _simulate(
    config: SegmentConfig,
    network: Network,
    loss: StagedLoss,
    stage: int,
    *,
    size: int,
    batch: int,
    precision: str,
    gpu: bool,
) -> float:
    """Peak bytes of a step's micro-batches, in addition to parameters, average and moments."""
    mode, ledger = FakeTensorMode(), Ledger()
    meta = meta_copy(network, mode)
    points = config.model.pointrend.points if config.model.pointrend else 0
    planes = batch * size * size * -(-len(config.data.classes) // 8)
    scaled = gpu or config.accumulate > 1  # else fused losses pass their gradient on without a copy
    gpu_autocast = _GpuAutocast() if gpu and precision != "32" else nullcontext()
    on_gpu = simulated_gpu() if gpu else nullcontext()

    def forward() -> Tensor:
        images = torch.zeros(batch, 1, size, size, dtype=torch.uint8)
        with torch.autocast("cpu", HALVES.get(precision, torch.bfloat16), precision in HALVES), gpu_autocast:
            output = meta(images)
        run = _SmallLoss(ledger, loss, stage, output, points=points, scaled=scaled)
        others = [output.points.logits] if output.points else []
        return _Losses.apply(run, output.logits, *others, *(logits for _, logits in output.auxiliary))

    # a mode is off within backward, where blocks may be computed again
    with on_gpu, mode, ledger, recomputed_within(lambda: gpu_autocast):
        for _ in range(min(2, config.accumulate)):  # from the second on, gradients are already allocated
            forward().backward()
    return ledger.peak + planes


def _simulate_labels(
    config: ClassifyConfig, network: Classifier, *, size: int, batch: int, precision: str, gpu: bool
) -> float:
    """As :func:`_simulate`. Losses of labels take a few bytes per image and class, whichever they are."""
    mode, ledger = FakeTensorMode(), Ledger()
    meta = meta_copy(network, mode)
    channels = 3 if config.data.colour else 1
    gpu_autocast = _GpuAutocast() if gpu and precision != "32" else nullcontext()

    def forward() -> Tensor:
        images = torch.zeros(batch, channels, size, size, dtype=torch.uint8)
        with torch.autocast("cpu", HALVES.get(precision, torch.bfloat16), precision in HALVES), gpu_autocast:
            logits = meta(images)
        return logits.float().log_softmax(1).mean()

    with simulated_gpu() if gpu else nullcontext(), mode, ledger, recomputed_within(lambda: gpu_autocast):
        for _ in range(min(2, config.accumulate)):  # from the second on, gradients are already allocated
            forward().backward()
    return ledger.peak


def _simulate_boxes(
    config: DetectConfig, network: Detector, *, size: int, batch: int, precision: str, gpu: bool
) -> float:
    """As :func:`_simulate`: the layers with as many samples as a step may have, and what matching anchors takes."""
    mode, ledger = FakeTensorMode(), Ledger()
    meta = meta_copy(network, mode)
    modules = dense_parts(meta)
    gpu_autocast = _GpuAutocast() if gpu and precision != "32" else nullcontext()

    def forward() -> Tensor:
        images = torch.zeros(batch, 1, size, size, dtype=torch.uint8)
        with torch.autocast("cpu", HALVES.get(precision, torch.bfloat16), precision in HALVES), gpu_autocast:
            outputs = run_dense(meta, modules, images, *counts_trained(config, batch))
        return torch.stack([one.float().square().mean() for one in outputs]).sum()

    with simulated_gpu() if gpu else nullcontext(), mode, ledger, recomputed_within(lambda: gpu_autocast):
        for _ in range(min(2, config.accumulate)):  # from the second on, gradients are already allocated
            forward().backward()
    return ledger.peak + matching_bytes(config, size, batch)


def meta_copy(network: AnyNetwork, mode: FakeTensorMode) -> AnyNetwork:
    """A copy whose parameters have shapes and no data, to be used inside ``mode``."""
    with torch.device("meta"):
        meta = copy.deepcopy(network).to("meta")
    for module in meta.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(_empty(weight, mode), requires_grad=weight.requires_grad))
        for name, value in list(module.named_buffers(recurse=False)):
            setattr(module, name, _empty(value, mode))
    return meta


def _empty(value: Tensor, mode: FakeTensorMode) -> Tensor:
    with mode:
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="cpu")
