"""Stages of an encoder's weights, against what its feature maps say when a weight is changed."""

import pytest
import torch

from phalanx.config import SegmentModel, validate_as
from phalanx.models.build import build
from phalanx.models.encoder_stages import encoder_stages


def network(encoder, arch="unet", **options):
    torch.manual_seed(0)
    config = validate_as(
        SegmentModel, {"arch": arch, "encoder": encoder, "weights": "none", "pointrend": None, "options": options}
    )
    return build(config, classes=2, size=64).eval()


@pytest.mark.parametrize(
    ("arch", "encoder", "options"),
    [
        ("unet", "resnet18", {}),
        ("fpn", "tu-test_efficientnet", {}),
        ("segformer", "mit_b0", {}),
        ("unet", "tu-test_convnext", {}),
        ("dpt", "tu-test_vit", {"dynamic_img_size": True}),
    ],
)
def test_a_stage_is_the_first_feature_map_that_a_weight_changes(arch, encoder, options):
    net = network(encoder, arch, **options)
    stages = encoder_stages(net, 64)
    parameters = dict(net.named_parameters())
    assert stages.keys() == {name for name in parameters if name.startswith("core.encoder.")}
    x = torch.randn(1, 1, 64, 64)

    def maps():
        with torch.no_grad():
            found = net.core.encoder(x)
        flat = found[0] if isinstance(found, tuple) else found
        return [part for part in flat if part.shape[1] > 1]

    before, deepest = maps(), max(stages.values())
    assert len(before) == deepest >= 4
    seen = set()
    for name in list(stages)[:: max(1, len(stages) // 25)]:  # every weight takes long
        kept = parameters[name].detach().clone()
        with torch.no_grad():
            parameters[name].add_(torch.randn_like(kept))
        changed = [i for i, (a, b) in enumerate(zip(before, maps(), strict=True), 1) if not torch.equal(a, b)]
        with torch.no_grad():
            parameters[name].copy_(kept)
        if changed:  # a bias before a norm changes nothing
            assert stages[name] == changed[0], name
            seen.add(changed[0])
    assert len(seen) > 2


def test_the_network_is_left_as_it_was():
    net = network("tu-test_resnet").train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    encoder_stages(net, 64)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(module.training for module in net.modules())
    assert all(parameter.grad is None for parameter in net.parameters())
