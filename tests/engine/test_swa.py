"""Stochastic weight averaging against numpy and torch's own."""

import copy

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn

from phalanx.engine.swa import WeightMean, estimate_norms


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))


def trained(count):
    """A network as it is after each of so many epochs."""
    net, states = network(), []
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    for epoch in range(count):
        torch.manual_seed(epoch)
        net.train()
        (net(torch.randn(4, 1, 8, 8) * (1 + epoch)) - epoch).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        states.append(copy.deepcopy(net))
    return states


def test_it_is_the_plain_mean_of_weights_and_statistics():
    nets = trained(5)
    average = WeightMean(network())
    torchs = AveragedModel(network(), use_buffers=True)
    for number, net in enumerate(nets, 1):
        average.add(net, number)
        torchs.update_parameters(net)
    for key, value in average.network.state_dict().items():
        if value.is_floating_point():
            by_hand = np.mean([net.state_dict()[key].double().numpy() for net in nets], axis=0)
            np.testing.assert_allclose(value.double().numpy(), by_hand, rtol=1e-5, atol=1e-7, err_msg=key)
            assert torch.allclose(value, torchs.module.state_dict()[key], atol=1e-6)
    assert average.network[1].num_batches_tracked == 5


def test_the_first_is_taken_bit_for_bit():
    net = trained(1)[0]
    average = WeightMean(network())
    average.add(net, 1)
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in average.network.state_dict().items())


def test_statistics_are_estimated_as_torch_does_without_its_dropout():
    torch.manual_seed(1)
    net, batches = network().eval(), list(torch.randn(6, 4, 1, 8, 8) * 3 + 1)
    plain = copy.deepcopy(net)
    plain[2] = nn.Identity()
    update_bn(batches, plain)
    estimate_norms(net, copy.deepcopy(net).train(), iter(batches), net)
    for layer in (1, 4):
        assert torch.equal(net[layer].running_mean, plain[layer].running_mean)
        assert torch.equal(net[layer].running_var, plain[layer].running_var)
        assert net[layer].momentum == 0.1
    assert not any(module.training for module in net.modules())


def test_resting_layers_keep_their_statistics_and_other_norms_ask_for_no_batch():
    net, like = network().eval(), network().train()
    like[1].eval()
    before = net[1].running_mean.clone()
    estimate_norms(net, like, [torch.randn(4, 1, 8, 8) + 5], net)
    assert torch.equal(net[1].running_mean, before)
    assert not torch.equal(net[4].running_mean, torch.zeros(2))

    def never():
        raise AssertionError("a batch was made")
        yield

    grouped = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4))
    estimate_norms(grouped, grouped, never(), grouped)
