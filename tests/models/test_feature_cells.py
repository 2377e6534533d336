"""Where the cells of feature maps are, against the gradients of real networks."""

import numpy as np
import pytest
import timm
import torch
from torch import nn

from phalanx.data.images import Grid
from phalanx.models.feature_cells import Cells, cells_of
from phalanx.visualize.gradcam import heat_map

pytestmark = pytest.mark.usefixtures("one_thread")


def network(name: str, **options) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, pretrained=False, in_chans=1, **options).eval()


def centre_of_gradient(encoder: nn.Module, size: int, k: int) -> float:
    """Where the input of the cell k, k is, in pixels: the centre of the strongest gradients of its features."""
    total = torch.zeros(size, size)
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        images = torch.randn(1, 1, size, size, generator=generator).requires_grad_()
        found = encoder.forward_features(images)
        (found[0, :, k, k] * torch.randn(found.shape[1], generator=generator)).sum().backward()
        total += images.grad[0, 0] ** 2
    strong = torch.where(total < 0.02 * total.max(), torch.zeros(()), total).sum(0)
    return float((strong * (torch.arange(size) + 0.5)).sum() / strong.sum())


@pytest.mark.parametrize(
    ("name", "options", "first"),
    [
        ("resnet18", {}, 0.5),  # half a cell before that of an even grid, 16
        ("resnet18", {"output_stride": 16}, 0.5),
        ("mobilenetv3_small_100", {}, 0.5),
        ("tf_mobilenetv3_small_075", {}, 31.5),  # pads at the end
        ("convnext_atto", {}, 16.0),  # patches
    ],
)
def test_cells_are_where_their_gradients_are(name, options, first):
    encoder, size = network(name, **options), 288
    images = torch.zeros(1, 1, size, size)
    side = encoder.forward_features(images).shape[-1]
    found = cells_of(encoder, images, side)
    assert found.first * size == pytest.approx(first)
    k = side // 2
    step = size / side
    placed = (found.first + k * found.step) * size
    measured = centre_of_gradient(encoder, size, k)
    assert abs(placed - measured) < 0.12 * step
    if first != step / 2:
        assert abs((k + 0.5) * step - measured) > 0.35 * step  # where evenly spaced cells would be


def test_a_pooled_shortcut_and_a_convolution_count_alike():
    """A ResNet-D: windows of its three strided convolutions start at the first pixel, those of its pools are even."""
    encoder = network("resnet10t")
    assert cells_of(encoder, torch.zeros(1, 1, 128, 128), 4).first * 128 == pytest.approx(0.5 + (4 + 8 + 16) / 4)


@pytest.mark.parametrize("name", ["test_vit", "swin_tiny_patch4_window7_224"])
def test_patches_are_evenly_spaced(name):
    encoder = network(name, img_size=64 if name == "test_vit" else 224)
    side = 4 if name == "test_vit" else 7
    images = torch.zeros(1, 1, *encoder.patch_embed.img_size)
    assert cells_of(encoder, images, side) == pytest.approx(Cells.even(side))


def test_no_hook_is_left():
    encoder = network("test_resnet")
    cells_of(encoder, torch.zeros(1, 1, 64, 64), 2)
    assert not any(module._forward_hooks for module in encoder.modules())


def test_heat_is_drawn_at_the_centres_of_the_cells():
    one = np.zeros((1, 4, 4))
    one[0, 1, 2] = 1.0
    grid = Grid(64, 64, 64)
    for cells in (Cells.even(4), Cells(0.5 / 64, 16 / 64)):
        heat = heat_map(one, grid, cells)
        row, column = np.unravel_index(heat.argmax(), heat.shape)
        assert abs(row + 0.5 - (cells.first + cells.step) * 64) <= 0.5
        assert abs(column + 0.5 - (cells.first + 2 * cells.step) * 64) <= 0.5
