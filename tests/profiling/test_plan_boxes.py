"""What a recipe of boxes costs, against a ledger of real steps, real layers and the command."""

import json

import pytest
import torch
from tests.boxed import words
from torch.utils.flop_counter import FlopCounterMode

from phalanx.cli import main
from phalanx.config.compose import compose
from phalanx.models.detector import build_detector
from phalanx.profiling import plan
from phalanx.profiling.detect import dense_parts, example_targets
from phalanx.profiling.measure import measure_step
from phalanx.profiling.memory import Ledger, estimate_step, state_bytes
from phalanx.runtime.device import open_device

ARCHITECTURES = ["faster_rcnn", "mask_rcnn", "retinanet", "fcos"]
LARGER = {"data__size": 128, "batch": 4, "model__width": 64, "model__levels": "[8,16]", "model__encoder": "resnet10t"}


def config_of(tmp_path, architecture, **changes):
    return compose(words(tmp_path, model=architecture, **changes))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_estimate_is_near_what_a_ledger_of_a_real_step_counts(tmp_path, architecture):
    """Not equal: how many samples of objects there are depends on values, and a step may have fewer than the most."""
    config = config_of(tmp_path, architecture, **LARGER, model__samples=64, model__proposals=64)
    torch.manual_seed(0)
    network = build_detector(config, pretrained=False)
    targets = example_targets(config, 128, 4)
    with Ledger() as ledger:
        images = torch.zeros(4, 1, 128, 128, dtype=torch.uint8)
        terms, _ = network.losses(images, targets)
        torch.stack([term.mean() for term in terms.values()]).sum().backward()
    found = estimate_step(config, network, size=128, batch=4, precision="32", gpu=False)
    assert found - state_bytes(config, network) == pytest.approx(ledger.peak, rel=0.2)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_multiply_adds_are_those_of_a_real_prediction_with_all_its_proposals(tmp_path, architecture):
    config = config_of(tmp_path, architecture)
    network = build_detector(config, pretrained=False).eval()
    found = plan.multiply_adds(network, 64)
    assert set(found) == set(dense_parts(network)) == set(plan.parameters(network))
    assert sum(plan.parameters(network).values()) == sum(p.numel() for p in network.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.predict(torch.randint(0, 256, (1, 1, 64, 64), dtype=torch.uint8))
    real, layers = counter.get_total_flops() // 2, sum(found[name] for name in found if "head" not in name)
    assert layers <= real
    assert real <= sum(found.values())  # as many proposals and masks as there may be


def test_the_command_plans_boxes(tmp_path, capsys):
    pairs = words(tmp_path, model="mask_rcnn", data__size=96)
    assert main(["plan", *(f"{k}={v}" for k, v in pairs.items()), f"json={tmp_path}/plan.json"]) == 0
    found = json.loads((tmp_path / "plan.json").read_text())
    assert set(found["parameters"]) == {"encoder", "pyramid", "proposals", "box head", "mask head"}
    assert found["peak"] > found["state"] > 0
    assert "mask_rcnn on test_resnet, 96 pixels" in capsys.readouterr().out


@pytest.mark.slow
def test_a_gpus_memory_gives_batches_and_a_size(tmp_path):
    found = plan.make_plan(config_of(tmp_path, "mask_rcnn", data__size=96, batch=1), vram=0.4, measure=False)
    assert set(found.batches) == {96, 512, 768, 1024}
    assert found.batches[512] > found.batches[1024] > 0
    assert found.largest_size >= 512


def test_larger_batches_samples_and_images_take_more(tmp_path):
    def peak(**changes):
        return plan.make_plan(config_of(tmp_path, "mask_rcnn", **changes), vram=None, measure=False).peak

    usual = peak()
    assert usual < peak(batch=8)
    assert usual < peak(model__samples=256)
    assert usual < peak(data__size=128)


def test_a_step_can_be_measured(tmp_path):
    config = config_of(tmp_path, "mask_rcnn", batch=2)
    network = build_detector(config, pretrained=False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert measure_step(config, network, open_device("cpu", "32"), size=64, batch=2) > 0
    assert any(not torch.equal(before[name], value) for name, value in network.state_dict().items())
