"""Signed distances against brute force over all pairs of pixels; the loss against plain PyTorch with those."""

import numpy as np
import pytest
import torch

from phalanx.losses import boundary
from phalanx.losses.boundary import boundary_loss, signed_distances
from phalanx.masks.planes import pack


def brute(mask):
    """bool[H, W] to signed distances in pixels: to the nearest pixel of the other side, minus half a pixel."""
    points = np.argwhere(np.ones_like(mask)).astype(float)
    other = np.sqrt(((points[:, None] - points[None]) ** 2).sum(2))
    flat = mask.ravel()
    nearest = np.where(flat[:, None] != flat[None], other, np.inf).min(1)
    return np.where(flat, 0.5 - nearest, nearest - 0.5).reshape(mask.shape)


def blobs(side, seed=0):
    """bool[6, side, side]: absent, one pixel, a disk, a ring cut by the border, scattered pixels, everything."""
    y, x = np.mgrid[:side, :side] / side
    radius = np.hypot(y - 0.1, x - 0.4)
    masks = np.zeros((6, side, side), bool)
    masks[1, side // 2, side // 3] = True
    masks[2] = np.hypot(y - 0.6, x - 0.6) < 0.23
    masks[3] = (radius > 0.2) & (radius < 0.35)
    masks[4] = np.random.default_rng(seed).random((side, side)) < 0.02
    masks[5] = True
    return masks


@pytest.mark.parametrize("shape", [(32, 32), (21, 32), (32, 9)])
def test_distances_match_brute_force(shape):
    masks = blobs(32)[:, : shape[0], : shape[1]]
    found = signed_distances(pack(masks).transpose(2, 0, 1), 6)
    for mask, distance in zip(masks, found, strict=True):
        if mask.all() or not mask.any():
            assert not distance.any()
        else:
            np.testing.assert_allclose(distance * max(shape), brute(mask), rtol=0.03, atol=0.02)


def slow(logits, masks):
    far = np.stack([[brute(m) / max(m.shape) if 0 < m.mean() < 1 else 0 * m for m in stack] for stack in masks])
    return (torch.sigmoid(logits) * torch.from_numpy(far.astype(float))).mean((2, 3))


def test_value_and_gradient_equal_the_mean_of_sigmoid_times_distance():
    masks = np.stack([blobs(24), blobs(24, seed=1)[::-1]])
    planes = torch.from_numpy(np.stack([pack(stack).transpose(2, 0, 1) for stack in masks]))
    logits = torch.randn(2, 6, 24, 24, dtype=torch.float64, requires_grad=True)
    expected = slow(logits, masks)
    found, parts = boundary_loss(logits, planes)
    torch.testing.assert_close(parts, expected.detach(), rtol=0.02, atol=1e-4)
    (gradient,) = torch.autograd.grad(found, logits)
    (truth,) = torch.autograd.grad(expected.mean(), logits)
    torch.testing.assert_close(gradient, truth, rtol=0.03, atol=1e-6)
    assert torch.autograd.gradcheck(lambda x: boundary_loss(x, planes)[0], logits, fast_mode=True)


@pytest.mark.parametrize("shape", [(96, 96), (90, 61), (50, 97)])
def test_subsampled_distances_are_within_a_block_of_the_full_ones(shape, monkeypatch):
    """Sides that the stride does not divide, and small classes that no sample might hit."""
    masks = blobs(97)[:4, : shape[0], : shape[1]]
    planes = torch.from_numpy(pack(masks).transpose(2, 0, 1).copy())[None]
    flat = torch.zeros(1, 4, *shape, dtype=torch.float64, requires_grad=True)

    def distances():  # the loss is linear in the sigmoid, so its gradient is proportional to the distances
        (gradient,) = torch.autograd.grad(boundary_loss(flat, planes)[0], flat)
        return gradient[0] * 4 * 4 * shape[0] * shape[1] * max(shape)

    fine = distances()
    monkeypatch.setattr(boundary, "DISTANCE_SIDE", 25)
    step = boundary.stride(*shape)
    assert step == 4
    coarse = distances()
    assert not coarse[0].any()
    assert float((coarse - fine).abs().max()) < 1.5 * step
    assert float((coarse - fine)[2:].abs().mean()) < 0.25 * step
    assert float(coarse[1, 48, 32]) < float(coarse[1, 0, 0])  # the single pixel is still there


def test_a_prediction_that_spills_further_costs_more():
    masks = blobs(64)[2:3]
    planes = torch.from_numpy(pack(masks).transpose(2, 0, 1).copy())[None]
    distance = brute(masks[0])
    values = [
        float(boundary_loss(torch.from_numpy(np.where(distance < margin, 6.0, -6.0))[None, None], planes)[0])
        for margin in (-3, 0, 3, 6, 12)
    ]
    assert values[1] == min(values)
    assert values[1] < values[2] < values[3] < values[4]
