"""What a training step adds up, on outputs written by hand."""

from types import SimpleNamespace

import pytest
import torch

from phalanx.config import Loss, validate_as
from phalanx.data.dataset import Batch
from phalanx.losses.stages import StagedLoss
from phalanx.masks.planes_torch import downsample
from phalanx.models.build import Output
from phalanx.tasks.segment import Segment


def bare(attributes=None, **loss):
    task = Segment.__new__(Segment)
    task.loss = StagedLoss(
        validate_as(Loss, {"stages": [{"weights": {"bce": 0.5, "dice": 0.5}}]} | loss), list("abcde")
    )
    task.config = SimpleNamespace(data=SimpleNamespace(classes=list("abcde")), epochs=9)
    task.attributes, task.stage, task.stage_began = ({} if attributes is None else {"train": attributes}), 0, 0
    task.training_set = SimpleNamespace(records=[SimpleNamespace(name=f"{i}.png") for i in range(5)])
    return task


def test_a_step_tells_the_network_of_each_images_patient():
    seen = []

    def network(images, traits):
        seen.append(traits)
        return Output(torch.zeros(3, 5, 8, 8, requires_grad=True), None, [])

    planes = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
    batch = Batch(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), planes, torch.tensor([4, 0, 4]))
    bare(torch.arange(10.0).view(5, 2)).step(network, batch)
    assert seen[0].tolist() == [[8, 9], [0, 1], [8, 9]]


def test_heads_that_help_to_learn_add_the_stages_loss_at_their_size_and_weight():
    torch.manual_seed(0)
    task = bare()
    planes = torch.randint(0, 256, (2, 1, 16, 16), dtype=torch.uint8)
    logits, half, quarter = (torch.randn(2, 5, side, side, requires_grad=True) for side in (16, 8, 4))
    batch = Batch(torch.zeros(2, 1, 16, 16, dtype=torch.uint8), planes, torch.arange(2))
    result = task.step(lambda images, traits: Output(logits, None, [(0.5, half), (0.25, quarter)]), batch)
    alone = task.step(lambda images, traits: Output(logits, None, []), batch)
    more = 0.5 * task.loss(0, half, None, downsample(planes, (8, 8))).total
    more += 0.25 * task.loss(0, quarter, None, downsample(planes, (4, 4))).total
    torch.testing.assert_close(result.loss, alone.loss + more)
    assert all(torch.equal(result.values[name], alone.values[name]) for name in task.value_names)
    result.loss.backward()
    assert all(part.grad.abs().sum() > 0 for part in (logits, half, quarter))


def test_values_are_means_over_classes_by_name():
    torch.manual_seed(0)
    task, planes = bare(), torch.randint(0, 256, (2, 1, 16, 16), dtype=torch.uint8)
    logits = torch.randn(2, 5, 16, 16, requires_grad=True)
    batch = Batch(torch.zeros(2, 1, 16, 16, dtype=torch.uint8), planes, torch.arange(2))
    step = task.step(lambda images, attributes: Output(logits, None, []), batch)
    by_hand = task.loss(0, logits, None, planes)
    assert set(step.values) == set(task.value_names) == {"dice", "loss/bce", "loss/dice"}
    assert task.value_names[0] == Segment.metric.name
    assert torch.equal(step.values["dice"], by_hand.dice.mean(1))
    for term in ("bce", "dice"):
        assert torch.equal(step.values[f"loss/{term}"], by_hand.terms[term].mean(1))
    assert not any(value.requires_grad for value in step.values.values())


def batch_of(*rows):
    images = torch.zeros(len(rows), 1, 2, 2, dtype=torch.uint8)
    return Batch(images, images, torch.tensor(rows))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_term_that_is_not_finite_names_class_and_image(bad):
    terms = {"bce": torch.zeros(2, 5), "dice": torch.zeros(2, 5)}
    assert bare().diagnose(batch_of(3, 1), terms) is None
    terms["dice"][1, 2] = bad
    assert bare().diagnose(batch_of(3, 1), terms) == "the loss term dice of class c in 1.png is not finite"


def test_an_input_is_named_before_the_terms_that_it_spoilt():
    attributes = torch.zeros(5, 1)
    attributes[3] = float("inf")
    terms = {"bce": torch.full((2, 5), float("nan"))}
    text = bare(attributes).diagnose(batch_of(1, 3), terms)
    assert text == "the metadata of 3.png given to the network is not finite"


def test_the_loss_stage_is_the_tasks_state_and_moves_by_epochs_or_by_the_metric():
    stages = [
        {"weights": {"bce": 1.0}, "until": {"epochs": 2}},
        {"weights": {"dice": 1.0}, "until": {"dice": 0.5}},
        {"weights": {"lovasz": 1.0}},
    ]
    task, seen = bare(stages=stages), []
    for epochs, dice in enumerate((0.9, 0.1, 0.4, 0.5, 0.9), 1):
        events = task.end_epoch(epochs, {"dice": dice})
        seen.append((task.stage, task.stage_began, events))
        task, saved = bare(stages=stages), task.state_dict()  # as a run that was killed goes on
        task.load_state_dict(saved)
    assert [(stage, began, [values["stage"] for _, values in events]) for stage, began, events in seen] == [
        (0, 0, []), (1, 2, [2]), (1, 2, []), (2, 4, [3]), (2, 4, [])
    ]  # fmt: skip
    assert seen[1][2][0][1]["text"].startswith("loss stage 2 of 3 begins: ")
    assert task.value_names == ("dice", "loss/lovasz")
