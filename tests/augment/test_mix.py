"""Mixup and CutMix: labels are mixed as their images are, missing ones stay missing, and draws have an address."""

import numpy as np
import pytest
import torch

from phalanx.augment.mix import Mixer
from phalanx.config.base import validate_as
from phalanx.config.classify_loss import Mix

NAN = float("nan")


def mixer(**values):
    return Mixer(validate_as(Mix, values))


def constants(batch, size=40):
    """Image i is i everywhere, so that its mixture shows how much of which it has."""
    return torch.arange(float(batch))[:, None, None, None].expand(batch, 1, size, size)


@pytest.mark.parametrize(
    "options", [{"mixup_alpha": 1.0}, {"cutmix_alpha": 1.0}, {"mixup_alpha": 1, "cutmix_alpha": 1}]
)
def test_labels_are_mixed_as_the_images_are(options):
    images, labels = constants(6), torch.eye(6)
    mix, fractions = mixer(**options), set()
    for seed in range(20):
        mixed, soft = mix(images, labels, seed)
        # image i has the fraction f of itself and the rest of image 5 - i: its mean is f i + (1 - f)(5 - i)
        shown = mixed.mean(dim=(1, 2, 3))
        wanted = (soft * torch.arange(6.0)).sum(dim=1)
        torch.testing.assert_close(shown, wanted, rtol=0, atol=1e-4)
        torch.testing.assert_close(soft.sum(dim=1), torch.ones(6))
        fractions.add(round(float(soft[0, 0]), 4))
    assert len(fractions) > 10


def test_the_given_batch_and_numpys_generator_stay_as_they_were():
    images, labels = constants(4).clone(), torch.eye(4)
    np.random.seed(7)  # noqa: NPY002
    wanted = np.random.rand(3)  # noqa: NPY002
    np.random.seed(7)  # noqa: NPY002
    mixer(cutmix_alpha=1.0)(images, labels, 3)
    np.testing.assert_array_equal(np.random.rand(3), wanted)  # noqa: NPY002
    assert torch.equal(images, constants(4))
    assert torch.equal(labels, torch.eye(4))


def test_a_draw_depends_on_its_seed_alone_by_default_that_of_torch():
    images, labels, mix = constants(4), torch.eye(4), mixer(mixup_alpha=1.0)
    first = mix(images, labels, 11)
    mix(images, labels, 12)
    assert all(map(torch.equal, mix(images, labels, 11), first))
    torch.manual_seed(11)
    torch.rand(5)  # what was drawn since does not matter
    assert all(map(torch.equal, mix(images, labels), first))
    assert not torch.equal(mix(images, labels, 12)[1], first[1])


def test_multi_labels_are_mixed_and_missing_ones_stay_missing():
    labels = torch.tensor([[1.0, 1, NAN, 0], [0, NAN, 1, 0], [1, 1, 1, NAN], [1, 0, 0, 0]])
    mixed, soft = mixer(mixup_alpha=1.0)(constants(4), labels, 2)
    part = float((mixed[0, 0, 0, 0] - 3) / -3)  # image 0 is 0, its partner 3
    wanted = torch.tensor([
        [1.0, part, NAN, 0],
        [1 - part, NAN, 1, NAN],
        [part, NAN, 1, NAN],
        [1, 1 - part, NAN, 0],
    ])  # fmt: skip
    torch.testing.assert_close(soft, wanted, equal_nan=True, rtol=0, atol=1e-5)
    assert 0 < part < 1


def test_a_batch_that_is_not_mixed_keeps_its_labels_and_the_fraction_of_them_is_prob():
    labels = torch.tensor([[1.0, NAN], [0, 1.0]])
    mix, same = mixer(mixup_alpha=1.0, prob=0.3), 0
    for seed in range(300):
        mixed, soft = mix(constants(2, 2), labels, seed)
        if torch.equal(mixed, constants(2, 2)):
            torch.testing.assert_close(soft, labels, equal_nan=True, rtol=0, atol=0)
            same += 1
    assert 180 < same < 240  # 210 expected, standard deviation 8


def test_an_odd_batch_leaves_its_last_image():
    labels = torch.eye(5)
    mixed, soft = mixer(mixup_alpha=1.0)(constants(5), labels, 2)
    assert torch.equal(mixed[4], constants(5)[4])
    assert torch.equal(soft[4], labels[4])
    assert 0 < float(soft[0, 0]) < 1
    assert soft[0, 3] == 1 - soft[0, 0]
    alone = mixer(mixup_alpha=1.0)(constants(1), torch.ones(1, 2), 2)
    assert torch.equal(alone[0], constants(1))


def test_switch_prob_chooses_cutmix():
    for switch, cut in ((1.0, True), (0.0, False)):
        mixed, _ = mixer(mixup_alpha=1.0, cutmix_alpha=1.0, switch_prob=switch)(constants(4), torch.eye(4), 5)
        assert bool(((mixed[0] == 0) | (mixed[0] == 3)).all()) is cut
