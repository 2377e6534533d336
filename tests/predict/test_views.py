"""Test-time augmentation is turned back before averaging, classes and all."""

import numpy as np
import pytest
import torch
from torch import nn

from phalanx.errors import DataError
from phalanx.predict.maps import FLOOR
from phalanx.predict.views import _boxes, _boxes_at_once, crop, views_of
from phalanx.predict.views import probabilities as cropped

HFLIP = ["hflip"]


def probabilities(network, images, tta=(), pairs=()):
    """float32[B, C, S, S], nothing cropped."""
    return torch.from_numpy(
        np.stack([m.dense() for m in cropped(network.predict, images, views_of(tta), pairs, floor=0)])
    )


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


EVERY = [[], ["hflip"], ["vflip"], ["rotate"], ["hflip", "vflip"], ["vflip", "rotate"], ["hflip", "vflip", "rotate"]]


@pytest.mark.parametrize("tta", EVERY)
def test_every_view_is_another_one_and_is_turned_back(tta):
    seen = images(1, batch=1)
    views = views_of(tta)
    turned = [view.apply(seen) for view in views]
    assert len(views) == {0: 1, 1: 4 if "rotate" in tta else 2, 2: 8 if "rotate" in tta else 4, 3: 8}[len(tta)]
    assert len({one.numpy().tobytes() for one in turned}) == len(views)
    assert torch.equal(turned[0], seen)
    for view, one in zip(views, turned, strict=True):
        assert torch.equal(view.invert(one), seen)
        array = view.apply(seen.numpy())
        np.testing.assert_array_equal(array, one.numpy())
        np.testing.assert_array_equal(view.invert(array), seen.numpy())


@pytest.mark.parametrize("tta", EVERY)
def test_a_network_that_commutes_with_all_views_gives_the_same_with_and_without(tta):
    torch.testing.assert_close(probabilities(Fake(blurred), images(), tta), probabilities(Fake(blurred), images()))


@pytest.mark.parametrize("tta", EVERY)
def test_views_of_a_network_that_sees_places_are_averaged_as_worked_out_by_hand(tta):
    """Each view by numpy: the square turned and mirrored, seen, mirrored and turned back, classes exchanged."""

    def by_place(x):
        down, right = torch.linspace(-1, 1, x.shape[-2])[:, None], torch.linspace(0, 2, x.shape[-1])
        return torch.cat([x * right, x * down, x * right * down], 1) * 4 - 1

    turns = range(4) if "rotate" in tta else [0]
    mirrors = [(h, v) for h in ([0, 1] if "hflip" in tta else [0]) for v in ([0, 1] if "vflip" in tta else [0])]
    views = {}
    for k in turns:
        for h, v in mirrors:
            key = np.rot90(np.arange(9).reshape(3, 3)[:: 1 - 2 * v, :: 1 - 2 * h], k).tobytes()
            views[key] = (k, h, v)
    x, slow = images(4, side=12), 0
    for k, h, v in views.values():
        turned = np.rot90(x.numpy()[..., :: 1 - 2 * v, :: 1 - 2 * h], k, (2, 3)).copy()
        found = torch.sigmoid(by_place(torch.from_numpy(turned) / 255)).numpy()
        back = np.rot90(found, -k, (2, 3))[..., :: 1 - 2 * v, :: 1 - 2 * h]
        slow = slow + (back[:, [1, 0, 2]] if (h + v) % 2 else back)
    np.testing.assert_allclose(probabilities(Fake(by_place), x, tta, [(0, 1)]), slow / len(views), atol=1e-6)


def test_a_crop_holds_all_that_reaches_the_floor():
    logits = torch.randn(4, 20, 20, generator=torch.Generator().manual_seed(0)) - 6
    logits[3] = -20
    dense, maps = torch.sigmoid(logits).numpy(), crop(logits)
    assert [box.shape == (0, 0) for box in maps.boxes] == [False, False, False, True]
    assert (dense - maps.dense()).max() < FLOOR
    for value, box, plane in zip(maps.values, maps.boxes, dense, strict=True):
        np.testing.assert_allclose(value, plane[box.slices], atol=1e-6)
    assert crop(logits, floor=0.9).boxes == [(0, 0, 0, 0)] * 4


def test_a_network_that_outputs_nan_is_reported():
    logits = torch.zeros(2, 8, 8)
    logits[1, 3, 3] = torch.nan
    with pytest.raises(DataError, match="the network outputs NaN; predict with precision=32"):
        crop(logits)
    with pytest.raises(DataError, match="the network outputs NaN"):
        crop(logits.numpy())


def test_the_eight_views_are_ttachs():
    """As a set: ttach's composition mirrors, then turns, in an order of its own."""
    import ttach

    seen = images(2, batch=2)
    ours = {view.apply(seen).numpy().tobytes() for view in views_of(["hflip", "vflip", "rotate"])}
    assert ours == {view.augment_image(seen).numpy().tobytes() for view in ttach.aliases.d4_transform()}
    assert len(ours) == 8


@pytest.mark.parametrize("limit", [-3.0, 0.0, 2.5, 9.0])
def test_boxes_are_the_same_by_one_transfer_from_the_device(limit):
    torch.manual_seed(1)
    logits = torch.randn(5, 40, 40)
    logits[0], logits[1, 7:9, 30:] = -20.0, 8.0
    found = _boxes_at_once(logits, limit)
    assert found == _boxes(logits, limit) == _boxes(logits.numpy(), limit)
    assert (found[0] == (0, 0, 0, 0)) == (limit > -20)
    logits[2, 3, 4] = float("nan")
    with pytest.raises(DataError, match="outputs NaN"):
        _boxes_at_once(logits, limit)
