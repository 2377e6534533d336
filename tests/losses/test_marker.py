"""The marker losses equal their formulas, written out."""

import numpy as np
import pytest
import torch

from phalanx.losses.marker import heatmap_loss, outside_loss, region_maps
from phalanx.masks.planes import pack

NAN = float("nan")


def test_regions_are_averaged_over_the_cells_of_the_map():
    rng = np.random.default_rng(0)
    masks = rng.random((9, 8, 8)) < 0.4
    masks[8] = True  # the bit of images that have a file
    planes = torch.from_numpy(np.stack([pack(masks), np.zeros((8, 8, 2), np.uint8)]).transpose(0, 3, 1, 2).copy())
    found, known = region_maps(planes, 8, 2)
    assert known.tolist() == [True, False]
    assert found.shape == (2, 8, 2, 2)
    for row in range(2):
        for column in range(2):
            part = masks[:8, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            assert np.allclose(found[0, :, row, column], part.mean(axis=(1, 2)))
    assert (found[1] == 0).all()


def test_the_heat_map_s_loss_is_the_cross_entropy_of_its_cells():
    z = torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    regions = torch.rand(3, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    found = heatmap_loss(z.bfloat16(), regions, torch.tensor([True, False, True]))
    p = 1 / (1 + np.exp(-z.bfloat16().float().numpy()))
    expected = -(regions.numpy() * np.log(p) + (1 - regions.numpy()) * np.log(1 - p)).mean(axis=(1, 2, 3))
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx([expected[0], 0, expected[2]], rel=1e-5)


def test_the_outside_part_is_that_of_the_labelled_classes_with_a_region():
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[-1.0, 0.0], [0.0, 1.0]]]]).repeat(6, 1, 1, 1)
    weights = torch.tensor([[1.0, 0.0], [1.0, 2.0], [0.0, -1.0]])
    # class 0: 1 2 3 4; class 1: 0 (of -1) 2 3 6; class 2: 1 0 0 0
    region = torch.tensor([[1.0, 0.0], [0.0, 0.5]])
    labels = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 0], [NAN, NAN, 1], [1, 0, 0], [0, 0, 1]])
    regions = torch.stack([region, region, region, region, torch.zeros(2, 2), region])[:, None]
    known = torch.tensor([True, True, True, True, True, False])
    found = outside_loss(maps, weights, labels, regions, known)
    one, other = (2 + 3 + 2) / 10, (2 + 3 + 3) / 11
    assert found.tolist() == pytest.approx([one, (one + other) / 2, 0, 0, 0, 0])


def test_each_class_has_its_own_region():
    maps, weights = torch.ones(1, 1, 2, 2), torch.ones(2, 1)
    regions = torch.tensor([[[[1.0, 1.0], [1.0, 1.0]], [[1.0, 0.0], [0.0, 0.0]]]])
    both = outside_loss(maps, weights, torch.ones(1, 2), regions, torch.tensor([True]))
    assert both.item() == pytest.approx((0 + 3 / 4) / 2)
    regions[:, 0] = 0  # the class is written, and nobody measured it
    assert outside_loss(maps, weights, torch.ones(1, 2), regions, torch.tensor([True])).item() == pytest.approx(3 / 4)


def test_a_map_without_activation_is_not_outside_and_has_a_finite_gradient():
    maps = torch.full((1, 1, 2, 2), -1.0, requires_grad=True)
    found = outside_loss(maps, torch.ones(1, 1), torch.ones(1, 1), torch.ones(1, 1, 2, 2), torch.tensor([True]))
    found.sum().backward()
    assert found.item() == 0
    assert torch.isfinite(maps.grad).all()


def test_the_penalty_moves_activation_into_the_region():
    maps = torch.ones(1, 1, 2, 2, requires_grad=True)
    region = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    outside_loss(maps, torch.ones(1, 1), torch.ones(1, 1), region, torch.tensor([True])).sum().backward()
    assert maps.grad[0, 0, 0, 0] < 0
    assert (maps.grad.flatten()[1:] > 0).all()
