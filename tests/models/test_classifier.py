"""Classifiers of timm: any encoder, grey or colour, any size; and what cannot be built is one line."""

import pytest
import torch
from safetensors.torch import save_file

from phalanx.config import ClassifyModel, validate_as
from phalanx.errors import ConfigError
from phalanx.models.classifier import build_classifier
from phalanx.models.encoder_stages import encoder_stages


def built(encoder: str, size: int = 64, channels: int = 1, classes: int = 3, **options):
    model = validate_as(ClassifyModel, {"encoder": encoder, "weights": "none", "head": "softmax", **options})
    torch.manual_seed(0)
    return build_classifier(model, classes=classes, size=size, channels=channels)


@pytest.mark.parametrize(
    ("encoder", "size", "channels"),
    [
        ("test_resnet", 64, 1), ("test_resnet", 96, 3), ("test_efficientnet", 64, 1), ("test_vit", 96, 1),
        ("test_vit", 160, 3), ("test_convnext", 64, 3), ("densenet121", 64, 1),
    ],
)  # fmt: skip
def test_networks_give_a_logit_per_class(encoder, size, channels):
    network = built(encoder, size, channels).eval()
    images = torch.randint(0, 256, (2, channels, size, size), dtype=torch.uint8)
    logits = network(images)
    assert logits.shape == (2, 3)
    assert torch.equal(logits, network(network.standardised(images)))
    assert {key.split(".")[0] for key in network.state_dict()} == {"encoder", "head"}


def test_the_four_published_networks_are_named_in_configs():
    from phalanx.config.compose import compose

    for name, encoder in [
        ("resnet18", "resnet18"), ("densenet121", "densenet121"), ("efficientnet_b0", "efficientnet_b0"),
        ("vit_small", "vit_small_patch16_224"),
    ]:  # fmt: skip
        assert compose({"experiment": "brain", "model": name, "data.root": "/d"}).model.encoder == encoder


def test_norms_and_drop_path_are_those_of_the_recipe():
    group = built("test_resnet", norm="group")
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in group.modules())
    assert any(isinstance(m, torch.nn.GroupNorm) for m in group.modules())
    rates = [float(m.drop_prob) for m in built("test_vit", drop_path=0.2).modules() if type(m).__name__ == "DropPath"]
    assert max(rates) == pytest.approx(0.2)


def test_dropout_acts_in_training_alone():
    network, images = built("test_resnet", dropout=0.5), torch.randint(0, 256, (4, 1, 64, 64), dtype=torch.uint8)
    network.encoder.eval()
    assert not torch.equal(network(images), network(images))
    network.eval()
    assert torch.equal(network(images), network(images))


@pytest.mark.parametrize("encoder", ["test_resnet", "test_vit"])
def test_the_encoder_is_one_stage(encoder):
    network = built(encoder, 96)
    stages = encoder_stages(network, 96)
    assert set(stages.values()) == {1}
    assert stages.keys() == {name for name, _ in network.named_parameters() if name.startswith("encoder.")}


def test_weights_of_a_file_are_loaded(tmp_path):
    source = built("test_resnet")
    save_file(source.encoder.state_dict(), tmp_path / "weights.safetensors")
    torch.manual_seed(1)
    other = built("test_resnet", weights=str(tmp_path / "weights.safetensors"))
    assert all(torch.equal(a, b) for a, b in zip(source.encoder.parameters(), other.encoder.parameters(), strict=True))
    with pytest.raises(ConfigError, match="is of another encoder"):
        built("test_efficientnet", weights=str(tmp_path / "weights.safetensors"))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"encoder": "resnet19"}, "no such network of timm; did you mean"),
        ({"encoder": "test_resnet", "weights": "noisy_student"}, "timm's weights are named after the encoder"),
        ({"encoder": "test_resnet", "weights": "missing.safetensors"}, "no such file"),
        ({"encoder": "test_resnet", "options": {"nonsense": 1}}, "nonsense"),
        ({"encoder": "densenet121", "drop_path": 0.1}, "drop"),
    ],
)
def test_what_cannot_be_built_is_refused_in_a_line(changes, fault):
    with pytest.raises(ConfigError) as caught:
        built(changes.pop("encoder"), **changes)
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)
