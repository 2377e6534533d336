"""Bit-planes on a coarser grid."""

import pytest
import torch

from phalanx.masks.planes_torch import downsample, unpack


@pytest.mark.parametrize("step", [1, 2, 4, 8])
def test_thin_takes_the_pixel_at_the_middle_of_each_cell(step):
    planes = torch.randint(0, 256, (2, 2, 16, 24), dtype=torch.uint8)
    coarse = unpack(downsample(planes, (16 // step, 24 // step)), slice(0, 11))
    fine = unpack(planes, slice(0, 11))
    assert coarse.shape == (2, 11, 16 // step, 24 // step)
    for row in range(16 // step):
        for column in range(24 // step):
            at = fine[:, :, row * step + step // 2, column * step + step // 2]
            assert torch.equal(coarse[:, :, row, column], at)
