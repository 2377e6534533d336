"""Log-sum-exp pooling: the head at each place, and what supervises it there."""

import json
import math

import numpy as np
import pytest
import torch
from tests.data.test_presence import make_presence
from tests.labelled import words

from phalanx.cli import main
from phalanx.config import ClassifyConfig, ClassifyModel, validate_as
from phalanx.config.compose import compose_as
from phalanx.errors import ConfigError
from phalanx.models.classifier import build_classifier, log_mean_exp


def model_of(**changes) -> ClassifyModel:
    values = {"encoder": "test_resnet", "head": "sigmoid", "weights": "none", "pool": "lse"}
    return validate_as(ClassifyModel, values | changes)


def test_it_is_the_written_out_formula_and_lies_between_mean_and_maximum():
    cells = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    found = log_mean_exp(cells, 5.0)
    for b in range(2):
        for c in range(3):
            values = cells[b, c].flatten().tolist()
            written = math.log(sum(math.exp(5 * z) for z in values) / 16) / 5
            assert found[b, c].item() == pytest.approx(written, abs=1e-5)
    assert torch.allclose(log_mean_exp(cells, 1e-3), cells.mean((2, 3)), atol=1e-2)
    assert torch.allclose(log_mean_exp(cells, 90.0), cells.amax((2, 3)), atol=4e-2)
    assert torch.isfinite(log_mean_exp(cells * 1e4, 5.0)).all()


@pytest.mark.parametrize("encoder", ["test_resnet", "test_vit"])
def test_the_head_stands_at_each_place(encoder):
    network = build_classifier(model_of(encoder=encoder), classes=3, size=64, channels=1).eval()
    images = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits, maps = network(network.standardised(images), maps=True)
        cells = network.cells(maps)
        assert torch.allclose(cells[:, :, 1, 0], network.head(maps[:, :, 1, 0]), atol=1e-5)
        assert torch.allclose(logits, log_mean_exp(cells, 5.0), atol=1e-5)
        assert torch.allclose(network(images), logits, atol=1e-5)


def test_sharpness_without_the_pooling_is_refused():
    with pytest.raises(ConfigError, match="sharpness: only pool=lse uses it"):
        model_of(pool="mean", sharpness=3)
    assert model_of().sharpness == 5
    assert model_of(pool="mean").sharpness is None


def test_the_heat_map_of_a_marker_is_that_of_the_head(tmp_path):
    """The classes' own regions teach the head where a class is."""
    root = make_presence(tmp_path / "set")
    changes = {
        "data": "teeth_presence", "data.pairs": "[]", "model.pool": "lse", "loss.marker.kind": "heatmap",
        "loss.marker.weight": "30", "runs": str(tmp_path), "epochs": "8", "augment": "none", "data.size": "64",
    }  # fmt: skip
    recipe = words(root, "table") | changes
    config = compose_as(ClassifyConfig, recipe | {"name": "p"})
    assert config.marks_cells
    assert config.marker_maps == 0
    assert main(["train", "fold=all", "name=p", *(f"{key}={value}" for key, value in recipe.items())]) == 0
    lines = [json.loads(line) for line in (tmp_path / "p" / "all" / "log.jsonl").read_text().splitlines()]
    heat = [line["loss/heatmap"] for line in lines if "loss/heatmap" in line]
    assert len(heat) == 8
    assert np.isfinite(heat).all()
    assert heat[-1] < 0.8 * heat[0]
