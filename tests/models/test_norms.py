"""Norms exchanged on any network, against the definition of group norm."""

import pytest
import timm
import torch
from torch import nn

from phalanx.models.norms import exchange_norms, group_count


def test_groups_divide_the_channels_and_hold_four_or_more_where_that_can_be():
    for channels in range(1, 2049):
        groups = group_count(channels)
        fits = [g for g in range(1, 33) if channels % g == 0 and channels // g >= 4]
        assert channels % groups == 0
        assert groups == max(fits, default=1)


def group_norm(x, groups, weight, bias, eps):
    """Mean and variance over the channels of a group and all places."""
    parts = x.reshape(len(x), groups, -1)
    mean, variance = parts.mean(2, keepdim=True), parts.var(2, keepdim=True, unbiased=False)
    shape = (1, -1, *[1] * (x.ndim - 2))
    return ((parts - mean) / (variance + eps).sqrt()).view_as(x) * weight.view(shape) + bias.view(shape)


@pytest.mark.parametrize("channels", [1, 3, 7, 24, 40, 48, 144, 1392])
@pytest.mark.parametrize(
    ("kind", "places"), [(nn.BatchNorm1d, (5,)), (nn.BatchNorm2d, (3, 5)), (nn.BatchNorm3d, (2, 3, 2))]
)
def test_any_batch_norm_becomes_group_norm_with_its_scale_and_offset(channels, kind, places):
    norm = kind(channels, eps=0.01)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    weight, bias = norm.weight, norm.bias
    net = exchange_norms(nn.Sequential(nn.Identity(), nn.ModuleDict({"deep": nn.Sequential(norm)})), "group")
    new = net[1]["deep"][0]
    assert isinstance(new, nn.GroupNorm)
    assert new.weight is weight
    assert new.bias is bias
    x = torch.randn(2, channels, *places)
    torch.testing.assert_close(new(x), group_norm(x, group_count(channels), weight, bias, 0.01))


def test_a_norm_without_scale_stays_without():
    new = exchange_norms(nn.Sequential(nn.BatchNorm2d(8, affine=False)), "group")[0]
    assert not list(new.parameters())


def test_timms_norm_keeps_the_activation_it_carries():
    """Its BatchNormAct2d is norm and activation in one: the activation would vanish without a trace."""
    net = nn.Sequential(timm.layers.BatchNormAct2d(8, act_layer=nn.SiLU))
    nn.init.normal_(net[0].weight)
    weight = net[0].weight
    x = torch.randn(2, 8, 4, 4)
    y = group_norm(x, 2, weight, torch.zeros(8), 1e-5)
    torch.testing.assert_close(exchange_norms(net, "group")(x), y * torch.sigmoid(y))


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "regnety_002"])
def test_no_batch_norm_stays_and_a_sample_no_longer_sees_its_neighbours(name):
    torch.manual_seed(0)
    net = timm.create_model(name, in_chans=1, num_classes=3)
    count = sum(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    exchange_norms(net, "group").train()
    assert count > 5
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in net.modules())
    assert sum(isinstance(m, nn.GroupNorm) for m in net.modules()) >= count
    for module in net.modules():
        if isinstance(module, nn.Dropout) or "drop" in type(module).__name__.lower():
            module.eval()
    x = torch.randn(3, 1, 64, 64)
    torch.testing.assert_close(net(x)[:1], net(x[:1]), rtol=1e-4, atol=1e-4)
