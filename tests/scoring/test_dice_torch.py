"""Dice on the device against the Dice of scoring, on encoded masks."""

import numpy as np
import pytest
import torch

from phalanx.masks import rle
from phalanx.masks.planes import pack
from phalanx.scoring.dice_torch import hard_dice


@pytest.mark.parametrize("threshold", [0.0, 0.7])
@pytest.mark.parametrize("classes", [3, 8, 29])
def test_hard_dice_equals_scoring_from_empty_to_full(classes, threshold):
    rng = np.random.default_rng(classes)
    share = np.linspace(0, 1, classes)[None, :, None, None]
    truth = rng.random((3, classes, 12, 17)) < share
    logits = rng.normal(0, 1, truth.shape) + truth
    logits[0, :2], truth[0, 1] = -9, False  # both empty
    logits[1, -2:], truth[1, -1] = 9, True  # full, on full and on nearly full
    logits[2, 0], truth[2, 0] = threshold, True  # at the threshold is background
    planes = torch.from_numpy(np.stack([pack(stack).transpose(2, 0, 1) for stack in truth]))
    found = hard_dice(torch.from_numpy(logits).float(), planes, threshold)
    assert found.shape == (3, classes)
    guess = logits.astype(np.float32) > threshold
    for b in range(3):
        for c in range(classes):
            a, b_ = (rle.parse(rle.encode(mask[b, c])) for mask in (guess, truth))
            assert float(found[b, c]) == pytest.approx(rle.dice(a, b_), abs=1e-7)
    assert found[0, 0] == found[0, 1] == 1
    assert found[2, 0] == 0
