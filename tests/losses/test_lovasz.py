"""The Lovasz hinge against its authors' few lines (Berman et al., 2018), in float64, per image and class."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from phalanx.losses.lovasz import lovasz_loss
from phalanx.masks.planes import pack


def berman_gradient(sorted_truth):
    """Differences of neighbouring Jaccard losses along the sorted errors."""
    total = sorted_truth.sum()
    intersection = total - sorted_truth.cumsum(0)
    union = total + (1 - sorted_truth).cumsum(0)
    jaccard = 1 - intersection / union
    return torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])


def berman(logits, truth):
    """float64[N] and bool[N] to the binary Lovasz hinge."""
    y = truth.double()
    errors = 1 - logits * (2 * y - 1)
    errors, order = torch.sort(errors, descending=True)
    return torch.dot(F.relu(errors), berman_gradient(y[order]))


def slow(logits, truth):
    """Mean over images and classes, each on its own."""
    parts = torch.stack([torch.stack([berman(x.flatten(), y.flatten()) for x, y in zip(*pair, strict=True)])
                         for pair in zip(logits, truth, strict=True)])  # fmt: skip
    return parts.mean(), parts


def planes_of(truth):
    return torch.from_numpy(np.stack([pack(stack).transpose(2, 0, 1) for stack in truth.numpy()]))


def case(batch=2, classes=11, side=13, seed=0, spread=1.5):
    """Foreground fractions from 0 to 1 by class."""
    rng = np.random.default_rng(seed)
    share = np.linspace(0, 1, classes)[None, :, None, None]
    truth = torch.from_numpy(rng.random((batch, classes, side, side)) < share)
    return torch.from_numpy(rng.normal(0, spread, truth.shape)).requires_grad_(), truth


@pytest.mark.parametrize("spread", [0.1, 1.5, 500.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_value_and_gradient_equal_the_authors(spread, seed):
    logits, truth = case(seed=seed, spread=spread)
    expected, parts = slow(logits, truth)
    (gradient,) = torch.autograd.grad(expected, logits)
    found, found_parts = lovasz_loss(logits, planes_of(truth))
    found.backward()
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(found_parts, parts.detach(), rtol=1e-9, atol=1e-15)
    torch.testing.assert_close(logits.grad, gradient, rtol=1e-9, atol=1e-14 * float(gradient.abs().max()))


def test_empty_and_full_masks_by_hand():
    """In an empty mask only the largest error counts; in a full one every error counts 1/N."""
    logits = torch.tensor([-3.0, 0.5, 2.0, -0.5], dtype=torch.float64).view(1, 1, 2, 2).requires_grad_()
    empty, full = torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.ones(1, 1, 2, 2, dtype=torch.uint8)
    value, _ = lovasz_loss(logits, empty)
    assert value.item() == 3.0
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient.flatten().tolist() == [0, 0, 1, 0]
    value, _ = lovasz_loss(logits, full)
    assert value.item() == (4 + 0.5 + 0 + 1.5) / 4
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient.flatten().tolist() == [-0.25, -0.25, 0, -0.25]


def test_beyond_the_margin_loss_and_gradient_are_zero():
    _, truth = case()
    logits = torch.where(truth, 2.0, -2.0).requires_grad_()
    value, parts = lovasz_loss(logits, planes_of(truth))
    value.backward()
    assert value.item() == 0
    assert not parts.any()
    assert not logits.grad.any()


@pytest.mark.parametrize("share", [0.001, 0.3])
def test_the_float32_gradient_is_exact_at_a_million_pixels(share):
    """Differences of neighbouring Jaccards in float32 are wrong by percents there."""
    rng = np.random.default_rng(0)
    truth = torch.from_numpy(rng.random((1, 1, 1024, 1024)) < share)
    # distinct values: the order of ties is free, and another order has another gradient
    values = np.linspace(-2, 2, 1 << 20, dtype=np.float32)
    logits = torch.from_numpy(rng.permutation(values).reshape(1, 1, 1024, 1024)).requires_grad_()
    with torch.no_grad():
        signs = torch.where(truth, 1.0, -1.0)
        errors = (1 - logits * signs).flatten()  # in float32, whose rounding may tie: sorted as the loss sorts
        order = errors.sort(descending=True, stable=True).indices
        step = berman_gradient(truth.flatten()[order].double())
        expected = torch.zeros(1 << 20, dtype=torch.float64)
        expected[order] = torch.where(errors[order] > 0, -signs.flatten()[order].double() * step, 0.0)
        value_expected = (errors[order].double().clamp(min=0) * step).sum()
    value, _ = lovasz_loss(logits, planes_of(truth))
    value.backward()
    found = logits.grad.flatten().double()
    assert float((found - expected).norm() / expected.norm()) < 1e-6
    assert float(((found - expected).abs() / expected.abs().clamp(min=1e-30))[expected != 0].max()) < 1e-6
    assert value.item() == pytest.approx(float(value_expected), rel=1e-6)
    naive = berman_gradient(truth.flatten()[order].float())  # the usual float32 code misses this bound
    assert float((naive - step).norm() / step.norm()) > 1e-6


@pytest.mark.parametrize("cut", [[1, 1, 1], [2, 1]])
def test_micro_batches_weighted_by_size_give_the_batch(cut):
    logits, truth = case(batch=3)
    planes = planes_of(truth)
    whole, _ = lovasz_loss(logits, planes)
    (gradient,) = torch.autograd.grad(whole, logits)
    total = torch.zeros((), dtype=torch.float64)
    for x, p in zip(logits.split(cut), planes.split(cut), strict=True):
        part = lovasz_loss(x, p)[0] * len(x) / 3
        part.backward()
        total += part.detach()
    torch.testing.assert_close(total, whole.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(logits.grad, gradient, rtol=1e-12, atol=0)


def test_half_precision_logits_get_a_gradient_of_their_type():
    logits, truth = case()
    half = logits.detach().bfloat16().requires_grad_()
    value, _ = lovasz_loss(half, planes_of(truth))
    value.backward()
    expected, _ = slow(half.detach().double(), truth)
    assert half.grad.dtype == torch.bfloat16
    assert value.item() == pytest.approx(float(expected), rel=1e-6)


def test_equal_errors_are_sorted_by_pixel_in_float32_and_float64():
    """The order of equal errors is free, but must not depend on the type or the sort."""
    rng = np.random.default_rng(0)
    truth = torch.from_numpy(rng.random((1, 5, 40, 40)) < 0.3)
    logits = torch.from_numpy(rng.integers(-6, 7, truth.shape) / 4)  # few values, exact in either type
    gradients = []
    for dtype in (torch.float32, torch.float64):
        x = logits.to(dtype).requires_grad_()
        value, _ = lovasz_loss(x, planes_of(truth))
        gradients.append(torch.autograd.grad(value, x)[0].double())
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=0)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 2), st.integers(1, 19), st.integers(1, 9), st.integers(0, 99), st.sampled_from([1 / 64, 1 / 8, 1])
)
def test_any_shape_and_class_count_equals_the_authors(batch, classes, side, seed, spread):
    """In float32, which has its own sort; no two errors are closer than float32 can resolve."""
    logits, truth = case(batch, classes, side, seed)
    sizes = logits.detach().flatten(2).abs().argsort(2).view(logits.shape)
    double = ((sizes + 0.25) * spread * logits.detach().sign()).requires_grad_()
    single = double.detach().float().requires_grad_()
    expected, parts = slow(double, truth)
    (gradient,) = torch.autograd.grad(expected, double)
    found, found_parts = lovasz_loss(single, planes_of(truth))
    (found_gradient,) = torch.autograd.grad(found, single)
    torch.testing.assert_close(found_parts.double(), parts.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found_gradient.double(), gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("tile", [1, 7, 1000])
def test_tiles_find_every_active_pixel(tile, monkeypatch):
    logits, truth = case()
    expected, _ = lovasz_loss(logits, planes_of(truth))
    monkeypatch.setattr("phalanx.losses.lovasz.TILE", tile)
    found, _ = lovasz_loss(logits, planes_of(truth))
    (gradient,) = torch.autograd.grad(found, logits)
    assert found.item() == expected.item()
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, logits)[0], rtol=0, atol=0)
