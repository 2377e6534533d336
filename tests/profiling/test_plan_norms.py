"""The memory that norms save on a GPU, in the plan and in a step of real tensors that takes the GPU's path."""

import pytest
import torch

from phalanx.config.compose import compose, split_words
from phalanx.losses.stages import StagedLoss
from phalanx.models import norm_paths
from phalanx.models.build import build
from phalanx.models.norm_paths import simulated_gpu
from phalanx.profiling.memory import Ledger, estimate_step, state_bytes
from phalanx.tasks.segment import loss_of


@pytest.fixture
def config(tiny):
    return compose(split_words(tiny("fpn", name="r", batch=2, loss="bce_dice")))


def network(config, *, gpu):
    torch.manual_seed(0)
    if not gpu:
        return build(config.model, classes=29, size=64)
    with simulated_gpu():
        return build(config.model, classes=29, size=64)


def choose(monkeypatch, kind):
    if kind == "triton":
        pytest.importorskip("triton")
    monkeypatch.setattr(norm_paths, "kernels", lambda: kind)
    monkeypatch.setattr(norm_paths, "_on_gpu", "module")


def estimated(config, net):
    whole = estimate_step(config, net, size=64, batch=2, precision="bf16", gpu=True)
    return whole - state_bytes(config, net)


def counted(config, net):
    """Of a real step, tensors on the CPU."""
    loss, peaks = StagedLoss(config.loss, config.data.classes), []
    for stage in range(len(config.loss.stages)):
        net.zero_grad(set_to_none=True)
        with Ledger() as ledger, simulated_gpu():
            images = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
            planes = torch.randint(0, 256, (2, 4, 64, 64), dtype=torch.uint8)
            with torch.autocast("cpu", torch.bfloat16):
                output = net(images)
            (loss_of(loss, stage, output, planes).total * 0.5).backward()
        peaks.append(ledger.peak)
    return max(peaks)


def test_fused_norms_save_what_the_estimate_says(config, monkeypatch):
    """The losses of both are the same, and on a CPU counted otherwise than on a GPU: differences are compared."""
    estimates, counts = [estimated(config, network(config, gpu=False))], []
    for kind in ("torch", "triton"):
        choose(monkeypatch, kind)
        net = network(config, gpu=True)
        estimates.append(estimated(config, net))
        counts.append(counted(config, net))
    autocast, pytorch, fused = estimates
    assert fused < 0.95 * pytorch < 0.9 * autocast
    assert pytorch - fused == pytest.approx(counts[0] - counts[1], rel=0.01)
