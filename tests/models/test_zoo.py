"""Every model of configs/model: forward, backward, saved, loaded to equal logits, and as ONNX.

On one core the first takes some five minutes and ONNX half an hour; small networks are in test_build.py.
"""

import gc

import pytest
import torch
import yaml

from phalanx.config import SegmentModel, validate_as
from phalanx.config.compose import config_folder
from phalanx.models.build import build
from phalanx.models.segmenter import dry_run
from phalanx.predict.export import compare, random_picture, write_onnx
from phalanx.predict.exported import open_session
from phalanx.runs import checkpoint

FILES = sorted((config_folder() / "model").glob("*.yaml"))
SIZE = {"efficientnet_b0_pan": 256}  # PAN pools the map at stride 16 three times


def network_of(path, size):
    torch.manual_seed(0)
    values = yaml.safe_load(path.read_text(encoding="utf-8")) | {"weights": "none"}
    if values["arch"] == "swin_unetr":
        pytest.importorskip("einops", reason="needs pip install monai einops")
        pytest.importorskip("monai.networks.nets.swin_unetr", reason="needs pip install monai einops")
    head = values.get("pointrend", {})  # what a file does not say is the default
    if head is not None:
        values["pointrend"] = head | {"points": 64, "subdivision_points": 256}
    return build(validate_as(SegmentModel, values), classes=3, size=size), validate_as(SegmentModel, values)


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_forward_backward_save_and_load(path, tmp_path):
    size = SIZE.get(path.stem, 64)
    network, config = network_of(path, size)
    whole = dry_run(network, torch.zeros(1, 1, 2048, 2048, dtype=torch.uint8))
    assert (whole.logits.device.type, whole.logits.shape) == ("meta", (1, 3, 2048, 2048))
    images = torch.randint(0, 256, (2, 1, size, size), dtype=torch.uint8)
    output = network(images)
    assert output.logits.shape == (2, 3, size, size)
    assert (output.points is None) == (config.pointrend is None)
    total = output.logits.sum() + sum(weight * logits.sum() for weight, logits in output.auxiliary)
    (total if output.points is None else total + output.points.logits.sum()).backward()
    idle = [name for name, p in network.named_parameters() if p.grad is None and "encoder" not in name]
    assert not idle
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
    network.eval()
    with torch.no_grad():
        expected = network.predict(images)
    checkpoint.save(tmp_path / "final", {"weights": network.state_dict()}, {})
    del network, output, total
    gc.collect()
    torch.manual_seed(1)
    again = build(config, classes=3, size=size, pretrained=False).eval()
    again.load_state_dict(checkpoint.load(tmp_path / "final")[0]["weights"])
    with torch.no_grad():
        assert torch.equal(again.predict(images), expected)


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_onnx_gives_the_same_coarse_logits(path, tmp_path):
    pytest.importorskip("onnxscript", reason="needs the extra: pip install '.[onnx]'")
    pytest.importorskip("onnxruntime", reason="needs the extra: pip install '.[onnx]'")
    size = SIZE.get(path.stem, 64)
    network, _ = network_of(path, size)
    write_onnx(network.eval(), size, tmp_path / "model.onnx")
    found = compare(network, open_session(tmp_path / "model.onnx", threads=1), random_picture(size))
    assert found.coarse <= 1e-4
