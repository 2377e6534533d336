"""Norms exchanged on any network, against their definitions."""

import pytest
import timm
import torch
from torch import nn

from phalanx.errors import ConfigError
from phalanx.models.norms import ChannelNorm, InstanceNorm, group_count, replace_norms


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
    net = replace_norms(nn.Sequential(nn.Identity(), nn.ModuleDict({"deep": nn.Sequential(norm)})), "group")
    new = net[1]["deep"][0]
    assert isinstance(new, nn.GroupNorm)
    assert new.weight is weight
    assert new.bias is bias
    x = torch.randn(2, channels, *places)
    torch.testing.assert_close(new(x), group_norm(x, group_count(channels), weight, bias, 0.01))


@pytest.mark.parametrize("kind", ["group", "instance", "layer"])
def test_a_norm_without_scale_stays_without(kind):
    new = replace_norms(nn.Sequential(nn.BatchNorm2d(8, affine=False)), kind)[0]
    assert not list(new.parameters())
    assert new(torch.randn(2, 8, 3, 3)).std() > 0.5


@pytest.mark.parametrize("channels", [2, 7, 24, 1392])
@pytest.mark.parametrize(
    ("norm", "places"), [(nn.BatchNorm1d, (5,)), (nn.BatchNorm2d, (3, 5)), (nn.BatchNorm3d, (2, 3, 2))]
)
@pytest.mark.parametrize("kind", ["instance", "layer"])
def test_instance_and_layer_norm_are_their_definitions_with_the_old_scale_and_offset(kind, norm, places, channels):
    """Mean and variance over the places of a channel, or over the channels of a place; one image at a time."""
    old = norm(channels, eps=0.01)
    nn.init.normal_(old.weight)
    nn.init.normal_(old.bias)
    new = replace_norms(nn.Sequential(old), kind)[0]
    assert new.weight is old.weight
    assert new.bias is old.bias
    x = torch.randn(2, channels, *places, dtype=torch.float64)
    flat, expected = x.flatten(2).numpy(), torch.empty_like(x).flatten(2)
    weight, bias = old.weight.detach().numpy(), old.bias.detach().numpy()
    for b in range(2):
        for i in range(channels if kind == "instance" else flat.shape[2]):
            part = flat[b, i] if kind == "instance" else flat[b, :, i]
            value = (part - part.mean()) / (part.var() + 0.01) ** 0.5
            if kind == "instance":
                expected[b, i] = torch.from_numpy(value * weight[i] + bias[i])
            else:
                expected[b, :, i] = torch.from_numpy(value * weight + bias)
    torch.testing.assert_close(new.double()(x), expected.view_as(x), rtol=1e-6, atol=1e-6)


def test_norms_that_would_erase_what_they_are_given_are_refused():
    with pytest.raises(ConfigError, match=r"model\.norm=layer: this network has a norm over one channel"):
        replace_norms(nn.Sequential(nn.BatchNorm2d(1)), "layer")
    pooled = replace_norms(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(8)), "instance")
    for images in (1, 2):  # torch refuses the first alone
        with pytest.raises(ValueError, match=r"model\.norm=instance would zero the 1 x 1 maps"):
            pooled(torch.randn(images, 8, 4, 4))


def test_timms_norm_keeps_the_activation_it_carries():
    """Its BatchNormAct2d is norm and activation in one: the activation would vanish without a trace."""
    net = nn.Sequential(timm.layers.BatchNormAct2d(8, act_layer=nn.SiLU))
    nn.init.normal_(net[0].weight)
    weight = net[0].weight
    x = torch.randn(2, 8, 4, 4)
    y = group_norm(x, 2, weight, torch.zeros(8), 1e-5)
    torch.testing.assert_close(replace_norms(net, "group")(x), y * torch.sigmoid(y))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("test_efficientnet", "group"), ("test_resnet", "group"), ("regnety_002", "group"), ("test_resnet", "instance"),
     ("test_efficientnet", "layer")],
)  # fmt: skip
def test_no_batch_norm_stays_and_a_sample_no_longer_sees_its_neighbours(name, kind):
    torch.manual_seed(0)
    net = timm.create_model(name, in_chans=1, num_classes=3)
    count = sum(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    replace_norms(net, kind).train()
    assert count > 5
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in net.modules())
    new = {"group": nn.GroupNorm, "instance": InstanceNorm, "layer": ChannelNorm}[kind]
    assert sum(isinstance(m, new) for m in net.modules()) >= count
    for module in net.modules():
        if isinstance(module, nn.Dropout) or "drop" in type(module).__name__.lower():
            module.eval()
    net, x = net.double(), torch.randn(3, 1, 64, 64, dtype=torch.float64)  # batches of another size round otherwise
    torch.testing.assert_close(net(x)[:1], net(x[:1]), rtol=1e-9, atol=1e-9)
