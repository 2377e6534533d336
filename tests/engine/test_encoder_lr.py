"""The encoder's learning rate as a fraction of the decoder's: one step, every schedule, the loop."""

import json

import pytest
import torch

from phalanx.config import Optim
from phalanx.engine.fit import fit
from phalanx.engine.optim import build_optimizer, scales
from phalanx.engine.schedule import set_rate
from phalanx.models.encoder_stages import encoder_stages
from phalanx.tasks.segment import Segment


def updates(recipe, records, optim):
    """Change of every weight by one step of plain SGD on the same batch, by name; the names of the encoder's."""
    torch.manual_seed(0)
    network = Segment(recipe("fpn"), records, []).network.train()
    stages = encoder_stages(network, 64)
    optimizer = build_optimizer(network, optim, stages)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    set_rate(optimizer, optim, step=3, steps=10)
    torch.manual_seed(1)
    logits, points, _ = network(torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8))
    (logits.square().mean() + points.logits.square().mean()).backward()
    optimizer.step()
    return {name: value.detach() - before[name] for name, value in network.named_parameters()}, stages


def test_a_step_of_sgd_changes_the_encoder_by_the_factor_and_the_decoder_as_before(recipe, records):
    plain = {"name": "sgd", "lr": 0.5, "weight_decay": 0.0, "options": {"momentum": 0.0, "nesterov": False}}
    whole, stages = updates(recipe, records, Optim(**plain))
    part, _ = updates(recipe, records, Optim(**plain, encoder_lr_factor=0.25))
    moved = {name for name, change in whole.items() if change.norm() > 1e-5}
    assert len(moved & stages.keys()) > 20
    assert len(moved - stages.keys()) > 10
    for name in moved:
        factor = 0.25 if name in stages else 1.0
        # weights near 1 are stored to 6e-8, so that a difference of two is no more exact than that
        torch.testing.assert_close(part[name], factor * whole[name], rtol=1e-3, atol=2e-7)


def test_layer_decay_is_on_top_of_the_factor(recipe, records):
    network = Segment(recipe("fpn"), records, []).network
    stages = encoder_stages(network, 64)
    optimizer = build_optimizer(network, Optim(layer_decay=0.5, encoder_lr_factor=0.1), stages)
    of = {id(p): group["scale"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in network.named_parameters():
        expected = 0.1 * 0.5 ** (6 - stages[name]) if name in stages else 1.0
        assert of[id(parameter)] == pytest.approx(expected), name
    assert optimizer.param_groups[0]["scale"] == 1.0  # whose learning rate the log records


@pytest.mark.parametrize(
    "schedule",
    [
        {}, {"schedule": "linear"}, {"schedule": "cosine_restarts"}, {"schedule": "poly"}, {"schedule": "constant"},
        {"schedule": "one_cycle"}, {"schedule": "plateau"}, {"swa": {"start": 0.5, "lr": 1e-5}},
    ],
)  # fmt: skip
def test_the_factor_holds_at_every_step_of_every_schedule(recipe, records, schedule):
    network = Segment(recipe("unet"), records, []).network
    optim = Optim(encoder_lr_factor=0.2, **schedule)
    optimizer = build_optimizer(network, optim, encoder_stages(network, 64))
    for step in range(40):
        set_rate(optimizer, optim, step, 40, reductions=step // 10)
        decoder = optimizer.param_groups[0]["lr"]
        for group in optimizer.param_groups[2:]:
            assert group["lr"] == pytest.approx(0.2 * decoder)
    assert scales(optimizer) == [1.0, 0.2]


def test_training_reads_the_factor(recipe, records):
    folder = fit(recipe("unet", epochs=1, optim__encoder_lr_factor=0.5), 0, records, Segment)
    start = json.loads((folder / "log.jsonl").read_text().splitlines()[0])
    assert start["lr_scales"] == [1.0, 0.5]
