"""The hand-written pass against plain PyTorch in float64: value, gradient, and independence of how a batch is cut."""

import numpy as np
import pytest
import torch

from phalanx.data.planes import pack
from phalanx.losses.area import area_loss, bce_reference, dice_reference
from phalanx.submit import rle


def case(batch=2, classes=11, height=7, width=9, seed=0, dtype=torch.float64, spread=3.0):
    """Logits, planes and dense truth; the classes go from empty over every share to full."""
    rng = np.random.default_rng(seed)
    share = np.linspace(0, 1, classes)[None, :, None, None]
    truth = rng.random((batch, classes, height, width)) < share
    planes = torch.from_numpy(np.stack([pack(stack).transpose(2, 0, 1) for stack in truth]))
    logits = torch.from_numpy(rng.normal(0, spread, truth.shape)).to(dtype)
    return logits.requires_grad_(), planes, torch.from_numpy(truth)


def slow(logits, truth, *, bce, dice):
    """From the definitions: -log of the probability of what is true, and 1 - (2 I + 1)/(S + T + 1)."""
    p = 1 / (1 + torch.exp(-logits))
    y = truth.to(p.dtype)
    cross = -(y * torch.log(p) + (1 - y) * torch.log(1 - p)).mean((2, 3))
    soft = 1 - (2 * (p * y).sum((2, 3)) + 1) / (p.sum((2, 3)) + y.sum((2, 3)) + 1)
    return bce * cross + dice * soft, cross, soft


@pytest.mark.parametrize(("bce", "dice"), [(0.5, 0.5), (1.0, 0.0), (0.0, 1.0), (0.3, 2.0)])
@pytest.mark.parametrize("classes", [1, 8, 11, 29])
def test_value_parts_and_gradient_equal_the_definitions(bce, dice, classes):
    logits, planes, truth = case(classes=classes)
    expected, cross, soft = slow(logits, truth, bce=bce, dice=dice)
    (gradient,) = torch.autograd.grad(expected.mean(), logits)
    found = area_loss(logits, planes, bce=bce, dice=dice)
    found.loss.backward()
    torch.testing.assert_close(found.loss, expected.mean(), rtol=1e-12, atol=0)
    torch.testing.assert_close(found.bce, cross.detach(), rtol=1e-11, atol=0)
    torch.testing.assert_close(found.dice, soft.detach(), rtol=1e-11, atol=0)
    torch.testing.assert_close(logits.grad, gradient, rtol=1e-9, atol=1e-15)
    assert not any(part.requires_grad for part in found[1:])


def test_the_reference_forms_equal_the_definitions():
    logits, _, truth = case()
    _, cross, soft = slow(logits, truth, bce=1, dice=1)
    torch.testing.assert_close(bce_reference(logits, truth.double()), cross)
    torch.testing.assert_close(dice_reference(logits, truth.double()), soft)


def test_gradcheck_by_finite_differences():
    logits, planes, _ = case(batch=1, classes=9, height=3, width=4)
    assert torch.autograd.gradcheck(lambda x: area_loss(x, planes, bce=0.4, dice=0.6).loss, logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_logits_give_finite_values_and_the_right_gradient(dtype):
    """exp overflows and 1 - p vanishes beyond 100: the reference is PyTorch's own stable form in float64."""
    logits, planes, truth = case(spread=120, dtype=dtype)
    wide = logits.detach().double().requires_grad_()
    y = truth.double()
    expected = (0.5 * bce_reference(wide, y) + 0.5 * dice_reference(wide, y)).mean()
    expected.backward()
    found = area_loss(logits, planes, bce=0.5, dice=0.5).loss
    found.backward()
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=0)
    assert logits.grad.dtype == dtype
    rtol = 1e-4 if dtype == torch.float32 else 8e-3
    torch.testing.assert_close(logits.grad.double(), wide.grad, rtol=rtol, atol=1e-9)


@pytest.mark.parametrize("cut", [[1, 1, 1, 1, 1], [2, 3], [4, 1]])
def test_a_batch_cut_into_parts_weighted_by_their_counts_is_the_same(cut):
    logits, planes, _ = case(batch=5)
    whole = area_loss(logits, planes, bce=0.5, dice=0.5).loss
    (gradient,) = torch.autograd.grad(whole, logits)
    total = torch.zeros((), dtype=torch.float64)
    for x, p in zip(logits.split(cut), planes.split(cut), strict=True):
        part = area_loss(x, p, bce=0.5, dice=0.5).loss * len(x) / 5
        part.backward()  # accumulated, as micro-batches do
        total += part.detach()
    torch.testing.assert_close(total, whole.detach(), rtol=1e-13, atol=0)
    torch.testing.assert_close(logits.grad, gradient, rtol=1e-12, atol=0)


def test_the_gradient_is_scaled_by_what_comes_from_above():
    """The loss scaler multiplies by 65536; a retained graph is walked twice."""
    logits, planes, _ = case()
    loss = area_loss(logits, planes, bce=0.5, dice=0.5).loss
    (once,) = torch.autograd.grad(loss, logits, retain_graph=True)
    once = once.clone()
    (scaled,) = torch.autograd.grad(65536 * loss, logits, retain_graph=True)
    torch.testing.assert_close(scaled, 65536 * once)
    loss.backward(retain_graph=True)
    loss.backward()
    torch.testing.assert_close(logits.grad, 2 * once)


def test_hard_dice_is_the_dice_of_scoring():
    logits, planes, truth = case(seed=4)
    with torch.no_grad():
        logits[0, 0] = -1.0  # empty on an empty truth
        logits[1, 0, 0, 0] = 1.0  # false pixel on an empty truth
        logits[0, -1] = 1.0  # full on full
    found = area_loss(logits, planes, bce=0.5, dice=0.5).dice_hard
    for b in range(2):
        for c in range(11):
            runs = [rle.parse(rle.encode(m[b, c].numpy())) for m in (logits.detach() > 0, truth)]
            assert float(found[b, c]) == pytest.approx(rle.dice(*runs), abs=1e-12)


def test_without_gradient_only_the_report_is_made():
    logits, planes, truth = case()
    with torch.no_grad():
        found = area_loss(logits, planes, bce=0.5, dice=0.5)
    expected, *_ = slow(logits.detach(), truth, bce=0.5, dice=0.5)
    torch.testing.assert_close(found.loss, expected.mean())
    assert not found.loss.requires_grad
