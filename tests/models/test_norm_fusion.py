"""Norms as a GPU runs them, simulated on the CPU: the same numbers, fewer operations, maps in their type and layout."""

import copy

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torch.nn.functional as F
from tests.operations import Operations
from torch import nn

from phalanx.config.compose import compose
from phalanx.models import norm_paths
from phalanx.models.build import build
from phalanx.models.norm_fusion import Shared, following_activations, prepare_for_gpu
from phalanx.models.norm_paths import GpuGroupNorm, GpuNorm, simulated_gpu
from phalanx.models.norms import replace_norms
from phalanx.models.segmenter import Segmenter

KINDS = ["torch", pytest.param("triton", marks=pytest.mark.skipif(
    not pytest.importorskip("importlib.util").find_spec("triton"), reason="Triton is not installed"))]  # fmt: skip


@pytest.fixture(params=KINDS)
def kind(request, monkeypatch):
    """The kernels chosen, until the end of a test."""
    monkeypatch.setattr(norm_paths, "kernels", lambda: request.param)
    monkeypatch.setattr(norm_paths, "_on_gpu", "module")
    return request.param


@pytest.fixture
def triton(monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setattr(norm_paths, "kernels", lambda: "triton")
    monkeypatch.setattr(norm_paths, "_on_gpu", "module")


def network(*, gpu, classes=3, size=64, **options):
    words = {"model": "fpn_b3", "model.weights": "none", "model.pointrend": "null", "data.size": str(size),
             "loss": "bce3_dice4_focal3"} | options  # fmt: skip
    torch.manual_seed(0)
    if not gpu:
        return build(compose(words).model, classes=classes, size=size, pretrained=False)
    with simulated_gpu():
        return build(compose(words).model, classes=classes, size=size, pretrained=False)


def without_chance(net):
    for module in net.modules():
        if isinstance(module, (nn.Dropout, nn.Dropout2d)):
            module.p = 0.0
        if hasattr(module, "_drop_connect_rate"):
            module._drop_connect_rate = 0.0
    return net


def images(size=64):
    torch.manual_seed(1)
    return torch.randint(0, 256, (2, 1, size, size), dtype=torch.uint8)


def gradients(net):
    logits = net(images()).logits
    weights = torch.linspace(-1, 1, logits.numel()).view_as(logits)
    found = torch.autograd.grad((logits * weights).sum(), list(net.parameters()), allow_unused=True)
    return [logits.detach(), *(value for value in found if value is not None)]


ENCODERS = {
    "smp's EfficientNet, shared SiLU": {"model.encoder": "efficientnet-b0"},
    "timm's norms with activations": {"model.encoder": "tu-test_efficientnet"},
    "layer norm": {"model.encoder": "tu-test_efficientnet", "model.norm": "layer"},
    "torchvision's ResNet in smp, shared ReLU": {"model.encoder": "resnet18"},
    "its bottlenecks, computed again": {"model.encoder": "resnet50", "model.activation_checkpointing": "true"},
    "ReLU6, blocks computed again": {"model.encoder": "mobilenet_v2", "model.activation_checkpointing": "true"},
}


def assert_the_same(found, wanted, rounding):
    for a, b in zip(found, wanted, strict=True):
        assert (a - b).abs().max() <= rounding * (b.abs().max() + 1)


LONG = ("ReLU6, blocks computed again",)  # as others, with another activation


@pytest.mark.parametrize(
    "options",
    [pytest.param(value, id=name, marks=pytest.mark.slow if name in LONG else ()) for name, value in ENCODERS.items()],
)
def test_fused_networks_compute_the_same_and_on_a_cpu_bit_for_bit(triton, options, monkeypatch):
    """In float64, where no sign at a kink of an activation depends on rounding."""
    plain, net = (without_chance(network(gpu=gpu, **options)) for gpu in (False, True))
    assert not any(isinstance(module, GpuNorm) for module in plain.modules())
    assert sum(isinstance(module, GpuNorm) for module in net.modules()) > 10
    assert list(net.state_dict()) == list(plain.state_dict())
    wanted = gradients(plain)
    assert all(map(torch.equal, wanted, gradients(copy.deepcopy(net))))
    monkeypatch.setattr(norm_paths, "TYPES", (torch.float64,))
    with simulated_gpu(), Operations() as counted:
        found = gradients(net.double())
    assert counted.names["aten.native_group_norm.default"] == counted.names["aten.native_layer_norm.default"] == 0
    assert_the_same(found, gradients(plain.double()), 1e-8)


@pytest.mark.parametrize("norm", ["group", "layer"])
def test_pytorch_s_path_computes_the_same_and_on_a_cpu_bit_for_bit(monkeypatch, norm):
    monkeypatch.setattr(norm_paths, "kernels", lambda: "torch")
    options = {"model.encoder": "tu-test_efficientnet", "model.norm": norm}
    plain, net = (without_chance(network(gpu=gpu, **options)) for gpu in (False, True))
    assert list(net.state_dict()) == list(plain.state_dict())
    wanted = gradients(plain)
    assert all(map(torch.equal, wanted, gradients(copy.deepcopy(net))))
    with simulated_gpu():
        assert_the_same(gradients(net), wanted, 1e-3)


@pytest.mark.parametrize(("norm", "last"), [("group", False), ("group", True), ("layer", True)])
def test_half_precision_and_layout_pass_through_every_norm(kind, norm, last):
    """As autocast runs them: PyTorch's own group norm returns float32 there, and contiguous maps."""
    options = {
        "model.encoder": "tu-mobilenetv3_small_050",
        "model.norm": norm,
        "model.channels_last": str(last).lower(),
    }
    net, seen = network(gpu=True, **options), []
    for module in net.modules():
        if isinstance(module, GpuNorm):
            module.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    with simulated_gpu(), torch.autocast("cpu", torch.bfloat16):
        logits = net(images()).logits
    logits.float().square().mean().backward()
    assert len(seen) > 10
    for before, after in seen:
        assert before.dtype == after.dtype == torch.bfloat16
        assert before.stride() == after.stride()
        if last:
            assert after.is_contiguous(memory_format=torch.channels_last)
    assert all(parameter.grad.dtype == torch.float32 for parameter in net.parameters())


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("what", ["group", "instance", "layer", "last"])
def test_statistics_of_half_precision_maps_are_float32(kind, half, last, what):
    """Maps far from zero, whose mean in bfloat16 would be off by more than their deviation is wide."""
    torch.manual_seed(0)
    x = (torch.randn(2, 8, 6, 7) + 100).to(half)
    x = x.to(memory_format=torch.channels_last) if last else x
    if what == "last":
        plain = nn.LayerNorm(8)
        module = copy.deepcopy(plain)
        module.__class__ = type("LayerNorm", (norm_paths.GpuLastNorm, nn.LayerNorm), {})
        norm_paths.choose()
        x = x.permute(0, 2, 3, 1)
    else:
        plain = replace_norms(nn.Sequential(nn.BatchNorm2d(8)), what)
        module = copy.deepcopy(plain)
        prepare_for_gpu(module, 7)
        assert isinstance(module[0], GpuNorm)
    a, b = x.detach().requires_grad_(), x.detach().double().requires_grad_()
    with simulated_gpu():
        found = module(a)
    wanted = plain.double()(b)
    dy = torch.randn(found.shape)
    found.backward(dy.to(half))
    wanted.backward(dy.to(half).double())
    rounding = torch.finfo(half).eps
    assert found.dtype == a.grad.dtype == half
    assert found.stride() == a.grad.stride() == x.stride()
    torch.testing.assert_close(found.double(), wanted, rtol=rounding, atol=1e-3)
    torch.testing.assert_close(a.grad.double(), b.grad, rtol=rounding, atol=1e-3 * b.grad.abs().max())
    for p, q in zip(module.parameters(), plain.parameters(), strict=True):
        assert p.grad.dtype == torch.float32
        torch.testing.assert_close(p.grad.double(), q.grad, rtol=1e-4, atol=1e-4)


def test_instance_norm_refuses_single_pixels_on_a_gpu_too(kind):
    net = replace_norms(nn.Sequential(nn.BatchNorm2d(8)), "instance")
    prepare_for_gpu(net, 8)
    with simulated_gpu(), pytest.raises(ValueError, match=r"model\.norm=instance would zero the 1 x 1 maps"):
        net(torch.randn(2, 8, 1, 1))


class Pieces(nn.Module):
    """A convolution, a norm and an activation, joined by a function."""

    def __init__(self, join, activation):
        super().__init__()
        self.conv, self.norm, self.act, self.join = nn.Conv2d(1, 8, 3), nn.GroupNorm(2, 8), activation, join

    def forward(self, x):
        return self.join(self, self.norm(self.conv(x)))


def added(net, y):
    y += 1
    return net.act(y)


JOINS = {
    "after it": (lambda net, y: net.act(y), 1),
    "the norm's output is used again": (lambda net, y: net.act(y) * y, 0),
    "the activation's output is used again": (lambda net, y: (lambda z: z * z)(net.act(y)), 1),
    "called twice": (lambda net, y: net.act(net.act(y)), 1),
    "called twice, and the norm's output in between": (lambda net, y: net.act(y) + net.act(2 * y), 0),
    "called before, on other maps": (lambda net, y: net.act(torch.ones_like(y)) + net.act(y), 0),  # y's shape is used
    "called on other maps afterwards": (lambda net, y: net.act(net.act(y) - 1), 1),
    "something is added": (added, 0),
    "something is added elsewhere": (lambda net, y: net.act(y + 1), 0),
    "dropout between": (lambda net, y: net.act(F.dropout(y, 0.5, net.training)), 0),
    "a shape is asked for": (lambda net, y: net.act(y) if y.ndim else y, 0),  # rather one too few
}


@pytest.mark.parametrize(("join", "count"), JOINS.values(), ids=JOINS)
def test_an_activation_is_fused_only_if_it_alone_uses_the_norm(triton, join, count):
    net = Pieces(join, nn.SiLU())
    assert prepare_for_gpu(net, 16) == count
    assert net.norm.activation == (("silu", 0.0) if count else ("none", 0.0))
    torch.manual_seed(0)
    wanted = net(torch.ones(1, 1, 16, 16))
    torch.manual_seed(0)
    with simulated_gpu():
        torch.testing.assert_close(net(torch.ones(1, 1, 16, 16)), wanted)
    assert net.training


@pytest.mark.parametrize(
    ("activation", "name"),
    [(nn.ReLU(inplace=True), "relu"), (nn.LeakyReLU(0.3, inplace=True), "leaky_relu"), (nn.GELU(), "gelu"),
     (nn.GELU("tanh"), "gelu_tanh"), (nn.Hardswish(inplace=True), "hardswish"), (nn.ReLU6(inplace=True), "relu6"),
     (nn.Sigmoid(), "sigmoid"), (timm.layers.GELUTanh(), "gelu_tanh"), (timm.layers.Swish(), "silu"),
     (nn.Softplus(), "none"), (nn.PReLU(), "none")],
)  # fmt: skip
def test_activations_are_known_by_class_and_slope_also_in_place(triton, activation, name):
    net = Pieces(lambda net, y: net.act(y) + 1, activation)
    prepare_for_gpu(net, 16)
    assert net.norm.activation[0] == name
    x = torch.randn(2, 1, 16, 16)
    wanted = net(x)
    with simulated_gpu(), Operations() as counted:
        found = net(x)
    torch.testing.assert_close(found, wanted)
    assert counted.names["phalanx.group_norm_act.default"] == 1
    assert (sum(counted.names.values()) == 3) == (name != "none")  # convolution, norm, sum


@pytest.mark.parametrize(("encoder", "blocks", "fused"), [("resnet18", 8, 9), ("resnet50", 16, 33)])
def test_a_relu_of_several_norms_runs_only_on_the_sums_of_blocks(triton, encoder, blocks, fused):
    """One of torchvision's blocks has one ReLU for its norms and for the sum at its end."""
    net = network(gpu=True, **{"model.encoder": encoder})
    encoder = net.segmenter.encoder
    kinds = [type(module).__mro__[1] for module in encoder.modules() if isinstance(module, nn.ReLU)]
    assert kinds.count(Shared) == blocks
    with_activation = [m for m in encoder.modules() if isinstance(m, GpuNorm) and m.activation != ("none", 0.0)]
    assert len(with_activation) == fused
    with simulated_gpu(), Operations() as counted:
        encoder(torch.rand(2, 1, 64, 64))
    assert counted.names["aten.relu_.default"] + counted.names["aten.relu.default"] == blocks
    assert all(module.computed is None for module in encoder.modules() if isinstance(module, Shared))


def test_a_shared_activation_compiles_in_one_graph(triton):
    net = Pieces(lambda net, y: net.act(net.act(y) - 1), nn.SiLU())
    assert prepare_for_gpu(net, 16) == 1
    x = torch.randn(1, 1, 16, 16)
    with simulated_gpu():
        torch.testing.assert_close(torch.compile(net, backend="eager", fullgraph=True)(x), net(x))


def test_batch_norm_and_norms_of_transformers_stay(triton):
    net = nn.Sequential(nn.Conv2d(1, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(2), nn.LayerNorm(64))
    assert prepare_for_gpu(net, 8) == 0
    assert not any(isinstance(module, GpuNorm) for module in net.modules())


def test_what_cannot_run_without_values_has_norms_without_activations(triton):
    net = Pieces(lambda net, y: net.act(y) if float(y.sum()) else y, nn.ReLU())
    assert prepare_for_gpu(net, 16) == 0
    assert isinstance(net.norm, GpuGroupNorm)
    assert following_activations(net, 16) == []


def operations(net, x, outputs, precision):
    """Of forward and backward."""
    with torch.autocast("cpu", torch.bfloat16, precision == "bf16"), Operations() as forward:
        found = outputs(net(x))
    with Operations() as backward:
        torch.autograd.backward(found, [torch.ones_like(value) for value in found])
    return forward.names, backward.names


@pytest.mark.parametrize("precision", ["32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_forward_and_backward_dispatch_fewer_operations_than_a_plain_network(triton, precision):
    """The main network with group norm and a point head; the plain one is smp's with batch norm."""
    words = {"model.pointrend": "{}", "loss": "bce_dice"}
    net = network(gpu=True, classes=32, **words)
    assert net.core is not net.segmenter
    with simulated_gpu():
        ours = operations(net, images(), lambda found: [found.logits, found.points.logits], precision)
    plain = smp.create_model("fpn", "efficientnet-b3", encoder_weights=None, in_channels=1, classes=32).train()
    theirs = operations(plain, images().float(), lambda logits: [logits], precision)
    assert ours[0]["phalanx.group_norm_act.default"] == ours[1]["phalanx.group_norm_act_backward.default"] == 84
    blocks = 26  # SiLU of squeeze and excitation; all others are fused
    assert (ours[0]["aten.silu.default"], ours[0]["aten.relu_.default"]) == (blocks, 0)
    forward, backward = (sum(mine.values()) / sum(his.values()) for mine, his in zip(ours, theirs, strict=True))
    assert forward < 0.8
    assert backward < 1.0


def test_pytorch_s_path_dispatches_no_more_than_before(monkeypatch):
    """Which is the default: in 32 bit fewer, as its statistics are not outputs that autograd has to follow."""
    monkeypatch.setattr(norm_paths, "kernels", lambda: "torch")
    options = {"model.encoder": "tu-test_efficientnet"}
    plain, net = (network(gpu=gpu, **options) for gpu in (False, True))
    before = operations(plain, images(), lambda found: [found.logits], "32")
    with simulated_gpu():
        after = operations(net, images(), lambda found: [found.logits], "32")
    assert sum(after[0].values()) < sum(before[0].values())
    assert sum(after[1].values()) < sum(before[1].values())


def test_stochastic_depth_drops_and_scales_whole_images(triton):
    """In one pass over the maps, with the expectation of the block."""
    net = network(gpu=True, **{"model.encoder": "efficientnet-b0", "model.drop_path": "0.5"})
    assert isinstance(net.segmenter, Segmenter)
    block = next(m for m in net.modules() if type(m).__name__ == "MBConvBlock" and m._has_drop_connect)
    x = torch.randn(512, block._expand_conv.in_channels, 2, 2)
    with simulated_gpu(), torch.no_grad():
        block.eval()
        branch = block(x, 0.25) - x
        block.train()
        found = block(x, 0.25) - x
    kept = found.flatten(1).norm(dim=1) > 0
    assert 0.65 < kept.double().mean() < 0.85
    torch.testing.assert_close(found[kept], branch[kept] / 0.75, rtol=1e-4, atol=1e-5)
