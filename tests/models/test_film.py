"""FiLM against its definition, and in every kind of segmenter."""

import pytest
import torch

from phalanx.config import SegmentModel, validate_as
from phalanx.errors import ConfigError
from phalanx.models.build import build
from phalanx.models.film import ConditionedNetwork, Film

HEAD = {"points": 16, "hidden": 8, "layers": 1, "subdivision_points": 64}
NAMES = ["sex", "age"]
NAN = float("nan")


def film(channels=3):
    torch.manual_seed(0)
    module = Film(names=NAMES, channels=channels, hidden=5).eval()
    torch.nn.init.normal_(module.out.weight)
    torch.nn.init.normal_(module.out.bias)
    return module


def test_values_are_standardised_by_what_is_known():
    module = film()
    module.standardise_by(torch.tensor([[1.0, 20.0], [0.0, NAN], [1.0, 50.0], [NAN, NAN]]))
    torch.testing.assert_close(module.mean, torch.tensor([2 / 3, 35.0]))
    torch.testing.assert_close(module.spread, torch.tensor([(2 / 9) ** 0.5, 15.0]))
    module.standardise_by(torch.tensor([[1.0, 20.0], [1.0, 30.0]]))  # a trait all share
    assert module.spread[0] == 1
    with pytest.raises(ConfigError, match=r"model\.metadata: no training image has a known age"):
        module.standardise_by(torch.tensor([[1.0, NAN], [0.0, NAN]]))


def test_each_channel_is_scaled_and_shifted_by_what_is_known_of_its_patient():
    module, maps = film(), torch.randn(3, 3, 4, 5)
    module.standardise_by(torch.tensor([[1.0, 20.0], [0.0, 40.0]]))
    values = torch.tensor([[1.0, 25.0], [NAN, 25.0], [NAN, NAN]])
    with torch.no_grad():
        found = module(maps, values)
        for image in range(3):
            total = torch.zeros(5)
            for trait in range(2):
                value = float(values[image, trait])
                if value != value:
                    total += module.missing[trait]
                else:
                    standard = (value - float(module.mean[trait])) / float(module.spread[trait])
                    total += standard * module.slope[trait] + module.offset[trait]
            scale, shift = module.out(total.clamp(min=0)).view(2, 3)
            for channel in range(3):
                expected = maps[image, channel] * (1 + scale[channel]) + shift[channel]
                torch.testing.assert_close(found[image, channel], expected)
        torch.testing.assert_close(module(maps, None)[2], found[2])


def test_training_forgets_a_tenth_so_that_missing_is_learned_from_a_full_sheet():
    module = film().train()
    maps, values = torch.ones(4000, 3, 1, 1), torch.zeros(4000, 2)
    module.missing.data.fill_(100.0)
    module.out.weight.data.fill_(1.0)
    forgotten = module(maps, values).flatten(1).amax(1) > 50
    assert abs(float(forgotten.float().mean()) - (1 - 0.9**2)) < 0.03
    module(maps, values).sum().backward()
    assert module.missing.grad.abs().sum() > 0


VIT = {"embed_dim": 32, "num_heads": 2, "decoder_intermediate_channels": [8, 8, 8, 8], "decoder_fusion_channels": 8}


@pytest.mark.parametrize(
    ("arch", "encoder", "more"),
    [
        ("unet", "tu-test_resnet", {}),
        ("fpn", "tu-test_efficientnet", {"pointrend": HEAD}),
        ("segformer", "mit_b0", {}),
        ("lraspp", "tu-test_resnet", {"pointrend": HEAD}),
        ("residual_unet", "resenc", {"options": {"features": 4, "max_features": 16}}),
        ("hrnet_ocr", "tu-hrnet_w18_small", {"options": {"width": 16, "key": 8}}),
        ("dpt", "tu-vit_tiny_patch16_224", {"options": VIT}),
    ],
)
def test_any_segmenter_is_told_at_its_bottleneck(arch, encoder, more):
    torch.manual_seed(0)
    config = validate_as(SegmentModel, {"arch": arch, "encoder": encoder, "weights": "none", "metadata": NAMES, **more})
    network = build(config, classes=3, size=64).eval()
    images = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    old, young = torch.tensor([[1.0, 80.0]] * 2), torch.tensor([[1.0, NAN]] * 2)
    with torch.no_grad():
        plain = network.predict(images)
        assert torch.equal(network.predict(images, old), plain)  # before training nothing is changed
        torch.nn.init.normal_(network.segmenter.film.out.weight)
        told = network.predict(images, old)
        assert not torch.equal(told, network.predict(images, young))
        assert torch.equal(ConditionedNetwork(network, old).predict(images), told)
    output = network.train()(images, old)
    output.logits.sum().backward()
    assert network.segmenter.film.out.weight.grad.abs().sum() > 0


def test_a_trait_twice_or_unknown_is_refused():
    for names in (["sex", "sex"], ["shoe"]):
        with pytest.raises(ConfigError, match=r"^metadata"):
            validate_as(SegmentModel, {"arch": "unet", "encoder": "resnet18", "metadata": names})
