"""Ground truth at points and the sum of terms, computed by hand; when loss stages end."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from phalanx.config import Loss, validate_as
from phalanx.errors import ConfigError
from phalanx.losses.lovasz import lovasz_loss
from phalanx.losses.pixel_region import TermOptions, pixel_region_loss
from phalanx.losses.points import point_loss
from phalanx.losses.stages import StagedLoss
from phalanx.masks.planes import pack
from phalanx.masks.planes_torch import chunks, sample_points, unpack


@pytest.fixture
def truth():
    return torch.from_numpy(np.random.default_rng(0).random((2, 29, 6, 10)) < 0.4)


@pytest.fixture
def planes(truth):
    return torch.from_numpy(np.stack([pack(stack).transpose(2, 0, 1) for stack in truth.numpy()]))


def test_unpacking_on_the_device_gives_the_masks_that_were_packed(truth, planes):
    torch.testing.assert_close(unpack(planes, slice(0, 29)), truth)
    torch.testing.assert_close(unpack(planes, slice(5, 18)), truth[:, 5:18])
    parts = [unpack(planes, part) for part in chunks(29)]
    torch.testing.assert_close(torch.cat(parts, 1), truth)


def test_truth_at_a_point_is_the_pixel_it_falls_in(truth, planes):
    """Corners, borders between pixels and both ends of 0..1 among them."""
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.random(50), [0, 1, 0, 1, 0.1, 0.05, 0.9999999]])
    y = np.concatenate([rng.random(50), [0, 0, 1, 1, 0.5, 0.0833, 0.5]])
    coords = torch.from_numpy(np.stack([[x, y], [y, x]]).transpose(0, 2, 1).astype(np.float32))
    found = sample_points(planes, coords, 29)
    assert found.shape == (2, 29, 57)
    for b in range(2):
        for n, (u, v) in enumerate(coords[b].tolist()):
            column, row = min(int(np.float32(u) * np.float32(10)), 9), min(int(np.float32(v) * np.float32(6)), 5)
            assert found[b, :, n].tolist() == truth[b, :, row, column].tolist()


def test_pixel_centres_give_every_pixel_its_own_truth(truth, planes):
    rows, columns = torch.meshgrid(torch.arange(6), torch.arange(10), indexing="ij")
    coords = torch.stack([(columns + 0.5) / 10, (rows + 0.5) / 6], 2).view(1, 60, 2).expand(2, -1, -1)
    torch.testing.assert_close(sample_points(planes, coords, 29), truth.flatten(2))


def test_point_loss_is_bce_at_the_points(truth, planes):
    coords, logits = torch.rand(2, 20, 2), torch.randn(2, 29, 20, dtype=torch.float32)
    y = sample_points(planes, coords, 29).float()
    p = torch.sigmoid(logits)
    expected = -(y * p.log() + (1 - y) * (1 - p).log()).mean(2)
    value, parts = point_loss(logits, coords, planes)
    torch.testing.assert_close(parts, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(value, expected.mean(), rtol=1e-4, atol=1e-6)


def test_point_loss_mixes_in_dice_over_the_points_of_an_image_and_class(truth, planes):
    coords, logits = torch.rand(2, 20, 2), torch.randn(2, 29, 20)
    y, p = sample_points(planes, coords, 29).float(), torch.sigmoid(logits)
    dice = torch.empty(2, 29)
    for b in range(2):
        for c in range(29):
            intersection = sum(float(p[b, c, n]) for n in range(20) if y[b, c, n])
            dice[b, c] = 1 - (2 * intersection + 1) / (float(p[b, c].sum() + y[b, c].sum()) + 1)
    bce = point_loss(logits, coords, planes)[1]
    torch.testing.assert_close(point_loss(logits, coords, planes, dice_weight=1.0)[1], dice)
    torch.testing.assert_close(point_loss(logits, coords, planes, dice_weight=0.3)[1], 0.7 * bce + 0.3 * dice)


CLASSES = [f"c{i}" for i in range(29)]
THREE = {
    "stages": [
        {"weights": {"bce": 1.0}, "until": {"epochs": 3}},
        {"weights": {"bce": 0.5, "dice": 0.25, "point": 2.0}, "until": {"dice": 0.9}},
        {"weights": {"lovasz": 0.75, "dice": 0.5}},
    ]
}


def test_each_stage_is_the_weighted_sum_of_its_terms_and_reports_them(truth, planes):
    loss = StagedLoss(validate_as(Loss, THREE), CLASSES)
    logits = torch.randn(truth.shape, dtype=torch.float64, requires_grad=True)
    coords, at = torch.rand(2, 20, 2), torch.randn(2, 29, 20)
    y = truth.double()
    p = torch.sigmoid(logits)
    bce = F.binary_cross_entropy(p, y)
    dice = (1 - (2 * (p * y).sum((2, 3)) + 1) / (p.sum((2, 3)) + y.sum((2, 3)) + 1)).mean()
    lovasz, point = lovasz_loss(logits, planes)[0], point_loss(at, coords, planes, dice_weight=0.5)[0]
    expected = [bce, 0.5 * bce + 0.25 * dice + 2 * point, 0.75 * lovasz + 0.5 * dice]
    names = [{"bce"}, {"bce", "dice", "point"}, {"lovasz", "dice"}]
    for stage in range(3):
        result = loss(stage, logits, (coords, at), planes)
        torch.testing.assert_close(result.total, expected[stage], check_dtype=False)
        assert set(result.terms) == names[stage]
        gradients = [torch.autograd.grad(v, logits, retain_graph=True)[0] for v in (result.total, expected[stage])]
        torch.testing.assert_close(*gradients)
        torch.testing.assert_close(result.dice, pixel_region_loss(logits, planes, {}).dice_hard)


def test_without_point_predictions_there_is_no_point_term(truth, planes):
    """Validation predicts no points."""
    result = StagedLoss(validate_as(Loss, THREE), CLASSES)(1, torch.randn(truth.shape), None, planes)
    assert set(result.terms) == {"bce", "dice"}


def test_stages_end_after_epochs_at_a_dice_or_never():
    loss = StagedLoss(validate_as(Loss, THREE), CLASSES)
    assert [loss.advance(0, epochs, 1.0) for epochs in (1, 2, 3, 4)] == [False, False, True, True]
    assert [loss.advance(1, 99, dice) for dice in (0.0, 0.899, 0.9, 0.95)] == [False, False, True, True]
    assert not loss.advance(2, 999, 1.0)


def test_options_reach_the_terms_they_name(truth, planes):
    """Each number of the configuration, against the term called with it."""
    options = {
        "bce": {"smoothing": 0.1, "pos_weight": {"c2": 3.0}},
        "focal": {"gamma": 1.0, "alpha": 0.25},
        "tversky": {"alpha": 0.4, "beta": {"c1": 2.0}, "gamma": 1.5},
    }
    values = {"stages": [{"weights": dict.fromkeys(options, 1.0)}], "options": options, "class_weights": {"c0": 4.0}}
    logits = torch.randn(truth.shape, dtype=torch.float64)
    found = StagedLoss(validate_as(Loss, values), CLASSES)(0, logits, None, planes)
    pos, beta = [1.0] * 29, [0.7] * 29
    pos[2], beta[1] = 3.0, 2.0
    direct = TermOptions(
        smoothing=0.1,
        pos_weight=pos,
        focal_gamma=1.0,
        focal_alpha=0.25,
        tversky_alpha=0.4,
        tversky_beta=beta,
        tversky_gamma=1.5,
    )
    class_weights = torch.tensor([4.0] + [1.0] * 28) * 29 / 32
    expected = pixel_region_loss(logits, planes, dict.fromkeys(options, 1.0), direct, class_weights)
    torch.testing.assert_close(found.total, expected.loss)
    for name in options:
        torch.testing.assert_close(found.terms[name], expected.terms[name])


def test_class_weights_reach_the_point_term(truth, planes):
    coords, at = torch.rand(2, 20, 2), torch.randn(2, 29, 20)
    values = {"stages": [{"weights": {"point": 1.0}}], "class_weights": {"c0": 4.0}}
    found = StagedLoss(validate_as(Loss, values), CLASSES)(0, torch.randn(truth.shape), (coords, at), planes)
    parts = point_loss(at, coords, planes, dice_weight=0.5)[1]
    torch.testing.assert_close(found.total, (parts[:, 0].sum() * 4 + parts[:, 1:].sum()) / (2 * 32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"focal": {"gamma": 1}}, "options.focal: no stage has the term 'focal', so it would not be used"),
        ({"bce": {"smoothing": 1}}, "options.bce.smoothing=1: input should be less than 1"),
        ({"bce": {"smoothin": 0.1}}, "options.bce.smoothin: no such option; did you mean smoothing"),
        ({"bce": {"pos_weight": {"c0": 0}}}, "options.bce.pos_weight.c0=0: input should be greater than 0"),
        ({"bce": {"pos_weight": -2}}, "options.bce.pos_weight.others=-2: input should be greater than 0"),
        ({"bce": {"pos_weight": "high"}}, "options.bce.pos_weight='high': input should be a valid dict"),
        ({"dice": {}}, "options.dice: no such option"),
    ],
)
def test_options_that_cannot_work_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        validate_as(Loss, {"stages": [{"weights": {"bce": 1.0}}], "options": options})


@pytest.mark.parametrize(("term", "nearest"), [("lovas", "lovasz"), ("bec", "bce"), ("points", "point")])
def test_an_unknown_term_is_refused_naming_the_nearest(term, nearest):
    config = validate_as(Loss, {"stages": [THREE["stages"][0], {"weights": {"bce": 1.0, term: 1.0}}]})
    with pytest.raises(ConfigError, match=rf"^loss\.stages\[1\]\.weights\.{term}: no such.*mean {nearest}"):
        StagedLoss(config, CLASSES)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], "stages"),
        ([{"weights": {"bce": 1}}, {"weights": {"dice": 1}}], "every stage but the last needs 'until'"),
        ([{"weights": {"bce": 1}, "until": {"epochs": 3}}], "the last stage runs to the end"),
        ([{"weights": {"bce": 1}, "until": {}}, {"weights": {"bce": 1}}], "epochs: give either epochs or dice"),
        ([{"weights": {"bce": 1}, "until": {"epochs": 1, "dice": 0.5}}, {"weights": {"bce": 1}}], "either epochs or"),
        ([{"weights": {"bce": 0}}], "greater than 0"),
        ([{"weights": {}}], "at least 1"),
    ],
)
def test_stages_that_cannot_work_are_refused(stages, message):
    with pytest.raises(ConfigError, match=message):
        validate_as(Loss, {"stages": stages})
