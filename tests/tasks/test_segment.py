"""What a training step adds up, on outputs written by hand."""

import torch

from phalanx.config import Loss, validate
from phalanx.data.dataset import Batch
from phalanx.losses.bits import thin
from phalanx.losses.stages import StagedLoss
from phalanx.models.build import Output
from phalanx.tasks.segment import Segment


def test_heads_that_help_to_learn_add_the_stages_loss_at_their_size_and_weight():
    torch.manual_seed(0)
    task = Segment.__new__(Segment)
    task.loss = StagedLoss(validate({"stages": [{"weights": {"bce": 0.5, "dice": 0.5}}]}, Loss))
    planes = torch.randint(0, 256, (2, 1, 16, 16), dtype=torch.uint8)
    logits, half, quarter = (torch.randn(2, 5, side, side, requires_grad=True) for side in (16, 8, 4))
    batch = Batch(torch.zeros(2, 1, 16, 16, dtype=torch.uint8), planes, torch.arange(2))
    result = task.step(lambda images: Output(logits, None, [(0.5, half), (0.25, quarter)]), batch, 0)
    alone = task.step(lambda images: Output(logits, None, []), batch, 0)
    more = 0.5 * task.loss(0, half, None, thin(planes, (8, 8))).total
    more += 0.25 * task.loss(0, quarter, None, thin(planes, (4, 4))).total
    torch.testing.assert_close(result.total, alone.total + more)
    assert torch.equal(result.dice, alone.dice)
    result.total.backward()
    assert all(part.grad.abs().sum() > 0 for part in (logits, half, quarter))
