"""The weight average against its definition, worked out number by number."""

import numpy as np
import pytest
import torch
from torch import nn

from phalanx.engine.ema import Average


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1))


def train_a_step(net, seed):
    torch.manual_seed(seed)
    net.train()
    net(torch.randn(4, 1, 8, 8) * seed).square().mean().backward()
    with torch.no_grad():
        for p in net.parameters():
            p -= 0.5 * p.grad
            p.grad = None


@pytest.mark.parametrize("decay", [0.3, 0.999])
def test_average_of_weights_and_batchnorm_buffers_is_the_one_by_hand(decay):
    net = network()
    average = Average(net, decay)
    by_hand = {key: value.double().numpy().copy() for key, value in net.state_dict().items()}
    for step in range(1, 8):
        train_a_step(net, step)
        average.update(net, step)
        keep = min(decay, (1 + step) / (10 + step))
        for key, value in net.state_dict().items():
            new = value.double().numpy()
            by_hand[key] = keep * by_hand[key] + (1 - keep) * new if value.is_floating_point() else new.copy()
    found = average.network.state_dict()
    assert {"1.running_mean", "1.running_var", "1.num_batches_tracked"} <= found.keys() == by_hand.keys()
    for key, expected in by_hand.items():
        np.testing.assert_allclose(found[key].double().numpy(), expected, rtol=1e-5, atol=1e-7, err_msg=key)
    assert found["1.num_batches_tracked"] == 7
    assert not torch.equal(found["1.running_var"], net.state_dict()["1.running_var"])


def test_early_averages_do_not_hold_the_random_start():
    net = nn.Linear(1, 1)
    average = Average(net, 0.9999)
    with torch.no_grad():
        average.network.weight.fill_(1000.0)
        net.weight.fill_(1.0)
    for step in range(1, 60):
        average.update(net, step)
    # a plain average of decay .9999 would still be above 990
    assert average.network.weight.item() < 1.01


def test_without_decay_it_is_the_network_bit_for_bit():
    net = network()
    average = Average(net, 0.0)
    for step in range(1, 4):
        train_a_step(net, step)
        average.update(net, step)
    for key, value in net.state_dict().items():
        assert torch.equal(average.network.state_dict()[key], value), key


def test_average_neither_learns_nor_shares_memory():
    net = network()
    average = Average(net, 0.9)
    assert not average.network.training
    assert not any(p.requires_grad for p in average.network.parameters())
    with torch.no_grad():
        net[0].weight.fill_(7.0)
    assert not (average.network[0].weight == 7).any()
