"""Masks of a softmax: the likeliest of background and the classes, from maps that lack background."""

import numpy as np
import pytest
import torch

from phalanx.models.build import log_odds
from phalanx.predict.exclusive import SOFTMAX_FLOOR, exclusive_stack, masks_of
from phalanx.predict.maps import MapsMean, ProbabilityMaps
from phalanx.predict.views import probabilities, views_of


def softmax_maps(seed, classes=3, side=24, sharp=6.0):
    """Probabilities float64[1 + C, S, S] of smooth random logits, and the maps of the classes."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.normal(0, sharp, (1, 1 + classes, 5, 5)))
    logits = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")[0]
    whole = torch.softmax(logits, 0)
    return logits, whole.numpy(), ProbabilityMaps.of(whole[1:].float().numpy(), SOFTMAX_FLOOR)


def drawn(stack, size):
    """Class numbers of a stack's masks, 0 for none; no pixel has two."""
    masks = stack.masks(size)
    assert masks.sum(0).max() <= 1
    return (masks * np.arange(1, len(masks) + 1)[:, None, None]).sum(0)


def test_the_likeliest_channel_of_each_pixel_wins():
    for seed in range(5):
        _, whole, maps = softmax_maps(seed)
        assert np.array_equal(drawn(exclusive_stack([(maps, 1.0)], (24, 24)), (24, 24)), whole.argmax(0))
        assert (
            masks_of([(maps, 1.0)], (24, 24), 0.5, "softmax").texts()
            == exclusive_stack([(maps, 1.0)], (24, 24)).texts()
        )


def test_a_vote_is_the_likeliest_of_the_mean_of_the_probabilities():
    mean, total = MapsMean((24, 24)), np.zeros((4, 24, 24))
    for seed, weight in ((0, 2.0), (1, 1.0), (2, 1.0)):
        _, whole, maps = softmax_maps(seed)
        mean.add(maps, weight)
        total += weight * whole
    assert np.array_equal(drawn(exclusive_stack(mean.parts(), (24, 24)), (24, 24)), total.argmax(0))


def test_maps_are_enlarged_before_the_likeliest_is_taken():
    _, whole, maps = softmax_maps(3)
    big = torch.nn.functional.interpolate(torch.from_numpy(whole)[None], (60, 60), mode="bilinear")[0].numpy()
    found = drawn(exclusive_stack([(maps, 1.0)], (60, 60)), (60, 60))
    clear = np.sort(big, 0)[-1] - np.sort(big, 0)[-2] > 1e-5
    assert np.array_equal(found[clear], big.argmax(0)[clear])
    assert clear.mean() > 0.99


def test_of_equals_background_wins_and_then_the_first_class():
    half = np.zeros((2, 2, 2), np.float32)
    half[0] = 0.5
    assert drawn(exclusive_stack([(ProbabilityMaps.of(half), 1.0)], (2, 2)), (2, 2)).tolist() == [[0, 0], [0, 0]]
    half[:] = 0.5
    assert drawn(exclusive_stack([(ProbabilityMaps.of(half), 1.0)], (2, 2)), (2, 2)).tolist() == [[1, 1], [1, 1]]
    none = ProbabilityMaps.of(np.zeros((2, 2, 2), np.float32))
    assert exclusive_stack([(none, 1.0)], (2, 2)).areas.tolist() == [0, 0]


def test_sigmoids_of_log_odds_are_the_softmax():
    for scale in (1.0, 30.0, 300.0):
        logits = torch.randn(2, 5, 8, 8, generator=torch.Generator().manual_seed(0)) * scale
        odds = log_odds(logits)
        assert odds.shape == (2, 4, 8, 8)
        assert not odds.isnan().any()
        torch.testing.assert_close(odds.sigmoid(), logits.softmax(1)[:, 1:], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("tta", [[], ["hflip"], ["hflip", "rotate"]])
def test_views_average_probabilities_and_swap_sides(tta):
    logits, _, _ = softmax_maps(4, classes=2)
    images = torch.arange(24 * 24, dtype=torch.uint8).view(1, 1, 24, 24)

    def predict(shown):
        return log_odds(logits[None].float() + shown.float() / 50)

    maps = probabilities(predict, images, views_of(tta), [(0, 1)], SOFTMAX_FLOOR)[0]
    expected = np.zeros((2, 24, 24))
    for view in views_of(tta):
        p = view.invert((logits[None].float() + view.apply(images).float() / 50).softmax(1))[0].numpy()
        expected += p[[2, 1]] if view.mirrored else p[[1, 2]]
    np.testing.assert_allclose(maps.dense(), expected / len(views_of(tta)), atol=2e-6)
