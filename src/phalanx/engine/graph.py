"""A forward, loss and gradient as a CUDA graph: recorded once, then launched as a whole (``cuda_graphs=true``).

A graph reads and writes the same memory each time. So a batch is copied into it, and what it returns is copied out.
Gradients stay in its memory: each replay overwrites them. As the first of a step they are the parameters' gradients
themselves, later ones are added to a copy. That is how autograd accumulates, and setting gradients to None remains
right. A replay draws what a step without a graph draws, since it reads the generator's seed and offset from memory.

Only one shape has a graph, the first that comes twice; the last, smaller batch of an epoch has none. The graph is
recorded anew if the task's state, such as the loss stage, or what is frozen changes.
"""

import gc
import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..config import Config
from ..errors import TrainingError
from ..runtime.capture import Check, Verdict, recording
from .oom import Statistics, out_of_memory, release
from .task import Batch, Step, Task

SYNCHRONISES = "synchronizing CUDA operation"  # torch's error for a wait, if waits are made errors
Compute = Callable[[Any, float | Tensor], Step]  # of a micro-batch and its weight in the step; adds up gradients
Checked = tuple[Tensor, Callable[[int], Verdict]]  # the value of a check after a replay, and its judge


class CudaGraph:
    """Work of a CUDA device, recorded to be launched again."""

    def __init__(self, device: torch.device):
        self.device, self.graph = device, torch.cuda.CUDAGraph()
        self.stream = torch.cuda.Stream(device, priority=-1)  # streams are reused: this one is not the loader's

    def warm_up(self, function: Callable[[], Any]) -> None:
        """Runs a function as it will be recorded. The second time a wait for the device raises RuntimeError, since a
        recording that fails would leave torch unusable."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            function()  # what libraries allocate at first
            with _waits_refused():
                function()
        current.wait_stream(self.stream)

    def record(self, function: Callable[[], Any]) -> Any:
        """What the function returns: tensors that each replay fills."""
        # the loader's thread copies the next batch meanwhile
        with torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode="thread_local"):
            return function()

    def replay(self) -> None:
        """Launches it."""
        self.graph.replay()

    def wait(self) -> None:
        """Waits for what was launched, before its memory is given back."""
        torch.cuda.synchronize(self.device)


class RecordedStep:
    """A micro-batch's forward, loss and gradient.

    Args:
        graph: a new one.
        compute: as of :class:`Graphs`.
        batch: of the shape to record.

    Raises:
        what ``compute`` does; RuntimeError: it cannot be recorded.
    """

    def __init__(self, graph: CudaGraph, compute: Compute, network: nn.Module, batch: Batch, device: torch.device):
        self.graph, self.compute, self.parameters = graph, compute, list(network.parameters())
        leaves, form = pytree.tree_flatten(batch)
        self.copied = [leaf is not batch.rows and leaf.device.type == device.type for leaf in leaves]
        # what is on the host would stay this batch's for ever, so reading it fails
        own = [leaf.clone() if copied else leaf.to("meta") for leaf, copied in zip(leaves, self.copied, strict=True)]
        self.inputs, self.batch = self._copied(own), pytree.tree_unflatten(own, form)
        self.weight, self.weighs = torch.ones((), dtype=torch.float64, device=device), 1.0
        self.checks: list[Check] = []
        statistics = Statistics(network)
        statistics.save()
        try:
            with torch.random.fork_rng([device] if device.type == "cuda" else []), _no_collection():
                drawn = _host_generators()
                graph.warm_up(self._run)
                if device.type == "cuda" and _host_generators() != drawn:
                    raise NotImplementedError("it draws random numbers on the host")
                self.outputs, self.gradients = graph.record(self._run)
                self.judges = [check.judge for check in self.checks]
        finally:
            statistics.restore()

    @torch.no_grad()
    def __call__(self, batch: Batch, weight: float) -> tuple[Step, list[Checked]]:
        """As ``compute``: gradients are added to those that parameters have. With the checks of this replay."""
        torch._foreach_copy_(self.inputs, self._copied(pytree.tree_leaves(batch)))
        if weight != self.weighs:
            self.weight.fill_(weight)
            self.weighs = weight
        # those of an earlier micro-batch of the step are in the memory that the replay overwrites
        held = [
            before.clone() if before is not None and before is mine else before
            for before, mine in zip(self._taken(), self.gradients, strict=True)
        ]
        self.graph.replay()
        pairs = list(zip(held, self.gradients, strict=True))
        if both := [(before, mine) for before, mine in pairs if before is not None and mine is not None]:
            torch._foreach_add_(*(list(side) for side in zip(*both, strict=True)))
        self._give([mine if before is None else before for before, mine in pairs])
        leaves, form = pytree.tree_flatten(self.outputs)
        copies = [torch.empty_like(leaf) for leaf in leaves]
        torch._foreach_copy_(copies, leaves)
        step, values = pytree.tree_unflatten(copies, form)
        return step, list(zip(values, self.judges, strict=True))

    def _run(self) -> tuple[Any, list[Tensor | None]]:
        """Outputs and the gradient of each parameter; parameters keep the gradients they had."""
        before = self._taken()
        self._give([None] * len(before))
        try:
            with recording() as self.checks:
                step = self.compute(self.batch, self.weight)
            return (step, [check.value for check in self.checks]), self._taken()
        finally:
            self._give(before)

    def _taken(self) -> list[Tensor | None]:
        return [parameter.grad for parameter in self.parameters]

    def _give(self, gradients: list[Tensor | None]) -> None:
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient

    def _copied(self, leaves: list[Tensor]) -> list[Tensor]:
        """Those of a batch's tensors that are copied into the graph's memory."""
        return [leaf for leaf, copied in zip(leaves, self.copied, strict=True) if copied]


class Graphs:
    """Steps of one shape as graphs, if ``cuda_graphs`` asks for them and nothing speaks against it.

    Args:
        compute: forward, loss and gradient of a micro-batch with a weight, whose outputs are detached.
        report: called with why there is no graph, once.
    """

    def __init__(
        self,
        config: Config,
        task: Task,
        network: nn.Module,
        device: torch.device,
        compute: Compute,
        report: Callable[[str], None],
    ):
        self.task, self.network, self.device, self.compute, self.report = task, network, device, compute, report
        self.on, self.obstacle = config.cuda_graphs, obstacle(config, device)
        self.parameters, self.modules = list(network.parameters()), list(network.modules())
        self.situation: Any = None
        self.seen: Counter[Any] = Counter()  # shapes
        self.shape: Any = None  # of the graph
        self.recorded: RecordedStep | None = None
        self.pending: list[Checked] = []

    def __call__(self, batch: Batch, weight: float) -> Step | None:
        """The step of a micro-batch as ``compute`` gives it; None if it is to be computed without a graph."""
        if not self.on:
            return None
        if self.obstacle is not None:
            self.stop(self.obstacle)
            return None
        self._look()
        shape = tuple((leaf.shape, leaf.stride(), leaf.dtype) for leaf in pytree.tree_leaves(batch))
        self.seen[shape] += 1
        if self.shape is None and self.seen[shape] > 1:
            self.shape = shape
        if shape != self.shape:
            return None
        if self.recorded is None:
            try:
                graph = graph_on(self.device)
                self.recorded = RecordedStep(graph, self.compute, self.network, batch, self.device)
            except RuntimeError as error:
                self.stop(_reason(error))
            if self.recorded is None:
                release()
                return None
        step, checked = self.recorded(batch, weight)
        self.pending += checked
        return step

    def settle(self) -> bool:
        """Whether all replays since :meth:`forget` were right. Only if they have checks, the host waits for them."""
        if not self.pending:
            return True
        numbers = torch.stack([value for value, _ in self.pending]).tolist()
        verdicts = {judge(number) for number, (_, judge) in zip(numbers, self.pending, strict=True)}
        self.forget()
        if verdicts != {"right"}:
            self.drop()
        return "wrong" not in verdicts

    def forget(self) -> None:
        """Leaves replays unchecked, of a step that is given up."""
        self.pending = []

    def drop(self) -> None:
        """Gives back the memory of the graph, which is recorded again at its next step."""
        if self.recorded is not None:
            self.recorded.graph.wait()
            self.recorded = None

    def stop(self, reason: str) -> None:
        """Goes on without graphs from here on."""
        if self.on:
            self.on = False
            self.report(f"cuda_graphs=true: steps are computed without graphs, since {reason}")
        self.drop()

    def _look(self) -> None:
        """Drops the graph if it is of another situation."""
        training = tuple(module.training for module in self.modules)
        learning = tuple(parameter.requires_grad for parameter in self.parameters)
        situation = repr(self.task.state_dict()), training, learning
        if situation != self.situation:
            self.drop()
            self.situation, self.shape = situation, None
            self.seen.clear()


def obstacle(config: Config, device: torch.device) -> str | None:
    """Why a training can have no graphs; None if it can."""
    if device.type != "cuda":
        return f"this run trains on {device}, which has none"
    if config.model.activation_checkpointing:
        return "model.activation_checkpointing=true sets the generator of random numbers back, which none can"
    return None


def graph_on(device: torch.device) -> CudaGraph:
    """A graph without work."""
    return CudaGraph(device)


def _reason(error: RuntimeError) -> str:
    """Why a step was not recorded.

    Raises:
        TrainingError: CUDA has begun to record it and failed.
    """
    text = " ".join(str(error).split())[:200]
    if out_of_memory(error):
        return "memory does not suffice for one"
    if isinstance(error, NotImplementedError) or SYNCHRONISES in text:
        return f"a step needs the host ({text})"
    raise TrainingError(
        f"cuda_graphs=true: CUDA could not record a step ({type(error).__name__}: {text}). Nothing is lost: the same "
        "command continues with cuda_graphs=false"
    ) from None


@contextmanager
def _waits_refused() -> Iterator[None]:
    """Waits for the device raise RuntimeError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this is a prototype of torch's
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Collects garbage first, such as an old step's graph of autograd, and none until the end of this."""
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _host_generators() -> tuple[bytes, Any]:
    return torch.get_rng_state().numpy().tobytes(), random.getstate()
