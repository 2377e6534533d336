"""What a training step adds up, on outputs written by hand."""

import torch

from phalanx.config import Loss, validate
from phalanx.data.dataset import Batch
from phalanx.losses.stages import StagedLoss
from phalanx.masks.planes_torch import downsample
from phalanx.models.build import Output
from phalanx.tasks.segment import Segment


def bare(traits=None):
    task = Segment.__new__(Segment)
    task.loss = StagedLoss(validate({"stages": [{"weights": {"bce": 0.5, "dice": 0.5}}]}, Loss), list("abcde"))
    task.traits = traits
    return task


def test_a_step_tells_the_network_of_each_images_patient():
    seen = []

    def network(images, traits):
        seen.append(traits)
        return Output(torch.zeros(3, 5, 8, 8, requires_grad=True), None, [])

    planes = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
    batch = Batch(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), planes, torch.tensor([4, 0, 4]))
    bare(torch.arange(10.0).view(5, 2)).step(network, batch, 0)
    assert seen[0].tolist() == [[8, 9], [0, 1], [8, 9]]


def test_heads_that_help_to_learn_add_the_stages_loss_at_their_size_and_weight():
    torch.manual_seed(0)
    task = bare()
    planes = torch.randint(0, 256, (2, 1, 16, 16), dtype=torch.uint8)
    logits, half, quarter = (torch.randn(2, 5, side, side, requires_grad=True) for side in (16, 8, 4))
    batch = Batch(torch.zeros(2, 1, 16, 16, dtype=torch.uint8), planes, torch.arange(2))
    result = task.step(lambda images, traits: Output(logits, None, [(0.5, half), (0.25, quarter)]), batch, 0)
    alone = task.step(lambda images, traits: Output(logits, None, []), batch, 0)
    more = 0.5 * task.loss(0, half, None, downsample(planes, (8, 8))).total
    more += 0.25 * task.loss(0, quarter, None, downsample(planes, (4, 4))).total
    torch.testing.assert_close(result.total, alone.total + more)
    assert torch.equal(result.dice, alone.dice)
    result.total.backward()
    assert all(part.grad.abs().sum() > 0 for part in (logits, half, quarter))
