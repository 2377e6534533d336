"""Drop path: which encoders obey, at what rates, and which would have passed it over."""

import pytest
import timm
import torch

from phalanx.config import SegmentModel, validate_as
from phalanx.errors import ConfigError
from phalanx.models.build import build
from phalanx.models.drop_path import set_drop_path


def network(encoder, rate):
    torch.manual_seed(0)
    values = {"arch": "unet", "encoder": encoder, "weights": "none", "drop_path": rate}
    return build(validate_as(SegmentModel, values), classes=2, size=64)


@pytest.mark.parametrize("encoder", ["efficientnet-b0", "tu-test_convnext"])
def test_a_rate_draws_in_training_alone_and_zero_turns_off_what_was_published(encoder):
    images = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)

    def outputs(rate, training):
        net = network(encoder, rate).train(training)
        for module in net.modules():
            if isinstance(module, torch.nn.Dropout):
                module.eval()
        found = []
        for seed in range(3):
            torch.manual_seed(seed)
            with torch.no_grad():
                found.append(net(images)[0])
        return len({value.numpy().tobytes() for value in found})

    assert outputs(0.5, training=True) > 1
    assert outputs(0.5, training=False) == 1
    assert outputs(0.0, training=True) == 1


def test_rates_rise_to_the_one_given_as_timm_would_have_set_them():
    ours = timm.create_model("convnext_atto", drop_path_rate=0.1)
    assert set_drop_path(ours, 0.4, 64)
    theirs = timm.create_model("convnext_atto", drop_path_rate=0.4)
    rates = [[m.drop_prob for m in net.modules() if type(m).__name__ == "DropPath"] for net in (ours, theirs)]
    assert len(rates[0]) > 5
    assert rates[0] == pytest.approx(rates[1])
    assert max(rates[0]) == pytest.approx(0.4)


@pytest.mark.parametrize("encoder", ["resnet18", "mobilenet_v2", "tu-vgg11", "tu-test_efficientnet"])
def test_an_encoder_that_would_pass_it_over_is_refused(encoder):
    """The last has layers for it, in blocks without a shortcut that never call them."""
    with pytest.raises(ConfigError, match=rf"^model\.drop_path=0\.5: {encoder} has no drop path") as found:
        network(encoder, 0.5)
    assert "\n" not in str(found.value)
