"""nnU-Net's residual U-Net: its blocks, its resolutions, its losses on the way."""

import torch
import torch.nn.functional as F

from phalanx.models.residual_unet import Residual, build


def test_a_block_is_its_body_beside_an_averaged_shortcut():
    torch.manual_seed(0)
    block, x = Residual(3, 5, stride=2).eval(), torch.randn(2, 3, 8, 6)
    first, norm, _, second, last = block.body
    torch.nn.init.normal_(last.weight)
    y = last(second(F.leaky_relu(norm(first(x)), 0.01)))
    means = x.reshape(2, 3, 4, 2, 3, 2).mean((3, 5))
    expected = F.leaky_relu(y + block.shortcut[2](block.shortcut[1](means)), 0.01)
    torch.testing.assert_close(block(x), expected)
    positive = torch.rand(1, 4, 5, 5)
    assert torch.equal(Residual(4, 4).eval()(positive), positive)  # as it begins


def test_resolutions_halve_widths_double_and_coarser_losses_weigh_half():
    network = build("resenc", weights=None, classes=3, stages=6, features=4, max_features=32)
    shapes = [tuple(part.shape[1:]) for part in network.encoder(torch.zeros(2, 1, 64, 64))]
    assert shapes == [(1, 64, 64), (4, 64, 64), (8, 32, 32), (16, 16, 16), (32, 8, 8), (32, 4, 4), (32, 2, 2)]
    coarse = network(torch.randn(2, 1, 64, 64))
    assert coarse.logits.shape == (2, 3, 64, 64)
    found = [(weight, tuple(logits.shape)) for weight, logits in coarse.auxiliary]
    assert found == [(0.5, (2, 3, 32, 32)), (0.25, (2, 3, 16, 16)), (0.125, (2, 3, 8, 8))]
    assert not network.eval()(torch.randn(2, 1, 64, 64)).auxiliary
