"""BatchNorm over pooled maps: a batch of one image has no variance there, which is refused before training."""

import pytest
import torch
from torch import nn

from phalanx.cli import main
from phalanx.errors import ConfigError
from phalanx.models.norms import pooled_norms, refusing_single_values


def pooled():
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.AdaptiveAvgPool2d(1), nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)
    )


class Grey(nn.Module):
    def __init__(self):
        super().__init__()
        self.core = pooled()

    def forward(self, images):
        return self.core(images.float())


def test_the_layers_of_pooled_maps_are_found():
    network = Grey()
    assert pooled_norms(network, 32) == ["core.4"]
    assert network.training
    network.core[4] = nn.GroupNorm(1, 2)
    assert pooled_norms(network, 32) == []


def test_only_torchs_own_error_is_put_in_words():
    with pytest.raises(ConfigError, match="norm=batch"), refusing_single_values():
        pooled()(torch.ones(1, 1, 8, 8))
    with pytest.raises(ValueError, match="another"), refusing_single_values():
        raise ValueError("another")


@pytest.mark.parametrize(("batch", "ends"), [(1, 2), (5, 2), (2, 0)])
def test_training_is_refused_before_it_begins_if_a_batch_is_a_single_image(tiny, tmp_path, capsys, batch, ends):
    """Six images: batches of five leave one over."""
    changes = {"model__arch": "deeplabv3", "model__options": "{}", "model__norm": "batch", "epochs": 1}
    words = tiny("unet", **changes, validate_every=0, batch=batch, name="d", runs=tmp_path, fold=0)
    assert main(["train", *words]) == ends
    assert ("model.norm=batch" in capsys.readouterr().err) is (ends == 2)
    assert (tmp_path / "d" / "fold0" / "config.yaml").exists() is (ends == 0)
