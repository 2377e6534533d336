"""Optimizers by name: groups, options, and that each can be stopped and continued to the same bits."""

import pytest
import torch
from torch import nn

from phalanx.config import Optim
from phalanx.config.training import OPTIMIZERS
from phalanx.engine.optim import build_optimizer, scales, state_share
from phalanx.errors import ConfigError
from phalanx.runs import checkpoint


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(4 * 36, 3), nn.Linear(3, 3))


def one_step(net, optimizer, number):
    """A step at a rate of its own, with something to learn."""
    torch.manual_seed(number)
    for group in optimizer.param_groups:
        group["lr"] = group["scale"] * 0.01 / (1 + number)
    images = torch.randn(8, 1, 8, 8)
    loss = (net(images) - 3 * images.mean((1, 2, 3))[:, None]).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_moves_all_weights_and_continues_to_the_same_bits(tmp_path, name):
    config = Optim(name=name, lr=0.01, layer_decay=0.5)
    stages = {"0.weight": 1, "0.bias": 1, "3.weight": 2}
    net = network()
    optimizer = build_optimizer(net, config, stages)
    rests = net[4].weight.detach().clone()
    net[4].weight.requires_grad_(False)  # as a frozen stage: in the optimizer, without a gradient
    for number in range(7):  # past RAdam's five steps without a rectified rate
        one_step(net, optimizer, number)
    net[4].weight.requires_grad_(True)
    state = checkpoint.optimizer_tensors(net, optimizer)
    checkpoint.save(tmp_path / "last", {"model": net.state_dict(), "optimizer": state}, {})
    assert torch.equal(net[4].weight, rests)

    again = network(1)
    other = build_optimizer(again, config, stages)
    tensors, _ = checkpoint.load(tmp_path / "last")
    again.load_state_dict(tensors["model"])
    checkpoint.restore_optimizer(again, other, tensors["optimizer"])
    for number in range(7, 12):
        assert one_step(net, optimizer, number) == one_step(again, other, number)
    for (key, a), b in zip(net.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b), key
        assert torch.isfinite(a).all()
    mine, others = (checkpoint.optimizer_tensors(*pair) for pair in ((net, optimizer), (again, other)))
    assert mine.keys() == others.keys()  # which tell Python numbers from tensors
    assert all(torch.equal(value, others[key]) and value.dtype == others[key].dtype for key, value in mine.items())
    assert not torch.equal(net[4].weight, rests)
    begun = network()
    assert all(not torch.equal(a, b) for a, b in zip(net.parameters(), begun.parameters(), strict=True))


def test_the_default_is_torchs_adamw_and_sgd_has_nesterovs_momentum():
    adamw = build_optimizer(network(), Optim())
    assert type(adamw) is torch.optim.AdamW
    assert adamw.defaults["betas"] == (0.9, 0.999)
    sgd = build_optimizer(network(), Optim(name="sgd"))
    assert type(sgd) is torch.optim.SGD
    assert (sgd.defaults["momentum"], sgd.defaults["nesterov"]) == (0.9, True)


def test_options_reach_the_optimizer():
    optimizer = build_optimizer(network(), Optim(name="sgd", options={"momentum": 0.99, "nesterov": False}))
    assert all((g["momentum"], g["nesterov"]) == (0.99, False) for g in optimizer.param_groups)
    optimizer = build_optimizer(network(), Optim(name="adamp", options={"betas": [0.8, 0.9], "eps": 1e-6}))
    assert all((g["betas"], g["eps"]) == ((0.8, 0.9), 1e-6) for g in optimizer.param_groups)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("sgd", {"momentun": 0.9}, r"optim\.options\.momentun: no such option; did you mean momentum\? sgd has damp"),
        ("sgd", {"eps": 1e-8}, r"optim\.options\.eps: no such option.* sgd has dampening, momentum, nesterov"),
        ("adamw", {"lr": 1.0}, r"optim\.options\.lr: no such option"),
        ("adamw", {"fused": True}, r"optim\.options\.fused: no such option"),
        ("adamw", {"betas": 0.9}, r"optim\.options\.betas=0\.9: expected a list of numbers"),
        ("adamp", {"betas": "high"}, r"optim\.options\.betas='high': expected a list of numbers"),
        ("sgd", {"nesterov": "maybe"}, r"optim\.options\.nesterov='maybe': expected true or false"),
        ("sgdp", {"momentum": "much"}, r"optim\.options\.momentum='much': expected a number"),
        ("sgdp", {"momentum": True}, r"optim\.options\.momentum=True: expected a number"),
        ("adamw", {"betas": [0.9]}, r"optim\.options=\{'betas': \[0\.9\]\}: adamw cannot work so \("),
        ("adamw", {"betas": [0.9, 2.0]}, r"adamw cannot work so \(ValueError: Invalid beta parameter at index 1"),
        ("sgd", {"momentum": 0.0}, r"sgd cannot work so \(ValueError: Nesterov momentum requires a momentum"),
    ],
)
def test_options_that_an_optimizer_cannot_use_are_refused_when_it_is_built(name, options, message):
    with pytest.raises(ConfigError, match=message):
        build_optimizer(network(), Optim(name=name, options=options))


@pytest.mark.parametrize(("name", "share"), [("sgd", 1), ("adamw", 2), ("lion", 1), ("adan", 4), ("madgrad", 3)])
def test_the_state_takes_as_much_as_the_method_needs(name, share):
    assert state_share(Optim(name=name)) == pytest.approx(share, rel=0.01)


def test_a_factored_state_takes_next_to_nothing():
    assert state_share(Optim(name="adafactor")) < 0.1


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_vectors_and_norms_get_no_decay(name):
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2))
    network[2].weight.requires_grad_(False)
    optimizer = build_optimizer(network, Optim(name=name, weight_decay=0.3))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    names = {name: decay.get(id(p)) for name, p in network.named_parameters()}
    assert names == {
        "0.weight": 0.3, "0.bias": 0.0, "1.weight": 0.0, "1.bias": 0.0,
        "2.weight": None, "2.bias": 0.0, "3.weight": 0.0, "3.bias": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_rates_fall_by_a_factor_a_stage_from_the_decoder_to_the_image(name):
    network = nn.ModuleDict({k: nn.Conv2d(1, 1, 1) for k in ("stem", "deep", "decoder")})
    stages = {"stem.weight": 1, "stem.bias": 1, "deep.weight": 2, "deep.bias": 2}
    optimizer = build_optimizer(network, Optim(name=name, layer_decay=0.5, weight_decay=0.3), stages)
    found = {id(p): (g["scale"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert {name: found[id(p)] for name, p in network.named_parameters()} == {
        "stem.weight": (0.25, 0.3), "stem.bias": (0.25, 0.0), "deep.weight": (0.5, 0.3), "deep.bias": (0.5, 0.0),
        "decoder.weight": (1.0, 0.3), "decoder.bias": (1.0, 0.0),
    }  # fmt: skip
    assert scales(optimizer) == [1.0, 0.5, 0.25]
    assert optimizer.param_groups[0]["scale"] == 1.0  # the rate that the log tells
