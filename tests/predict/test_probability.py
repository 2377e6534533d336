"""Test-time augmentation is turned back before averaging, classes and all."""

import torch
from torch import nn

from phalanx.predict.probability import probabilities

HFLIP = ["hflip"]


class Fake(nn.Module):
    """A network whose logits are a plain function of the image in 0..1."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def predict(self, images):
        return self.logits(images.float() / 255)


def images(seed=0, batch=2, side=16):
    return torch.from_numpy(
        __import__("numpy").random.default_rng(seed).integers(0, 256, (batch, 1, side, side), "uint8")
    )


def blurred(x):
    """Commutes with a mirror: what is seen does not depend on the side."""
    soft = nn.functional.avg_pool2d(x, 3, 1, 1)
    return torch.cat([soft, 1 - soft, x * soft], 1) * 8 - 4


def by_side(x):
    """Class 0 is brightness in the left half, class 1 in the right, class 2 anywhere."""
    ramp = torch.linspace(1, -1, x.shape[-1])
    return torch.cat([x * ramp, x * -ramp, x], 1) * 8 - 2


def test_a_network_that_commutes_with_a_mirror_gives_the_same_with_and_without():
    plain, both = (probabilities(Fake(blurred), images(), tta) for tta in ([], HFLIP))
    torch.testing.assert_close(both, plain)
    assert plain.shape == (2, 3, 16, 16)


def test_left_and_right_classes_change_places_with_the_mirror():
    network = Fake(by_side)
    plain = probabilities(network, images())
    torch.testing.assert_close(probabilities(network, images(), HFLIP, [(0, 1)]), plain)
    wrong = probabilities(network, images(), HFLIP)  # without pairs left and right are mixed
    assert (wrong - plain).abs()[:, :2].max() > 0.3
    torch.testing.assert_close(wrong[:, 2], plain[:, 2])


def test_a_bright_spot_on_the_left_stays_the_left_class():
    spot = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    spot[..., 3, 1] = 255
    found = probabilities(Fake(by_side), spot, HFLIP, [(0, 1)])[0, :, 3, 1]
    assert found[0] > 0.9 > 0.1 > found[1]


def test_views_are_averaged_as_probabilities_in_the_image_s_own_place():
    def lopsided(x):
        return torch.cat([x[..., :1].expand_as(x), x], 1) * 6 - 3  # looks at the first column only

    x = images(3)
    seen, mirrored = torch.sigmoid(lopsided(x / 255)), torch.sigmoid(lopsided(x.flip(-1) / 255)).flip(-1)
    torch.testing.assert_close(probabilities(Fake(lopsided), x, HFLIP), (seen + mirrored) / 2)
