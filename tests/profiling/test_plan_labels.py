"""What a recipe of labels costs, against a ledger of real steps and against what a process takes."""

import json

import numpy as np
import pytest
import torch
from tests.labelled import words

from phalanx.cli import main
from phalanx.config.compose import compose
from phalanx.losses.class_weights import count_labels
from phalanx.losses.classification import ClassificationLoss
from phalanx.models.classifier import build_classifier
from phalanx.profiling import plan
from phalanx.profiling.memory import Ledger, estimate_step, state_bytes


@pytest.mark.parametrize(
    ("encoder", "colour"), [("test_resnet", False), ("test_vit", True), ("test_efficientnet", False)]
)
def test_the_estimate_is_what_a_ledger_of_a_real_step_counts(tmp_path, encoder, colour):
    changes = {"model__encoder": encoder, "data__colour": str(colour).lower(), "data__size": 96, "batch": 4}
    config = compose(words(tmp_path, "folders", **changes))
    channels = 3 if colour else 1
    torch.manual_seed(0)
    net = build_classifier(config.model, classes=3, size=96, channels=channels, pretrained=False)
    loss = ClassificationLoss(config.loss, config.model.head, config.data.classes, count_labels(np.eye(3)))
    labels = torch.eye(3)[[0, 1, 2, 0]]
    with Ledger() as ledger:
        images = torch.zeros(4, channels, 96, 96, dtype=torch.uint8)
        loss(net(images), labels, 0).total.backward()
    found = estimate_step(config, net, size=96, batch=4, precision="32", gpu=False)
    assert found - state_bytes(config, net) == pytest.approx(ledger.peak, rel=0.05)


@pytest.mark.slow
def test_the_command_plans_labels(tmp_path, capsys):
    pairs = words(tmp_path, "folders", name="planned", data__size=64)
    assert main(["plan", *(f"{k}={v}" for k, v in pairs.items()), "vram=1", f"json={tmp_path}/plan.json"]) == 0
    found = json.loads((tmp_path / "plan.json").read_text())
    assert set(found["parameters"]) == {"encoder", "head"}
    assert found["multiply_adds"]["head"] == found["parameters"]["head"] - 3  # one per weight, none of the biases
    assert set(found["batches"]) == {"64", "224", "384", "512"}
    assert found["batches"]["224"] > found["batches"]["512"] > 0
    assert "softmax classifier on test_resnet, 64 pixels" in capsys.readouterr().out


def test_larger_batches_and_images_take_more(tmp_path):
    config = compose(words(tmp_path, "table", data__size=64))
    peaks = [
        plan.make_plan(config.model_copy(update={"batch": batch}), vram=None, measure=False).peak for batch in (2, 8)
    ]
    assert peaks[0] < peaks[1]
