"""A whole training step as a GPU computes it, counted in operations beside that of the plain script."""

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from tests.operations import Operations

from phalanx.config.compose import compose
from phalanx.losses.stages import StagedLoss
from phalanx.masks.planes import pack
from phalanx.models import norm_paths
from phalanx.models.build import build
from phalanx.models.norm_paths import simulated_gpu
from phalanx.tasks.segment import loss_of

SIZE, CLASSES = 64, 32


def plain_step(batch):
    """smp's network with BatchNorm, BCE and smp's Dice of a float target: forward, loss, gradient."""
    network = smp.create_model("fpn", "efficientnet-b3", encoder_weights=None, classes=CLASSES).train()
    images, target = torch.rand(batch, 3, SIZE, SIZE), torch.rand(batch, CLASSES, SIZE, SIZE).round()
    dice, bce = smp.losses.DiceLoss("multilabel"), torch.nn.BCEWithLogitsLoss()
    with Operations() as found:
        logits = network(images)
        (dice(logits, target) + bce(logits, target)).backward()
    return found.total


def our_step(batch, kernels, monkeypatch):
    """The base recipe's network with GroupNorm and points, and the loss of its first stage. Losses are those of whole
    maps by PyTorch, since Triton's do not run here."""
    monkeypatch.setattr(norm_paths, "kernels", lambda: kernels)
    monkeypatch.setattr(norm_paths, "_on_gpu", "module")
    config = compose({"experiment": "base", "model.weights": "none", "data.size": str(SIZE)})
    masks = np.random.default_rng(0).random((batch, CLASSES, SIZE, SIZE)) < 0.3
    planes = torch.from_numpy(np.stack([pack(stack).transpose(2, 0, 1) for stack in masks]))
    images = torch.randint(0, 256, (batch, 1, SIZE, SIZE), dtype=torch.uint8)
    loss = StagedLoss(config.loss, [f"c{i}" for i in range(CLASSES)], "batched")
    with simulated_gpu():
        network = build(config.model, classes=CLASSES, size=SIZE, pretrained=False).train()
        loss_of(loss, 0, network(images), planes)  # which makes constants
        with Operations() as found:
            loss_of(loss, 0, network(images), planes).total.backward()
    return found.total


@pytest.mark.parametrize("kernels", ["torch", "triton"])
def test_a_step_dispatches_no_more_than_the_plain_script_s(kernels, monkeypatch):
    if kernels == "triton":
        pytest.importorskip("triton")
    ours = our_step(2, kernels, monkeypatch)
    assert ours <= plain_step(2)
    assert ours == our_step(3, kernels, monkeypatch)
