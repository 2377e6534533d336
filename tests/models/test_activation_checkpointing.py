"""Activation checkpointing: the same bits of gradients and buffers for less memory, on networks of every kind."""

import copy

import pytest
import torch

from phalanx.config import SegmentModel, validate_as
from phalanx.models.build import build

HEAD = {"points": 32, "hidden": 16, "layers": 2, "subdivision_points": 64}


def pair(arch, encoder, **more):
    torch.manual_seed(0)
    values = {"arch": arch, "encoder": encoder, "weights": "none", "pointrend": HEAD, **more}
    plain = build(validate_as(SegmentModel, values), classes=3, size=64)
    torch.manual_seed(0)
    return plain, build(validate_as(SegmentModel, values | {"activation_checkpointing": True}), classes=3, size=64)


def step(network):
    """Bytes that a step keeps for backward, after it has left its gradients."""
    torch.manual_seed(1)
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    images = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits, points, _ = network(images)
    (logits.square().mean() + points.logits.square().mean()).backward()
    return sum(kept.values())


@pytest.mark.parametrize(
    ("arch", "encoder", "more"),
    [
        ("fpn", "efficientnet-b0", {"drop_path": 0.5}),  # draws of drop path and of points are repeated
        ("unet", "tu-test_convnext", {"drop_path": 0.5}),
        ("unetplusplus", "tu-test_efficientnet", {"norm": "batch"}),
        ("deeplabv3plus", "tu-test_resnet", {"norm": "batch"}),
        ("segformer", "mit_b0", {}),
        ("unet", "densenet121", {}),  # its layers share a list that grows
    ],
)
def test_gradients_statistics_and_names_are_the_same_bits_for_less_memory(arch, encoder, more):
    plain, saving = pair(arch, encoder, **more)
    assert list(plain.state_dict()) == list(saving.state_dict())
    saving = copy.deepcopy(saving)  # as the weight average does
    with_all, with_less = step(plain), step(saving)
    assert with_less < 0.6 * with_all
    for (name, a), b in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert (a.grad is None and b.grad is None) or torch.equal(a.grad, b.grad), name
    for (name, a), b in zip(plain.named_buffers(), saving.buffers(), strict=True):
        assert torch.equal(a, b), name  # running statistics were taken once


def test_a_copy_computes_with_its_own_weights():
    _, saving = pair("fpn", "tu-test_efficientnet")
    other = copy.deepcopy(saving)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    images = torch.randint(0, 256, (1, 1, 64, 64), dtype=torch.uint8)
    assert not other(images)[0].any()
    assert saving(images)[0].any()
