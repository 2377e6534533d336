"""On a CUDA device: losses, norms, training and prediction are those of the CPU, by either kind of kernels."""

import numpy as np
import pytest
import torch

from phalanx.cli import main
from phalanx.config import Loss, SegmentModel, validate_as
from phalanx.losses.stages import StagedLoss
from phalanx.masks.planes import pack
from phalanx.models.build import build
from phalanx.runs.checkpoint import load_weights
from phalanx.runtime import kernels as choice
from phalanx.submission.table import Submission

pytestmark = pytest.mark.gpu
STAGES = [{"weights": {"bce": 0.3, "dice": 0.3, "focal": 0.2, "tversky": 0.2, "lovasz": 0.5, "boundary": 0.1}}]


@pytest.fixture(params=["torch", "triton"])
def kernels(request, monkeypatch):
    """Either kind of kernels in turn."""
    if request.param == "triton":
        pytest.importorskip("triton")
    monkeypatch.setenv(choice.VARIABLE, request.param)
    choice.kernels.cache_clear()
    yield request.param
    choice.kernels.cache_clear()


def blobs(batch, classes, side):
    """Overlapping disks as bit-planes uint8[B, P, S, S]; one class is absent."""
    rng, (y, x) = np.random.default_rng(3), np.mgrid[:side, :side]
    masks = np.zeros((batch, classes, side, side), bool)
    for b in range(batch):
        for c in range(classes - 1):
            cy, cx, r = rng.uniform(0.2, 0.8) * side, rng.uniform(0.2, 0.8) * side, rng.uniform(0.05, 0.3) * side
            masks[b, c] = (y - cy) ** 2 + (x - cx) ** 2 < r**2
    return torch.from_numpy(np.stack([pack(stack).transpose(2, 0, 1) for stack in masks]))


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2), (torch.float16, 2e-3)])
@pytest.mark.parametrize(("classes", "side"), [(29, 96), (32, 65), (3, 127)])
def test_losses_and_gradients_are_those_of_float64_on_the_cpu(kernels, classes, side, dtype, close):
    torch.manual_seed(0)
    planes, names = blobs(2, classes, side), [f"c{i}" for i in range(classes)]
    rounded = (torch.randn(2, classes, side, side) * 3).to(dtype)
    loss = StagedLoss(validate_as(Loss, {"stages": STAGES}), names)
    expected_logits = rounded.double().requires_grad_()
    expected = loss(0, expected_logits, None, planes)
    (wanted,) = torch.autograd.grad(expected.total, expected_logits)
    logits = rounded.cuda().requires_grad_()
    found = loss(0, logits, None, planes.cuda())
    (gradient,) = torch.autograd.grad(found.total, logits)
    torch.testing.assert_close(found.total.double().cpu(), expected.total, rtol=1e-5, atol=1e-6)
    for name, term in expected.terms.items():
        torch.testing.assert_close(found.terms[name].double().cpu(), term.double(), rtol=1e-4, atol=1e-5)
    scale = wanted.abs().max()
    torch.testing.assert_close(gradient.double().cpu() / scale, wanted / scale, rtol=close, atol=close)


@pytest.mark.parametrize("norm", ["group", "instance", "layer"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_network_s_logits_and_gradients_are_those_of_the_cpu(kernels, norm, layout):
    options = {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32}
    values = {"arch": "fpn", "encoder": "tu-test_efficientnet", "weights": "none", "norm": norm}
    config = validate_as(SegmentModel, values | {"options": options, "pointrend": None})
    ends = []
    images = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        network = build(config, classes=3, size=64, pretrained=False).to(device).eval()
        if device == "cuda":
            network = network.to(memory_format=layout)
        logits = network(images.to(device)).logits
        gradients = torch.autograd.grad(logits.square().mean(), list(network.parameters()), allow_unused=True)
        ends.append([value.float().cpu() for value in (logits, *gradients) if value is not None])
    for found, wanted in zip(ends[1], ends[0], strict=True):
        torch.testing.assert_close(found, wanted, rtol=2e-2, atol=2e-3 * float(wanted.abs().max()) + 1e-6)


@pytest.mark.parametrize("precision", ["32", "bf16", "fp16"])
def test_two_trainings_are_bit_equal_and_learn(kernels, tiny, tmp_path, precision):
    ends = []
    for name in ("a", "b"):
        words = tiny("fpn", name=name, runs=tmp_path, device="cuda", precision=precision)
        assert main(["train", *words]) == 0
        ends.append(load_weights(tmp_path / name / "fold0" / "final")[0])
    assert ends[0].keys() == ends[1].keys()
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]), name


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize(
    "changes",
    [
        {"augment": "affine"},
        {"accumulate": 2, "model__norm": "batch", "augment__device": "cuda"},
        {"loss__stages": "[{weights:{bce:0.5,lovasz:0.5,point:0.5}}]"},
        {"optim__freeze": "{stages:3,epochs:2}", "model__channels_last": True},
    ],
)
def test_steps_as_graphs_end_in_the_bits_of_steps_without(
    kernels, tiny, tmp_path, monkeypatch, capsys, precision, changes
):
    """Dropout and points among them; of three steps per epoch, the first is like any other."""
    from phalanx.engine.graph import CudaGraph

    replays, replay = [], CudaGraph.replay
    monkeypatch.setattr(CudaGraph, "replay", lambda graph: (replays.append(1), replay(graph)))
    ends = []
    for graphs in (False, True):
        words = tiny("fpn", name=f"graphs{graphs}", runs=tmp_path, device="cuda", precision=precision,
                     cuda_graphs=graphs, batch=1, **changes)  # fmt: skip
        assert main(["train", *words]) == 0
        ends.append(load_weights(tmp_path / f"graphs{graphs}" / "fold0" / "final")[0])
    assert "without graphs" not in capsys.readouterr().out
    assert len(replays) > 10
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]), name


def test_masks_predicted_on_a_gpu_are_those_of_the_cpu(kernels, runs, hands, tmp_path):
    tables = []
    for device in ("cpu", "cuda"):
        out = tmp_path / f"{device}.csv"
        words = ["infer", "experiment=fpn", f"runs={runs}", f"data.root={hands}", f"out={out}", "progress=false"]
        assert main([*words, "threshold=0.2", f"device={device}", "precision=32"]) == 0
        tables.append(Submission.read(out))
    one, other = tables
    for image in one.images:
        a, b = (np.stack(list(table.stack(image).masks(table.sizes[image]))) for table in tables)
        assert (a != b).mean() < 1e-3
    assert one.images == other.images
