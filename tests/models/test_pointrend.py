"""PointRend against the formulas of its authors' code (detectron2, projects/PointRend), written out slowly."""

import math

import pytest
import torch
from torch import nn

from phalanx.models.pointrend import (
    PointRend,
    sample_points,
    training_points,
    uncertain_pixels,
    uncertainty,
)  # fmt: skip
from phalanx.models.segmenter import Coarse

SAMPLING = {"points": 64, "oversample": 3.0, "importance": 0.75, "detach": False}


def slow_sample(maps, coords):
    """detectron2's point_sample: [0, 1] spans the map's area, so pixel i's centre is (i + .5)/size; zero outside."""
    batch, channels, height, width = maps.shape
    out = torch.zeros(batch, channels, coords.shape[1], dtype=maps.dtype)
    for b in range(batch):
        for n, (u, v) in enumerate(coords[b].tolist()):
            x, y = u * width - 0.5, v * height - 0.5
            for row in (math.floor(y), math.floor(y) + 1):
                for column in (math.floor(x), math.floor(x) + 1):
                    if 0 <= row < height and 0 <= column < width:
                        share = (1 - abs(x - column)) * (1 - abs(y - row))
                        out[b, :, n] += share * maps[b, :, row, column]
    return out


def test_points_are_sampled_bilinearly_between_pixel_centres():
    torch.manual_seed(0)
    maps = torch.randn(2, 3, 5, 8, dtype=torch.float64)
    coords = torch.cat([torch.rand(2, 40, 2), torch.tensor([[[0.0, 0], [1, 1], [0.5, 0.5]]]).expand(2, -1, -1)], 1)
    torch.testing.assert_close(sample_points(maps, coords), slow_sample(maps, coords.double()), rtol=1e-5, atol=1e-6)


def test_a_pixels_centre_samples_that_pixel():
    logits = torch.randn(2, 3, 6, 10)
    index, centres = uncertain_pixels(logits, 60)
    for b in range(2):
        for i, (u, v) in zip(index[b].tolist(), centres[b].tolist(), strict=True):
            assert u == pytest.approx((i % 10 + 0.5) / 10)
            assert v == pytest.approx((i // 10 + 0.5) / 6)
    picked = logits.flatten(2).gather(2, index[:, None].expand(-1, 3, -1))
    torch.testing.assert_close(sample_points(logits, centres), picked, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_maps_are_sampled_where_asked(dtype):
    """Coordinates in bfloat16 have 256 steps of 0..1: at 2048 pixels a point would miss by eight."""
    ramp = (torch.arange(2048) // 512).float().expand(1, 1, 2, -1)  # exact in any type, with steps at 512, 1024, ...
    x = torch.tensor([511.0, 512.5, 1023.5, 1024.5, 1535.5, 1537.5, 1029.0])
    coords = torch.stack([x / 2048, torch.full_like(x, 0.5)], 1)[None]
    found = sample_points(ramp.to(dtype), coords)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), slow_sample(ramp, coords), rtol=0, atol=0.02)


def test_uncertainty_is_that_of_the_least_certain_class():
    logits = torch.tensor([[[[5.0, -4.0, 0.5]], [[-0.2, 3.0, -9.0]]]])
    torch.testing.assert_close(uncertainty(logits), torch.tensor([[[-0.2, -3.0, -0.5]]]))


@pytest.mark.parametrize(
    ("count", "oversample", "importance"), [(40, 3.0, 0.75), (17, 2.5, 0.5), (10, 1.0, 1.0), (9, 4, 0)]
)
def test_training_points_are_the_papers_shares_of_the_same_draws(count, oversample, importance):
    """get_uncertain_point_coords_with_randomness: of k N candidates the beta N least certain, the rest anywhere."""
    torch.manual_seed(3)
    logits = torch.randn(2, 4, 12, 12)
    torch.manual_seed(5)
    candidates = torch.rand(2, int(count * oversample), 2)
    hard = int(importance * count)
    anywhere = torch.rand(2, count - hard, 2)
    torch.manual_seed(5)
    found = training_points(logits, count, oversample, importance)
    assert found.shape == (2, count, 2)
    doubt = -slow_sample(logits, candidates).abs().amin(1)
    for b in range(2):
        order = sorted(range(candidates.shape[1]), key=lambda n: -float(doubt[b, n]))
        expected = {tuple(candidates[b, n].tolist()) for n in order[:hard]}
        assert {tuple(p) for p in found[b, :hard].tolist()} == expected
    torch.testing.assert_close(found[:, hard:], anywhere)


def test_fewer_candidates_than_points_are_made_up_for():
    assert training_points(torch.randn(1, 2, 8, 8), 20, 0.1, 1.0).shape == (1, 20, 2)


class Still(nn.Module):
    """A segmenter that has seen it all: PointRend only asks it for its shape."""

    classes = 3

    def fine_channels(self, size):
        return [4]


@pytest.fixture
def head():
    torch.manual_seed(0)
    return PointRend(segmenter=Still(), size=32, hidden=8, layers=2, subdivision_points=30, **SAMPLING).eval()


def slow_enlarge(maps, height, width):
    """Bilinear between pixel centres, the border going on outside."""
    h, w = maps.shape[-2:]
    out = torch.zeros(*maps.shape[:2], height, width)
    for i in range(height):
        for j in range(width):
            y, x = max((i + 0.5) * h / height - 0.5, 0), max((j + 0.5) * w / width - 0.5, 0)
            i0, j0 = int(y), int(x)
            i1, j1, a, b = min(i0 + 1, h - 1), min(j0 + 1, w - 1), y - i0, x - j0
            top = (1 - b) * maps[:, :, i0, j0] + b * maps[:, :, i0, j1]
            low = (1 - b) * maps[:, :, i1, j0] + b * maps[:, :, i1, j1]
            out[:, :, i, j] = (1 - a) * top + a * low
    return out


def slow_at(head, coarse, coords):
    """The paper's MLP, point by point: fine features and coarse logits, the logits again at every layer."""
    fine, logits = slow_sample(coarse.fine[0], coords), slow_sample(coarse.logits, coords)
    x = fine
    for layer in head.head.layers:
        x = torch.relu(layer.weight[:, :, 0] @ torch.cat([x, logits], 1) + layer.bias[:, None])
    return head.head.out.weight[:, :, 0] @ torch.cat([x, logits], 1) + head.head.out.bias[:, None]


@torch.no_grad()
def test_an_untrained_head_gives_the_coarse_logits_back(head):
    coarse = Coarse(torch.randn(2, 3, 8, 8), [torch.randn(2, 4, 16, 16)])
    coords = torch.rand(2, 25, 2)
    torch.testing.assert_close(head.at(coarse, coords), slow_sample(coarse.logits, coords), rtol=0, atol=0.05)


@torch.no_grad()
def test_subdivision_predicts_anew_exactly_the_least_certain_pixels(head):
    """From 5 x 7 to 20 x 25: doubled to 10 x 14, then to 20 x 25, and at each grid 30 pixels are replaced."""
    coarse = Coarse(torch.randn(2, 3, 5, 7), [torch.randn(2, 4, 10, 13)])
    nn.init.normal_(head.head.out.weight)
    logits = coarse.logits
    for height, width in ((10, 14), (20, 25)):
        logits = slow_enlarge(logits, height, width)
        for b in range(2):
            doubt = logits[b].abs().amin(0).flatten()
            chosen = sorted(range(height * width), key=lambda i: float(doubt[i]))[:30]
            coords = torch.tensor([[(i % width + 0.5) / width, (i // width + 0.5) / height] for i in chosen])[None]
            fresh = slow_at(head, Coarse(coarse.logits[b : b + 1], [coarse.fine[0][b : b + 1]]), coords)[0]
            for n, i in enumerate(chosen):
                logits[b, :, i // width, i % width] = fresh[:, n]
    found = head.refine(coarse, (20, 25))
    torch.testing.assert_close(found, logits, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_a_grid_smaller_than_the_points_is_predicted_anew_whole(head):
    coarse = Coarse(torch.randn(1, 3, 2, 2), [torch.randn(1, 4, 4, 4)])
    nn.init.normal_(head.head.out.weight)
    found = head.refine(coarse, (4, 4))
    coords = torch.tensor([[(i % 4 + 0.5) / 4, (i // 4 + 0.5) / 4] for i in range(16)])[None]
    torch.testing.assert_close(found.flatten(2), slow_at(head, coarse, coords), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_logits_already_of_the_size_stay(head):
    coarse = Coarse(torch.randn(1, 3, 8, 8), [torch.randn(1, 4, 8, 8)])
    assert torch.equal(head.refine(coarse, (8, 8)), coarse.logits)


@torch.no_grad()
def test_points_are_predicted_alike_in_half_precision(head):
    """At 2048 pixels: coordinates rounded to bfloat16 would read other pixels and learn another pixel's truth."""
    nn.init.normal_(head.head.out.weight)
    fine = torch.randn(1, 4, 2, 2048)
    coarse = Coarse(torch.randn(1, 3, 2, 1024), [fine])
    coords = torch.rand(1, 200, 2)
    expected = head.at(coarse, coords)
    with torch.autocast("cpu", torch.bfloat16):
        found = head.at(Coarse(coarse.logits.bfloat16(), [fine.bfloat16()]), coords).float()
    assert float((found - expected).std() / expected.std()) < 0.05


@pytest.mark.parametrize("detach", [False, True])
def test_the_points_loss_reaches_the_segmenter_unless_detached(detach):
    class Taught(Still):
        def __init__(self):
            super().__init__()
            self.logits, self.fine = nn.Parameter(torch.randn(1, 3, 8, 8)), nn.Parameter(torch.randn(1, 4, 16, 16))

        def forward(self, images, traits):
            return Coarse(self.logits, [self.fine])

    network = PointRend(
        segmenter=Taught(), size=32, hidden=8, layers=2, subdivision_points=64, **SAMPLING | {"detach": detach}
    ).train()
    _, points = network(torch.zeros(1, 1, 32, 32))
    points.logits.sum().backward()
    assert all((network.segmenter.get_parameter(name).grad is None) is detach for name in ("logits", "fine"))
    assert all(p.grad is not None for p in network.head.parameters())
